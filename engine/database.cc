#include "engine/database.h"

#include "base/logging.h"
#include "base/status.h"
#include "engine/core.h"
#include "engine/limits.h"
#include "engine/query/matches.h"
#include "engine/query/read.h"
#include "engine/query/search.h"
#include "engine/recover.h"
#include "engine/segment/build_job.h"
#include "engine/write/ddl_commit.h"
#include "engine/write/record_commit.h"
#include "engine/write/validate.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr std::chrono::milliseconds kTickInterval{100};

std::vector<std::shared_ptr<Collection>> AllCollections(const Core& core) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  std::vector<std::shared_ptr<Collection>> all;
  for (const auto& entry : core.collections()) all.push_back(entry.second);
  return all;
}

// Closes growing segments that have been idle, and sees to builds that wait for a retry.
void Tick(Core& core) {
  core.views.Collect();  // What the last commit left, if a reader was in the way.
  const int64_t now_ms = SteadyMillis();
  for (const auto& collection : AllCollections(core)) {
    bool close = false;
    {
      const ViewRegistry::Pin pin = core.views.PinNow();
      for (const auto& segment : collection->segments().segments) {
        close = segment->state() == SegmentState::kGrowing &&
                segment->size() >= core.options.graph_rows_min;
      }
    }
    if (close && now_ms - collection->last_append_ms.load() >= core.options.growing_idle_ms) {
      CloseGrowingCommit commit(core, collection);
      static_cast<void>(core.queue.Run(commit, CancelToken()));
    } else if (HasWork(core, *collection)) {
      ScheduleBuild(core, collection);
    }
  }
}

// Reads every segment file of a start once, in the background.
void ScheduleVerification(Core& core) {
  for (const auto& collection : AllCollections(core)) {
    std::vector<std::shared_ptr<Segment>> segments;
    {
      const ViewRegistry::Pin pin = core.views.PinNow();
      segments = collection->segments().segments;
    }
    for (const auto& segment : segments) {
      if (segment->state() != SegmentState::kSealed) continue;
      core.pool->Submit([&core, collection, segment] {
        if (!core.closing.load()) VerifyOrRepair(core, collection, segment);
      });
    }
  }
}

}  // namespace

struct Database::Rep {
  std::unique_ptr<Core> core;
  std::unique_ptr<Ticker> ticker;

  void Stop() {
    core->closing.store(true);
    ticker.reset();
    core->pool->Stop();
  }
};

Database::Database(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}

Database::~Database() {
  if (rep_->ticker != nullptr) rep_->Stop();
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const DatabaseOptions& options) {
  if (options.growing_rows_max < 1 || options.graph_rows_min < 1) {
    return absl::InvalidArgumentError("growing_rows_max and graph_rows_min must be at least 1");
  }
  auto rep = std::make_unique<Rep>();
  AZ_ASSIGN_OR_RETURN(rep->core, Recover(options));
  Core& core = *rep->core;
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  core.pool =
      std::make_unique<WorkerPool>(options.build_threads > 0 ? options.build_threads : cores);
  ScheduleVerification(core);
  rep->ticker = std::make_unique<Ticker>(kTickInterval, [&core] { Tick(core); });
  return std::unique_ptr<Database>(new Database(std::move(rep)));
}

absl::StatusOr<CreateResult> Database::CreateCollection(std::string_view name, const Schema& schema,
                                                        bool if_not_exists,
                                                        const CancelToken& cancel) {
  if (absl::Status status = CheckCollectionName(name); !status.ok()) {
    return AtPlace("collection", status);
  }
  AZ_RETURN_IF_ERROR(ValidateSchema(schema));
  Schema numbered = schema;
  NumberFields(numbered);
  CreateCommit commit(*rep_->core, std::string(name), std::move(numbered), if_not_exists);
  AZ_ASSIGN_OR_RETURN(const Seq seq, rep_->core->queue.Run(commit, cancel));
  return CreateResult{commit.id(), commit.created(), seq};
}

absl::StatusOr<DropResult> Database::DropCollection(std::string_view name, bool if_exists,
                                                    const CancelToken& cancel) {
  if (absl::Status status = CheckCollectionName(name); !status.ok()) {
    return AtPlace("collection", status);
  }
  DropCommit commit(*rep_->core, std::string(name), if_exists);
  AZ_ASSIGN_OR_RETURN(const Seq seq, rep_->core->queue.Run(commit, cancel));
  return DropResult{commit.dropped(), seq};
}

absl::StatusOr<CollectionInfo> Database::DescribeCollection(std::string_view name) const {
  AZ_ASSIGN_OR_RETURN(const auto collection, rep_->core->FindCollection(name));
  return CollectionInfo{collection->id, collection->name, collection->schema,
                        collection->created_unix_us};
}

std::vector<CollectionSummary> Database::ListCollections() const {
  std::vector<CollectionSummary> summaries;
  for (const auto& collection : AllCollections(*rep_->core)) {
    summaries.push_back({collection->id, collection->name, collection->live_rows.load()});
  }
  std::sort(summaries.begin(), summaries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return summaries;
}

absl::StatusOr<CollectionStats> Database::GetStats(std::string_view name) const {
  Core& core = *rep_->core;
  const ViewRegistry::Pin pin = core.views.PinNow();
  AZ_ASSIGN_OR_RETURN(Collection * collection, core.FindPinned(name, pin));
  CollectionStats stats;
  stats.as_of = pin.seq();
  AZ_ASSIGN_OR_RETURN(RequestFilter all, RequestFilter::Compile(collection->schema, "", {}));
  for (const auto& segment : collection->segments().segments) {
    AZ_ASSIGN_OR_RETURN(const Matches visible,
                        all.Match(*segment, pin.seq(), collection->retired, CancelToken()));
    stats.row_count += visible.count;
    const bool waits = segment->state() == SegmentState::kBuilding ||
                       (segment->state() == SegmentState::kGrowing &&
                        segment->size() >= core.options.graph_rows_min);
    if (waits) stats.unindexed_rows += segment->size();
    stats.segments.push_back({segment->id(), segment->state(), segment->size(),
                              segment->retired_count(), segment->file_bytes(),
                              segment->memory_bytes()});
  }
  MutexLock lock(collection->build_mu);
  stats.index_error = collection->index_error;
  return stats;
}

absl::StatusOr<WriteResult> Database::Insert(std::string_view collection,
                                             std::vector<RecordInput> records,
                                             const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(auto target, rep_->core->FindCollection(collection));
  AZ_ASSIGN_OR_RETURN(auto checked,
                      CheckRecords(target->schema, std::move(records), DuplicateKeys::kRefuse));
  PutCommit commit(*rep_->core, std::move(target), std::move(checked), PutMode::kInsert);
  AZ_ASSIGN_OR_RETURN(const Seq seq, rep_->core->queue.Run(commit, cancel));
  return WriteResult{.inserted = commit.inserted(), .as_of = seq};
}

absl::StatusOr<WriteResult> Database::Upsert(std::string_view collection,
                                             std::vector<RecordInput> records,
                                             const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(auto target, rep_->core->FindCollection(collection));
  AZ_ASSIGN_OR_RETURN(auto checked,
                      CheckRecords(target->schema, std::move(records), DuplicateKeys::kLastWins));
  PutCommit commit(*rep_->core, std::move(target), std::move(checked), PutMode::kUpsert);
  AZ_ASSIGN_OR_RETURN(const Seq seq, rep_->core->queue.Run(commit, cancel));
  return WriteResult{.inserted = commit.inserted(), .replaced = commit.replaced(), .as_of = seq};
}

absl::StatusOr<WriteResult> Database::DeleteKeys(std::string_view collection, std::vector<Key> keys,
                                                 const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(auto target, rep_->core->FindCollection(collection));
  if (keys.empty() || keys.size() > kBatchRecordsMax) {
    return InvalidArgument("keys: %d keys; allowed are 1 to %d", keys.size(), kBatchRecordsMax);
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    AZ_RETURN_IF_ERROR(CheckKey(target->schema, keys[i], absl::StrFormat("keys[%d]", i)));
  }
  DeleteCommit commit(std::move(target), std::move(keys), {});
  AZ_ASSIGN_OR_RETURN(const Seq seq, rep_->core->queue.Run(commit, cancel));
  return WriteResult{.deleted = commit.deleted(), .as_of = seq};
}

absl::StatusOr<WriteResult> Database::DeleteMatching(std::string_view collection,
                                                     const FilterText& filter, bool all,
                                                     const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(auto target, rep_->core->FindCollection(collection));
  const bool blank = filter.text.find_first_not_of(" \t\r\n") == std::string::npos;
  if (blank && !all) {
    return absl::InvalidArgumentError(
        "filter: empty, which would delete every record; say delete_all if that is meant");
  }
  if (!blank && all) {
    return absl::InvalidArgumentError("filter: must be unset together with delete_all");
  }
  AZ_RETURN_IF_ERROR(cancel.Check());
  AZ_ASSIGN_OR_RETURN(MatchingRows matching, FindMatching(*rep_->core, *target, filter, cancel));
  DeleteCommit commit(std::move(target), std::move(matching.keys), std::move(matching.rows));
  AZ_ASSIGN_OR_RETURN(const Seq seq, rep_->core->queue.Run(commit, cancel));
  return WriteResult{.deleted = commit.deleted(), .as_of = seq};
}

absl::StatusOr<GetResult> Database::Get(std::string_view collection, std::span<const Key> keys,
                                        const Projection& projection,
                                        const CancelToken& cancel) const {
  return engine::Get(*rep_->core, collection, keys, projection, cancel);
}

absl::StatusOr<QueryResult> Database::Query(std::string_view collection, const FilterText& filter,
                                            uint32_t limit, const Projection& projection,
                                            const CancelToken& cancel) const {
  return engine::Query(*rep_->core, collection, filter, limit, projection, cancel);
}

absl::StatusOr<CountResult> Database::Count(std::string_view collection, const FilterText& filter,
                                            const CancelToken& cancel) const {
  return engine::Count(*rep_->core, collection, filter, cancel);
}

absl::StatusOr<SearchResult> Database::Search(std::string_view collection,
                                              std::span<const float> queries,
                                              const SearchSpec& spec,
                                              const CancelToken& cancel) const {
  return engine::Search(*rep_->core, collection, queries, spec, cancel);
}

absl::StatusOr<uint32_t> Database::QueryDimension(std::string_view collection,
                                                  std::string_view vector_field) const {
  AZ_ASSIGN_OR_RETURN(const auto target, rep_->core->FindCollection(collection));
  AZ_ASSIGN_OR_RETURN(const VectorFieldDef* field, ChooseVectorField(target->schema, vector_field));
  return field->dim;
}

bool Database::writable() const {
  return !rep_->core->queue.read_only();
}

absl::Status Database::Close() {
  rep_->Stop();
  rep_->core->views.ReleaseStore();
  return rep_->core->store->Close();
}

}  // namespace azimuth::engine
