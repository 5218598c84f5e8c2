#include "engine/database.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/admin/verify.h"
#include "engine/core.h"
#include "engine/limits.h"
#include "engine/maintenance.h"
#include "engine/query/matches.h"
#include "engine/query/read.h"
#include "engine/query/search.h"
#include "engine/recover.h"
#include "engine/segment/build_job.h"
#include "engine/segment/segment_builder.h"
#include "engine/snapshot/create_snapshot.h"
#include "engine/snapshot/restore_snapshot.h"
#include "engine/snapshot/snapshot_list.h"
#include "engine/snapshot/verify_snapshot.h"
#include "engine/worker_pool.h"
#include "engine/write/ddl_commit.h"
#include "engine/write/delete_commit.h"
#include "engine/write/ingest.h"
#include "engine/write/put_commit.h"
#include "engine/write/validate.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <thread>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr std::chrono::milliseconds kTickInterval{100};

absl::Status CheckRequestId(const WriteOptions& options) {
  if (options.request_id.size() <= kRequestIdBytesMax) return absl::OkStatus();
  return InvalidArgument("request_id: %d bytes; at most %d are allowed", options.request_id.size(),
                         kRequestIdBytesMax);
}

// Deletes chosen rows by kDeleteRowsMax at a time.
absl::StatusOr<WriteResult> DeleteRows(Core& core, const std::shared_ptr<Collection>& target,
                                       MatchingRows& matching, const WriteOptions& options,
                                       int64_t now, const CancelToken& cancel) {
  WriteResult result;
  result.commits = 0;
  size_t first = 0;
  do {
    const size_t count = std::min(kDeleteRowsMax, matching.keys.size() - first);
    const auto keys =
        std::make_move_iterator(matching.keys.begin()) + static_cast<std::ptrdiff_t>(first);
    const auto rows = matching.rows.begin() + static_cast<std::ptrdiff_t>(first);
    const auto step = static_cast<std::ptrdiff_t>(count);
    DeleteCommit commit(core, target, {keys, keys + step}, {rows, rows + step}, matching.row_store,
                        DeleteCommit::Which::kLive, options, now);
    if (matching.keys.size() > kDeleteRowsMax && !options.request_id.empty()) {
      commit.RefuseUnlessRepeated(InvalidArgument(
          "request_id: %d records match, and one atomic delete takes %d at most; repeat it "
          "without: what is gone is not deleted twice",
          matching.keys.size(), kDeleteRowsMax));
    }
    const absl::StatusOr<Seq> seq = core.queue.Run(commit, cancel);
    if (!seq.ok() && result.commits > 0) {
      return absl::Status(
          seq.status().code(),
          absl::StrFormat("%d of %d records were deleted in %d commits before this; repeat it for "
                          "the rest: %s",
                          result.deleted, matching.keys.size(), result.commits,
                          std::string(seq.status().message())));
    }
    if (!seq.ok()) return seq.status();
    if (commit.result().repeated) {
      WriteResult repeated = commit.result();
      repeated.synced = core.durability->synced() >= repeated.as_of;
      return repeated;
    }
    result.as_of = *seq;
    result.synced = commit.synced();
    result.deleted += commit.result().deleted;
    ++result.commits;
    first += count;
  } while (first < matching.keys.size());
  return result;
}

StoreInfo StoreInfoOf(const Core& core) {
  StoreInfo info;
  const DiskGuard::Info disk = core.disk->info();
  switch (core.durability->state()) {
    case Durability::State::kWritable:
      info.state = disk.low ? StoreState::kDiskLow : StoreState::kWritable;
      if (disk.low) info.reason = std::string(core.disk->AdmitWrite().message());
      break;
    case Durability::State::kFailed:
      info.state = StoreState::kFailed;
      info.reason = core.durability->reason();
      break;
    case Durability::State::kDataLoss:
      info.state = StoreState::kDataLoss;
      info.reason = core.durability->reason();
      break;
  }
  info.synced = core.durability->synced();
  info.watermark = core.durability->watermark();
  info.disk_capacity_bytes = disk.capacity_bytes;
  info.disk_free_bytes = disk.free_bytes;
  info.disk_floor_bytes = disk.floor_bytes;
  info.ballast_bytes = disk.ballast_bytes;
  info.segments_set_aside = core.segments_set_aside.load(std::memory_order_relaxed);
  return info;
}

}  // namespace

struct Database::Rep {
  std::unique_ptr<Core> core;
  // Beside maintenance, which may wait for a write that hangs. Null with workers of the caller's.
  std::unique_ptr<Ticker> tender;

  void Stop() {
    core->closing.store(true);
    tender.reset();
    core->workers->Stop();
  }

  // Runs a write of records. `as_of` is that of this commit, or of the first if it is repeated.
  absl::StatusOr<WriteResult> Run(RecordCommit& commit, const CancelToken& cancel) {
    AZ_ASSIGN_OR_RETURN(const Seq seq, core->queue.Run(commit, cancel));
    WriteResult result = commit.result();
    if (!result.repeated) result.as_of = seq;
    result.synced = result.repeated ? core->durability->synced() >= result.as_of : commit.synced();
    return result;
  }
  absl::StatusOr<Backpressure::Admission> Admit(const Collection& target, uint64_t bytes,
                                                const CancelToken& cancel) {
    AZ_RETURN_IF_ERROR(core->disk->AdmitWrite());
    return core->backpressure.Admit(target.name, target.unindexed_rows, bytes, cancel);
  }
  // The same for one that adds rows: refused when the disk is nearly full, slowed down or refused
  // when too much waits for its index. The repetition of a request is answered all the same.
  template <typename Prepare>
  absl::StatusOr<WriteResult> RunAdmitted(RowsCommit& commit, const Collection& target,
                                          const CancelToken& cancel, const Prepare& prepare) {
    const auto admission = Admit(target, commit.byte_size(), cancel);
    if (admission.ok()) {
      AZ_RETURN_IF_ERROR(prepare());
    } else if (!commit.may_be_repeated()) {
      return admission.status();
    } else {
      commit.RefuseUnlessRepeated(admission.status());
    }
    return Run(commit, cancel);
  }
};

Database::Database(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}

Database::~Database() {
  rep_->Stop();
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const DatabaseOptions& options) {
  if (options.growing_rows_max < 1 || options.graph_rows_min < 1) {
    return absl::InvalidArgumentError("growing_rows_max and graph_rows_min must be at least 1");
  }
  auto rep = std::make_unique<Rep>();
  AZ_ASSIGN_OR_RETURN(rep->core, Recover(options));
  Core& core = *rep->core;
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int threads = options.build_threads > 0 ? options.build_threads : cores;
  // One thread of a request runs beside its companions.
  core.workers = options.make_workers ? options.make_workers(threads)
                                      : std::make_unique<WorkerPool>(threads, cores - 1);
  core.workers->Repeat(kTickInterval, [&core] { RunMaintenance(core); });
  if (!options.make_workers) {
    rep->tender = std::make_unique<Ticker>(kTickInterval, [&core] { core.store->TendFlushes(); });
  }
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
  for (const auto& collection : rep_->core->AllCollections()) {
    summaries.push_back({collection->id, collection->name, collection->live_rows.load()});
  }
  std::sort(summaries.begin(), summaries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return summaries;
}

absl::StatusOr<CollectionStats> Database::GetStats(std::string_view name) const {
  Core& core = *rep_->core;
  const ViewRegistry::Pin pin = core.views.PinNow();
  AZ_ASSIGN_OR_RETURN(const Collection* collection, core.FindPinned(name, pin));
  CollectionStats stats;
  stats.as_of = pin.seq();
  stats.damaged_rows = collection->damaged_rows.load(std::memory_order_relaxed);
  AZ_ASSIGN_OR_RETURN(RequestFilter all, RequestFilter::Compile(collection->schema, "", {}));
  for (const auto& segment : collection->segments().segments) {
    AZ_ASSIGN_OR_RETURN(
        const Matches visible,
        all.Match(*segment, {pin.seq(), core.NowUnixMicros()}, collection->retired, CancelToken()));
    stats.row_count += visible.count;
    const bool waits = segment->state() == SegmentState::kBuilding ||
                       LacksGraph(*segment, collection->schema, core.options.graph_rows_min) ||
                       (segment->state() == SegmentState::kGrowing &&
                        segment->size() >= core.options.graph_rows_min);
    if (waits) stats.unindexed_rows += segment->size();
    SegmentStats& entry = stats.segments.emplace_back(
        SegmentStats{segment->id(), segment->state(), segment->size(), segment->retired_count(),
                     segment->file_bytes(), segment->memory_bytes(), segment->parts()});
    for (size_t slot = 0; slot < collection->schema.vectors.size(); ++slot) {
      entry.vectors.push_back({collection->schema.vectors[slot].name, segment->WalkedBy(slot)});
    }
  }
  AZ_ASSIGN_OR_RETURN(const auto shared, core.FindCollection(name));
  MutexLock lock(shared->build_mu);
  stats.index_error = shared->index_error;
  return stats;
}

absl::StatusOr<TruncateResult> Database::TruncateCollection(std::string_view name,
                                                            const CancelToken& cancel) {
  if (absl::Status status = CheckCollectionName(name); !status.ok()) {
    return AtPlace("collection", status);
  }
  TruncateCommit commit(*rep_->core, std::string(name));
  AZ_ASSIGN_OR_RETURN(const Seq seq, rep_->core->queue.Run(commit, cancel));
  return TruncateResult{commit.removed(), seq};
}

absl::Status Database::Optimize(std::string_view name,
                                const std::function<absl::Status(const OptimizeProgress&)>& report,
                                const CancelToken& cancel) {
  return engine::Optimize(*rep_->core, name, report, cancel);
}

absl::StatusOr<WriteResult> Database::Insert(std::string_view collection,
                                             std::vector<RecordInput> records,
                                             const CancelToken& cancel,
                                             const WriteOptions& options) {
  return Put(collection, std::move(records), /*insert=*/true, cancel, options);
}

absl::StatusOr<WriteResult> Database::Upsert(std::string_view collection,
                                             std::vector<RecordInput> records,
                                             const CancelToken& cancel,
                                             const WriteOptions& options) {
  return Put(collection, std::move(records), /*insert=*/false, cancel, options);
}

absl::StatusOr<WriteResult> Database::Put(std::string_view collection,
                                          std::vector<RecordInput> records, bool insert,
                                          const CancelToken& cancel, const WriteOptions& options) {
  Core& core = *rep_->core;
  const int64_t now = core.NowUnixMicros();
  AZ_RETURN_IF_ERROR(CheckRequestId(options));
  AZ_ASSIGN_OR_RETURN(auto target, core.FindCollection(collection));
  AZ_ASSIGN_OR_RETURN(auto checked, CheckRecords(target->schema, std::move(records),
                                                 PutOptions(target->schema, insert, now)));
  PutCommit commit(core, target, std::move(checked), insert ? PutMode::kInsert : PutMode::kUpsert,
                   options, now);
  return rep_->RunAdmitted(commit, *target, cancel, [] { return absl::OkStatus(); });
}

absl::StatusOr<IngestState> Database::OpenIngest(const IngestSpec& spec,
                                                 const CancelToken& cancel) {
  return engine::OpenIngest(*rep_->core, spec, cancel);
}

std::vector<absl::StatusOr<WriteResult>> Database::Ingest(const IngestSpec& spec,
                                                          std::vector<IngestBatch> batches,
                                                          const CancelToken& cancel) {
  return engine::Ingest(*rep_->core, spec, std::move(batches), cancel);
}

absl::StatusOr<double> Database::WritePressure(std::string_view collection) const {
  AZ_ASSIGN_OR_RETURN(const auto target, rep_->core->FindCollection(collection));
  return rep_->core->backpressure.PressureOf(target->unindexed_rows.load());
}

absl::StatusOr<WriteResult> Database::Update(std::string_view collection,
                                             std::vector<RecordInput> records, MissingKeys missing,
                                             const CancelToken& cancel,
                                             const WriteOptions& options) {
  Core& core = *rep_->core;
  const int64_t now = core.NowUnixMicros();
  AZ_RETURN_IF_ERROR(CheckRequestId(options));
  AZ_ASSIGN_OR_RETURN(auto target, core.FindCollection(collection));
  AZ_ASSIGN_OR_RETURN(auto checked,
                      CheckRecords(target->schema, std::move(records),
                                   {.form = RecordForm::kPartial, .now_unix_us = now}));
  UpdateCommit commit(core, target, std::move(checked), missing, options, now);
  if (commit.byte_size() > kUpdateBytesMax) {
    return InvalidArgument(
        "records: this update writes about %d bytes of whole records, at most %d are allowed; send "
        "fewer at a time",
        commit.byte_size(), kUpdateBytesMax);
  }
  return rep_->RunAdmitted(commit, *target, cancel, [&] { return commit.Prefetch(cancel); });
}

absl::StatusOr<WriteResult> Database::DeleteKeys(std::string_view collection, std::vector<Key> keys,
                                                 const CancelToken& cancel,
                                                 const WriteOptions& options) {
  AZ_RETURN_IF_ERROR(CheckRequestId(options));
  AZ_ASSIGN_OR_RETURN(auto target, rep_->core->FindCollection(collection));
  if (keys.empty() || keys.size() > kBatchRecordsMax) {
    return InvalidArgument("keys: %d keys; allowed are 1 to %d", keys.size(), kBatchRecordsMax);
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    AZ_RETURN_IF_ERROR(CheckKey(target->schema, keys[i], absl::StrFormat("keys[%d]", i)));
  }
  DeleteCommit commit(*rep_->core, std::move(target), std::move(keys), {}, {},
                      DeleteCommit::Which::kLive, options, rep_->core->NowUnixMicros());
  return rep_->Run(commit, cancel);
}

absl::StatusOr<WriteResult> Database::DeleteMatching(std::string_view collection,
                                                     const FilterText& filter, bool all,
                                                     const CancelToken& cancel,
                                                     const WriteOptions& options, bool dry_run) {
  Core& core = *rep_->core;
  AZ_RETURN_IF_ERROR(CheckRequestId(options));
  AZ_ASSIGN_OR_RETURN(auto target, core.FindCollection(collection));
  const bool blank = filter.text.find_first_not_of(" \t\r\n") == std::string::npos;
  if (blank && !all) {
    return absl::InvalidArgumentError(
        "filter: empty, which would delete every record; say delete_all if that is meant");
  }
  if (!blank && all) {
    return absl::InvalidArgumentError("filter: must be unset together with delete_all");
  }
  if (options.if_version.has_value()) {
    return absl::InvalidArgumentError("if_version: allowed with keys only, not with a filter");
  }
  AZ_RETURN_IF_ERROR(cancel.Check());
  const int64_t now = core.NowUnixMicros();
  AZ_ASSIGN_OR_RETURN(MatchingRows matching, WithRepair(core, collection, cancel, [&] {
                        return FindMatching(core, collection, filter, now, cancel);
                      }));
  AZ_FAILPOINT(kDeleteAfterChoose);
  if (dry_run) return WriteResult{.deleted = matching.keys.size(), .as_of = matching.as_of};
  return DeleteRows(core, target, matching, options, now, cancel);
}

absl::StatusOr<GetResult> Database::Get(std::string_view collection, std::span<const Key> keys,
                                        const Projection& projection, const CancelToken& cancel,
                                        const ReadOptions& options) const {
  return WithRepair(*rep_->core, collection, cancel, [&] {
    return engine::Get(*rep_->core, collection, keys, projection, options, cancel);
  });
}

absl::StatusOr<QueryResult> Database::Query(std::string_view collection, const FilterText& filter,
                                            uint32_t limit, const Projection& projection,
                                            const CancelToken& cancel,
                                            const ReadOptions& options) const {
  return WithRepair(*rep_->core, collection, cancel, [&] {
    return engine::Query(*rep_->core, collection, filter, limit, projection, options, cancel);
  });
}

absl::StatusOr<CountResult> Database::Count(std::string_view collection, const FilterText& filter,
                                            const CancelToken& cancel,
                                            const ReadOptions& options) const {
  return WithRepair(*rep_->core, collection, cancel, [&] {
    return engine::Count(*rep_->core, collection, filter, options, cancel);
  });
}

absl::StatusOr<SearchResult> Database::Search(std::string_view collection,
                                              std::span<const float> queries,
                                              const SearchSpec& spec, const CancelToken& cancel,
                                              const ReadOptions& options) const {
  return WithRepair(*rep_->core, collection, cancel, [&] {
    return engine::Search(*rep_->core, collection, queries, spec, options, cancel);
  });
}

absl::StatusOr<uint32_t> Database::QueryDimension(std::string_view collection,
                                                  std::string_view vector_field) const {
  // Pinned, not shared: readers on many processors would write to one counter of references.
  const ViewRegistry::Pin pin = rep_->core->views.PinNow();
  AZ_ASSIGN_OR_RETURN(const Collection* target, rep_->core->FindPinned(collection, pin));
  AZ_ASSIGN_OR_RETURN(const VectorFieldDef* field, ChooseVectorField(target->schema, vector_field));
  return field->dim;
}

DatabaseInfo Database::GetInfo() const {
  const Core& core = *rep_->core;
  DatabaseInfo info;
  info.store = StoreInfoOf(core);
  info.memory = {.budget_bytes = core.memory.total(),
                 .rocks_bytes = core.memory.used(MemoryPart::kRocks),
                 .growing_bytes = core.memory.used(MemoryPart::kGrowing),
                 .build_bytes = core.memory.used(MemoryPart::kBuild),
                 .scratch_bytes = core.memory.used(MemoryPart::kScratch),
                 .resident_bytes = core.memory.used(MemoryPart::kResident)};
  for (const auto& collection : core.AllCollections()) {
    info.unindexed_rows += collection->unindexed_rows.load(std::memory_order_relaxed);
    info.store.damaged_rows += collection->damaged_rows.load(std::memory_order_relaxed);
  }
  info.commits_waiting = core.queue.depth();
  info.incarnation = core.dir.incarnation();
  info.as_of = core.views.published();
  return info;
}

absl::Status Database::CheckWritable() const {
  return rep_->core->durability->CheckWritable();
}

absl::StatusOr<VerifyReport> Database::Verify(std::string_view collection, bool deep,
                                              const CancelToken& cancel) const {
  return VerifyOpen(*rep_->core, collection, deep, cancel);
}

absl::StatusOr<SnapshotInfo> Database::CreateSnapshot(std::string_view collection,
                                                      std::string_view name,
                                                      const CancelToken& cancel) {
  return engine::CreateSnapshot(*rep_->core, collection, name, cancel);
}

absl::StatusOr<std::vector<SnapshotInfo>> Database::ListSnapshots(
    std::string_view collection) const {
  return engine::ListSnapshots(*rep_->core, collection);
}

absl::StatusOr<SnapshotReport> Database::VerifySnapshot(std::string_view snapshot,
                                                        const CancelToken& cancel) {
  return engine::VerifySnapshot(*rep_->core, snapshot, cancel);
}

absl::StatusOr<RestoreResult> Database::RestoreSnapshot(const RestoreSpec& spec,
                                                        const CancelToken& cancel) {
  return engine::RestoreSnapshot(*rep_->core, spec, cancel);
}

absl::StatusOr<RestoreResult> Database::RestoreFolder(const std::string& folder,
                                                      const RestoreSpec& spec,
                                                      const CancelToken& cancel) {
  return engine::RestoreFolder(*rep_->core, folder, spec, cancel);
}

absl::Status Database::DeleteSnapshot(std::string_view snapshot) {
  return RemoveSnapshot(*rep_->core, snapshot);
}

absl::Status Database::Close() {
  rep_->Stop();
  rep_->core->views.ReleaseStore();
  AZ_FAILPOINT(kCloseBeforeFlush);
  AZ_RETURN_IF_ERROR(rep_->core->store->Close());
  return rep_->core->durability->MarkClean();
}

}  // namespace azimuth::engine
