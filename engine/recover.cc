#include "engine/recover.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/maintenance.h"
#include "engine/segment/build_job.h"
#include "engine/segment/replace_commit.h"
#include "engine/segment/sealed.h"
#include "storage/file.h"

#include "absl/container/flat_hash_map.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

using storage::RowRange;

// Rows that are read back, and their vectors, joined in batches of this many.
constexpr uint64_t kReadBatchRows = 4096;

// Sets the file aside under quarantine/; the rows are in RocksDB.
void Quarantine(Core& core, SegmentId id, const absl::Status& reason) {
  LogError("segment %d is set aside and will be built again: %s", Raw(id),
           std::string(reason.message()));
  const std::string from = core.dir.segment_path(id);
  const std::string to = absl::StrFormat("%s/%d.%d", core.dir.quarantine_path(), Raw(id),
                                         core.options.clock->NowUnixMicros());
  const absl::Status status = storage::RenameFile(from, to, core.files());
  if (!status.ok() && status.code() != absl::StatusCode::kNotFound) {
    LogWarning("could not set it aside: %s", std::string(status.message()));
  }
}

// Reads rows of a range from RocksDB into growing segments, the last of which may have room.
class RowLoader final {
 public:
  RowLoader(Core& core, const Collection& collection, RowRange range)
      : core_(core), collection_(collection), range_(range), next_first_(range.first) {}

  absl::StatusOr<std::vector<std::shared_ptr<GrowingSegment>>> Load() {
    AZ_RETURN_IF_ERROR(core_.store->ScanRows(
        collection_.row_store, range_, [&](RowId row, storage::StoredRow&& value) {
          AZ_FAILPOINT(kRecoverMidRows);
          batch_.emplace_back(row, std::move(value));
          return batch_.size() < kReadBatchRows ? absl::OkStatus() : AppendBatch();
        }));
    AZ_RETURN_IF_ERROR(AppendBatch());
    return std::move(segments_);
  }

 private:
  absl::Status AppendBatch() {
    if (batch_.empty()) return absl::OkStatus();
    const size_t slots = collection_.schema.vectors.size();
    const RowRange range{batch_.front().first, Next(batch_.back().first)};
    std::vector<absl::flat_hash_map<RowId, std::vector<float>>> vectors(slots);
    for (size_t slot = 0; slot < slots; ++slot) {
      AZ_RETURN_IF_ERROR(core_.store->ScanVectors(
          collection_.row_store, collection_.schema.vectors[slot].id, range,
          [&](RowId row, std::span<const float> vector) {
            if (vector.size() != collection_.schema.vectors[slot].dim) {
              return DataLoss("row %d of row store %d: a vector of %d elements", Raw(row),
                              Raw(collection_.row_store), vector.size());
            }
            vectors[slot][row].assign(vector.begin(), vector.end());
            return absl::OkStatus();
          }));
    }
    std::vector<std::span<const float>> views(slots);
    for (auto& [row, value] : batch_) {
      for (size_t slot = 0; slot < slots; ++slot) {
        const auto it = vectors[slot].find(row);
        views[slot] = it == vectors[slot].end() ? std::span<const float>() : it->second;
      }
      WithRoom(row).Append(row, std::move(value), views);
    }
    batch_.clear();
    return absl::OkStatus();
  }

  GrowingSegment& WithRoom(RowId row) {
    if (segments_.empty() || segments_.back()->full()) {
      if (!segments_.empty()) {
        segments_.back()->Close(row);
        next_first_ = row;
      }
      segments_.push_back(MakeGrowingSegment(core_, collection_, next_first_));
    }
    return *segments_.back();
  }

  Core& core_;
  const Collection& collection_;
  const RowRange range_;
  RowId next_first_;
  std::vector<std::pair<RowId, storage::StoredRow>> batch_;
  std::vector<std::shared_ptr<GrowingSegment>> segments_;
};

// Retirements of rows that no segment has: a merge dropped the rows, and ended before it came to
// the retirements.
absl::Status RemoveStrayRetirements(Core& core, Collection& collection, const SegmentSet& set,
                                    const std::vector<RowId>& retired) {
  constexpr size_t kBatchRows = 4096;
  std::vector<RowId> stray;
  for (const RowId row : retired) {
    const Segment* segment = set.Find(row);
    if (segment == nullptr || !segment->Find(row).has_value()) stray.push_back(row);
  }
  for (size_t first = 0; first < stray.size(); first += kBatchRows) {
    storage::CommitBatch batch;
    for (size_t i = first; i < std::min(stray.size(), first + kBatchRows); ++i) {
      batch.DeleteRetired(collection.row_store, stray[i]);
    }
    AZ_RETURN_IF_ERROR(core.store->Commit(batch, /*sync=*/true));
  }
  // Nobody reads yet.
  if (const auto free_pages = collection.retired.Forget(stray)) free_pages();
  return absl::OkStatus();
}

absl::Status RecoverCollection(Core& core, Collection& collection,
                               std::vector<storage::SegmentEntry> entries,
                               std::set<std::string>& known_files) {
  AZ_ASSIGN_OR_RETURN(const auto counters, core.store->GetCounters(collection.row_store));
  collection.next_row = counters.next_row;
  collection.live_rows.store(counters.live_rows);
  std::vector<RowId> retired;
  AZ_RETURN_IF_ERROR(core.store->ScanRetired(collection.row_store, [&](RowId row, Seq seq) {
    collection.retired.Retire(row, seq);
    retired.push_back(row);
    return absl::OkStatus();
  }));

  std::vector<std::shared_ptr<Segment>> segments;
  for (const storage::SegmentEntry& entry : entries) {
    const std::string path = core.dir.segment_path(entry.id);
    auto sealed =
        SealedSegment::Open(path, collection.schema, entry, core.dir.incarnation(), core.files());
    if (sealed.ok()) {
      known_files.insert(path);
      segments.push_back(*std::move(sealed));
      continue;
    }
    // Out of files or memory says nothing about the file.
    if (sealed.status().code() == absl::StatusCode::kResourceExhausted ||
        sealed.status().code() == absl::StatusCode::kUnavailable) {
      return sealed.status();
    }
    Quarantine(core, entry.id, sealed.status());
    storage::CommitBatch batch;
    batch.DeleteSegment(collection.row_store, entry.id);
    AZ_RETURN_IF_ERROR(core.store->Commit(batch, /*sync=*/true));
  }
  std::sort(segments.begin(), segments.end(),
            [](const auto& a, const auto& b) { return a->rows().first < b->rows().first; });

  SegmentSet set;
  RowId covered_to{};
  const auto load_up_to = [&](RowId end, bool is_last) -> absl::Status {
    if (covered_to >= end) return absl::OkStatus();
    AZ_ASSIGN_OR_RETURN(auto loaded, RowLoader(core, collection, {covered_to, end}).Load());
    if (loaded.empty()) return absl::OkStatus();
    if (is_last) {
      collection.growing = loaded.back();
    } else {
      loaded.back()->Close(end);
    }
    set.segments.insert(set.segments.end(), loaded.begin(), loaded.end());
    return absl::OkStatus();
  };
  for (const auto& segment : segments) {
    AZ_RETURN_IF_ERROR(load_up_to(segment->rows().first, false));
    set.segments.push_back(segment);
    covered_to = segment->rows().end;
  }
  AZ_RETURN_IF_ERROR(load_up_to(collection.next_row, true));
  for (const auto& segment : set.segments) {
    MarkRetiredRows(collection.retired, *segment);
    if (segment->state() != SegmentState::kSealed) collection.unindexed_rows += segment->size();
    collection.next_sweep_us =
        std::min(collection.next_sweep_us.load(), segment->earliest_expiry());
  }
  AZ_RETURN_IF_ERROR(RemoveStrayRetirements(core, collection, set, retired));
  collection.SetSegments(std::move(set), core.views);
  return absl::OkStatus();
}

// Files under segments/ that no catalog names are left over from builds that never were published.
absl::Status RemoveOrphans(const Core& core, const std::set<std::string>& known_files) {
  AZ_ASSIGN_OR_RETURN(const auto names,
                      storage::ListDirectory(core.dir.segments_path(), core.files()));
  for (const std::string& name : names) {
    const std::string path = core.dir.segments_path() + "/" + name;
    if (known_files.contains(path)) continue;
    if (!name.ends_with(".seg") && !name.ends_with(".seg.tmp")) {
      LogWarning("%s is not ours and is left alone", path);
      continue;
    }
    LogInfo("removing %s, which no catalog names", path);
    AZ_RETURN_IF_ERROR(storage::RemoveFile(path, core.files()));
  }
  return absl::OkStatus();
}

// In order of arrival, as they were added.
absl::Status RecoverRequests(Core& core) {
  AZ_ASSIGN_OR_RETURN(auto requests, core.store->ListRequests());
  std::sort(requests.begin(), requests.end(),
            [](const auto& a, const auto& b) { return a.at_unix_us < b.at_unix_us; });
  for (storage::RequestEntry& request : requests) core.requests.Add(std::move(request));
  return absl::OkStatus();
}

storage::Files& FilesOf(const DatabaseOptions& options) {
  return options.files != nullptr ? *options.files : storage::Files::Posix();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Core>> Recover(const DatabaseOptions& options) {
  AZ_ASSIGN_OR_RETURN(storage::DataDir dir,
                      storage::DataDir::Open(options.data_dir, FilesOf(options), options.random));
  storage::StoreOptions store_options;
  store_options.block_cache_bytes = options.block_cache_bytes;
  store_options.write_buffer_bytes = options.write_buffer_bytes;
  store_options.files = &dir.files();
  store_options.merges_tables = !options.make_workers;
  AZ_ASSIGN_OR_RETURN(auto store, storage::Store::Open(dir.rocks_path(), store_options));
  AZ_FAILPOINT(kRecoverAfterOpen);
  AZ_ASSIGN_OR_RETURN(const Seq applied, store->GetAppliedSeq());
  auto core = std::make_unique<Core>(options, std::move(dir), std::move(store), applied);
  AZ_ASSIGN_OR_RETURN(core->next_ids, core->store->GetNextIds());
  core->next_segment.store(Raw(core->next_ids.segment));
  core->memory.Add(MemoryPart::kRocks, static_cast<int64_t>(store_options.block_cache_bytes +
                                                            4 * store_options.write_buffer_bytes));
  AZ_RETURN_IF_ERROR(RecoverRequests(*core));

  AZ_ASSIGN_OR_RETURN(const auto collections, core->store->ListCollections());
  AZ_ASSIGN_OR_RETURN(const auto segments, core->store->ListSegments());
  std::map<RowStoreId, std::vector<storage::SegmentEntry>> by_store;
  for (const auto& entry : segments) by_store[entry.row_store].push_back(entry);
  CollectionMap map;
  std::set<std::string> known_files;
  for (const storage::CollectionEntry& entry : collections) {
    AZ_ASSIGN_OR_RETURN(Schema schema, DecodeSchema(entry.definition));
    auto collection = std::make_shared<Collection>(
        entry.id, entry.name, entry.row_store, std::move(schema), entry.created_unix_us, kSeqZero);
    AZ_RETURN_IF_ERROR(
        RecoverCollection(*core, *collection, by_store[entry.row_store], known_files));
    NoteActive(*core, collection, INT64_MAX);
    map[entry.name] = std::move(collection);
  }
  core->SetCollections(std::move(map));
  AZ_RETURN_IF_ERROR(RemoveOrphans(*core, known_files));
  return core;
}

void VerifyOrRepair(Core& core, const std::shared_ptr<Collection>& collection,
                    const std::shared_ptr<Segment>& segment) {
  const absl::Status verified = segment->Verify();
  if (verified.ok()) return;
  absl::StatusOr<std::vector<std::shared_ptr<GrowingSegment>>> loaded =
      RowLoader(core, *collection, segment->rows()).Load();
  if (!loaded.ok()) {
    LogError("segment %d is bad and its rows cannot be read: %s; %s", Raw(segment->id()),
             std::string(verified.message()), std::string(loaded.status().message()));
    return;
  }
  if (!loaded->empty()) loaded->back()->Close(segment->rows().end);
  // First aside, then out of the catalog: a start in between finds no file and reads the rows
  // again.
  Quarantine(core, segment->id(), verified);
  ReplaceCommit replace(core, collection, {segment}, {loaded->begin(), loaded->end()}, {});
  const absl::Status status = replace.Publish();
  if (!status.ok()) {
    LogError("segment %d is bad and could not be replaced: %s", Raw(segment->id()),
             std::string(status.message()));
    return;
  }
  ScheduleBuild(core, collection);
}

}  // namespace azimuth::engine
