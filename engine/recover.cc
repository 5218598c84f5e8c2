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
#include <span>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

using storage::RowRange;

// Rows that are read back, and their vectors, joined in batches of this many.
constexpr uint64_t kReadBatchRows = 4096;
constexpr uint64_t kDamagedRowsLogged = 10;
// Directories of an earlier format have none.
constexpr uint32_t kFirstWithWatermark = 3;

// Sets the file aside under quarantine/; the rows are in RocksDB.
void Quarantine(Core& core, SegmentId id, const absl::Status& reason) {
  LogError("segment %d is set aside and will be built again: %s", Raw(id),
           std::string(reason.message()));
  core.segments_set_aside.fetch_add(1, std::memory_order_relaxed);
  const std::string from = core.dir.segment_path(id);
  const std::string to = absl::StrFormat("%s/%d.%d", core.dir.quarantine_path(), Raw(id),
                                         core.options.clock->NowUnixMicros());
  const absl::Status status = storage::RenameFile(from, to, core.files());
  if (!status.ok() && status.code() != absl::StatusCode::kNotFound) {
    LogWarning("could not set it aside: %s", std::string(status.message()));
  }
}

// True if the file says of itself that it is bad, or is not there. All else (out of memory or of
// descriptors, no permission) says nothing about it.
bool IsBadFile(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status) || absl::IsFailedPrecondition(status);
}

// Reads rows of a range from RocksDB into growing segments, the last of which may have room.
class RowLoader final {
 public:
  RowLoader(Core& core, const Collection& collection, RowRange range)
      : core_(core), collection_(collection), range_(range), next_first_(range.first) {}

  absl::StatusOr<std::vector<std::shared_ptr<GrowingSegment>>> Load() {
    absl::Status status = core_.store->ScanRows(
        collection_.row_store, range_, [&](RowId row, storage::StoredRow&& value) {
          AZ_FAILPOINT(kRecoverMidRows);
          batch_.emplace_back(row, std::move(value));
          return batch_.size() < kReadBatchRows ? absl::OkStatus() : AppendBatch();
        });
    if (absl::IsDataLoss(status)) {
      batch_.clear();
      status = Salvage(appended_to_);
    }
    AZ_RETURN_IF_ERROR(status);
    if (status = AppendBatch(); absl::IsDataLoss(status)) {
      batch_.clear();
      status = Salvage(appended_to_);
    }
    AZ_RETURN_IF_ERROR(status);
    return std::move(segments_);
  }

  // Rows that could not be read. They are left out.
  uint64_t damaged() const { return damaged_; }

 private:
  absl::Status AppendBatch() {
    if (batch_.empty()) return absl::OkStatus();
    const size_t slots = collection_.schema.vectors.size();
    const RowRange range{batch_.front().first, Next(batch_.back().first)};
    std::vector<absl::flat_hash_map<RowId, std::vector<float>>> vectors(slots);
    for (size_t slot = 0; slot < slots; ++slot) {
      AZ_RETURN_IF_ERROR(
          core_.store->ScanVectors(collection_.row_store, collection_.schema.vectors[slot].id,
                                   range, [&](RowId row, std::span<const float> vector) {
                                     vectors[slot][row].assign(vector.begin(), vector.end());
                                     return CheckDimension(row, slot, vector);
                                   }));
    }
    std::vector<std::span<const float>> views(slots);
    for (auto& [row, value] : batch_) {
      for (size_t slot = 0; slot < slots; ++slot) {
        const auto it = vectors[slot].find(row);
        views[slot] = it == vectors[slot].end() ? std::span<const float>() : it->second;
      }
      WithRoom(row).Append(row, std::move(value), views);
      appended_to_ = Next(row);
    }
    batch_.clear();
    return absl::OkStatus();
  }

  absl::Status CheckDimension(RowId row, size_t slot, std::span<const float> vector) const {
    if (vector.size() == collection_.schema.vectors[slot].dim) return absl::OkStatus();
    return DataLoss("row %d of row store %d: a vector of %d elements", Raw(row),
                    Raw(collection_.row_store), vector.size());
  }

  // Reads one row after the other from `first` on, and leaves out those that cannot be read: a scan
  // ends at the first bad block.
  absl::Status Salvage(RowId first) {
    for (RowId row = std::max(first, range_.first); row < range_.end; row = Next(row)) {
      const absl::Status status = AppendOne(row);
      if (status.ok()) continue;
      if (!absl::IsDataLoss(status)) return status;
      ++damaged_;
      if (damaged_ <= kDamagedRowsLogged) {
        LogError("collection %d: row %d cannot be read and is left out: %s", Raw(collection_.id),
                 Raw(row), std::string(status.message()));
      }
    }
    LogError("collection %d: %d rows cannot be read", Raw(collection_.id), damaged_);
    return absl::OkStatus();
  }

  absl::Status AppendOne(RowId row) {
    AZ_ASSIGN_OR_RETURN(auto rows, core_.store->GetRows(collection_.row_store, {&row, 1}));
    if (!rows.front().has_value()) return absl::OkStatus();
    const size_t slots = collection_.schema.vectors.size();
    std::vector<std::vector<float>> vectors(slots);
    std::vector<std::span<const float>> views(slots);
    for (size_t slot = 0; slot < slots; ++slot) {
      AZ_ASSIGN_OR_RETURN(auto found,
                          core_.store->GetVectors(collection_.row_store,
                                                  collection_.schema.vectors[slot].id, {&row, 1}));
      vectors[slot] = std::move(found.front());
      if (!vectors[slot].empty()) AZ_RETURN_IF_ERROR(CheckDimension(row, slot, vectors[slot]));
      views[slot] = vectors[slot];
    }
    WithRoom(row).Append(row, *std::move(rows.front()), views);
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
  RowId appended_to_{};  // After the last row that was appended.
  uint64_t damaged_ = 0;
  std::vector<std::pair<RowId, storage::StoredRow>> batch_;
  std::vector<std::shared_ptr<GrowingSegment>> segments_;
};

// Retirements of rows that are not there any more: a merge dropped the rows, and ended before it
// came to the retirements. A row that no segment has may still be there, unread because of damage:
// its retirement stays, so that it stays dead when it can be read again.
absl::Status RemoveStrayRetirements(Core& core, Collection& collection, const SegmentSet& set,
                                    const std::vector<RowId>& retired) {
  constexpr size_t kBatchRows = 1024;
  std::vector<RowId> unknown;
  for (const RowId row : retired) {
    const Segment* segment = set.Find(row);
    if (segment == nullptr || !segment->Find(row).has_value()) unknown.push_back(row);
  }
  std::vector<RowId> stray;
  for (std::span<const RowId> rest = unknown; !rest.empty();) {
    const auto rows = rest.first(std::min(rest.size(), kBatchRows));
    rest = rest.subspan(rows.size());
    const auto found = core.store->GetRows(collection.row_store, rows);
    if (absl::IsDataLoss(found.status())) continue;
    if (!found.ok()) return found.status();
    storage::CommitBatch batch;
    const size_t before = stray.size();
    for (size_t i = 0; i < rows.size(); ++i) {
      if ((*found)[i].has_value()) continue;
      batch.DeleteRetired(collection.row_store, rows[i]);
      stray.push_back(rows[i]);
    }
    if (stray.size() > before) AZ_RETURN_IF_ERROR(core.store->Commit(batch, /*sync=*/true));
  }
  // Nobody reads yet.
  if (const auto free_pages = collection.retired.Forget(stray)) free_pages();
  return absl::OkStatus();
}

// The segments of the catalog that can be used. What cannot be is set aside, and out of the
// catalog.
absl::StatusOr<std::vector<std::shared_ptr<Segment>>> OpenSegments(
    Core& core, const Collection& collection, const std::vector<storage::SegmentEntry>& entries,
    std::set<std::string>& known_files) {
  std::vector<std::shared_ptr<Segment>> segments;
  for (const storage::SegmentEntry& entry : entries) {
    AZ_FAILPOINT(kRecoverMidSegments);
    const std::string path = core.dir.segment_path(entry.id);
    auto sealed =
        SealedSegment::Open(path, collection.schema, entry, core.dir.instance(), core.files());
    if (sealed.ok()) {
      known_files.insert(path);
      segments.push_back(*std::move(sealed));
      continue;
    }
    if (!IsBadFile(sealed.status())) return sealed.status();
    if (!core.durability->CheckWritable().ok()) {
      LogError("segment %d is not used: %s", Raw(entry.id), std::string(sealed.status().message()));
      continue;
    }
    Quarantine(core, entry.id, sealed.status());
    AZ_FAILPOINT(kQuarantineBeforeCatalog);
    storage::CommitBatch batch;
    batch.DeleteSegment(collection.row_store, entry.id);
    AZ_RETURN_IF_ERROR(core.store->Commit(batch, /*sync=*/true));
  }
  std::sort(segments.begin(), segments.end(),
            [](const auto& a, const auto& b) { return a->rows().first < b->rows().first; });
  return segments;
}

absl::Status RecoverCollection(Core& core, Collection& collection,
                               const std::vector<storage::SegmentEntry>& entries,
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

  AZ_ASSIGN_OR_RETURN(const auto segments, OpenSegments(core, collection, entries, known_files));
  SegmentSet set;
  RowId covered_to{};
  const auto load_up_to = [&](RowId end, bool is_last) -> absl::Status {
    if (covered_to >= end) return absl::OkStatus();
    RowLoader loader(core, collection, {covered_to, end});
    AZ_ASSIGN_OR_RETURN(auto loaded, loader.Load());
    collection.damaged_rows += loader.damaged();
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
  if (core.durability->CheckWritable().ok()) {
    AZ_RETURN_IF_ERROR(RemoveStrayRetirements(core, collection, set, retired));
  }
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
    if (!storage::DataDir::IsSegmentName(name)) {
      LogWarning("%s is not ours and is left alone", path);
      continue;
    }
    LogInfo("removing %s, which no catalog names", path);
    AZ_FAILPOINT(kRecoverBeforeOrphans);
    if (const absl::Status status = storage::RemoveFile(path, core.files()); !status.ok()) {
      LogWarning("it stays: %s", std::string(status.message()));
    }
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

// Refuses a directory whose locks and syncs may mean nothing.
absl::Status CheckFileSystem(const DatabaseOptions& options) {
  if (options.allow_network_files) return absl::OkStatus();
  storage::Files& files = FilesOf(options);
  absl::StatusOr<storage::DiskSpace> space = files.Space(options.data_dir);
  if (absl::IsNotFound(space.status())) {
    space = files.Space(storage::ParentDirectory(options.data_dir));
  }
  if (!space.ok() || !space->network) return absl::OkStatus();  // Opening says what is wrong.
  return FailedPrecondition(
      "%s: lies on a network file system, whose locks and syncs may mean nothing; name a local "
      "directory, or allow it (--allow-network-fs) if you know that they hold",
      options.data_dir);
}

// What of a store is open, before there is a Core.
struct OpenedStore {
  std::unique_ptr<storage::Store> store;
  Seq applied{};
};

std::string HowToAccept(Seq mark) {
  return absl::StrFormat(
      "restore the directory from a copy, or go on without what is missing: --accept-data-loss=%d",
      Raw(mark));
}

// Opens the database, and past the damage of its log if that was accepted. `accepts` says whether
// it was for the mark that was found.
absl::StatusOr<std::unique_ptr<storage::Store>> OpenStore(const storage::DataDir& dir,
                                                          storage::StoreOptions options, Seq mark,
                                                          bool accepts, bool& lost) {
  absl::StatusOr<std::unique_ptr<storage::Store>> store =
      storage::Store::Open(dir.rocks_path(), options);
  if (store.ok()) return store;
  // A file that RocksDB's manifest names, or the manifest itself, is missing or cannot be read.
  if (absl::IsNotFound(store.status()) || absl::IsUnavailable(store.status())) {
    return absl::Status(store.status().code(),
                        absl::StrCat(store.status().message(),
                                     "; if files of the database are missing, restore the "
                                     "directory from a copy"));
  }
  if (!absl::IsDataLoss(store.status())) return store;
  if (!accepts) {
    return absl::DataLossError(absl::StrCat(store.status().message(), "; ", HowToAccept(mark)));
  }
  LogError("%s; going on with what comes before it, as was accepted",
           std::string(store.status().message()));
  options.accept_log_damage = true;
  lost = true;
  return storage::Store::Open(dir.rocks_path(), options);
}

// Begins another history after commits up to `mark` were lost: with another incarnation, so that
// who remembers the old one notices, and with numbers that were never given out.
absl::StatusOr<Seq> BeginAnew(storage::DataDir& dir, storage::Store& store,
                              storage::Watermark& watermark, const DatabaseOptions& options,
                              Seq applied, Seq mark) {
  // More than can be given out between two marks.
  constexpr uint64_t kGap = uint64_t{1} << 20;
  AZ_RETURN_IF_ERROR(dir.ChangeIncarnation(options.random));
  const Seq next{std::max(Raw(applied), Raw(mark)) + kGap};
  storage::CommitBatch batch;
  batch.PutAppliedSeq(next);
  AZ_RETURN_IF_ERROR(store.Commit(batch, /*sync=*/true));
  AZ_RETURN_IF_ERROR(watermark.Reset(next));
  LogError("commits up to %d were lost and that is accepted: the store goes on at %d", Raw(mark),
           Raw(next));
  return next;
}

// Opens RocksDB and holds what it has against the watermark.
absl::StatusOr<OpenedStore> OpenChecked(storage::DataDir& dir, const DatabaseOptions& options,
                                        const storage::StoreOptions& store_options,
                                        Durability& durability) {
  AZ_ASSIGN_OR_RETURN(auto watermark,
                      storage::Watermark::Open(dir.watermark_path(), dir.instance(), dir.files()));
  const storage::Watermark::Found& found = watermark->found();
  const Seq mark = found.mark.has_value() ? found.mark->seq : kSeqZero;
  const bool accepts = options.accept_data_loss == mark;
  bool lost = false;
  OpenedStore opened;
  AZ_ASSIGN_OR_RETURN(opened.store, OpenStore(dir, store_options, mark, accepts, lost));
  AZ_FAILPOINT(kRecoverAfterOpen);
  AZ_ASSIGN_OR_RETURN(opened.applied, opened.store->GetAppliedSeq());
  if (opened.applied > kSeqZero &&
      (found.damaged || (found.missing && dir.found_version() >= kFirstWithWatermark))) {
    LogError("%s: %s; what it said of synced commits cannot be checked", dir.watermark_path(),
             found.missing ? "is missing" : "is damaged");
  }
  lost = lost || opened.applied < mark;
  if (lost && accepts) {
    AZ_ASSIGN_OR_RETURN(opened.applied,
                        BeginAnew(dir, *opened.store, *watermark, options, opened.applied, mark));
  } else if (lost) {
    durability.LoseData(DataLoss(
        "commits up to %d were synced, and only those up to %d are there: a file of the log is "
        "missing or older than it should be; reads go on, writes are refused; %s",
        Raw(mark), Raw(opened.applied), HowToAccept(mark)));
  } else if (options.accept_data_loss.has_value()) {
    LogWarning("nothing is missing: --accept-data-loss=%d is not used",
               Raw(*options.accept_data_loss));
  }
  // What RocksDB has recovered it has flushed.
  if (!lost || accepts) AZ_RETURN_IF_ERROR(watermark->Write(opened.applied, /*clean=*/false));
  durability.Begin(std::move(watermark), opened.applied);
  AZ_FAILPOINT(kRecoverAfterWatermark);
  return opened;
}

absl::Status RecoverCatalog(Core& core) {
  AZ_ASSIGN_OR_RETURN(const auto collections, core.store->ListCollections());
  AZ_ASSIGN_OR_RETURN(const auto segments, core.store->ListSegments());
  std::map<RowStoreId, std::vector<storage::SegmentEntry>> by_store;
  for (const auto& entry : segments) by_store[entry.row_store].push_back(entry);
  CollectionMap map;
  std::set<std::string> known_files;
  for (const storage::CollectionEntry& entry : collections) {
    AZ_ASSIGN_OR_RETURN(Schema schema, DecodeSchema(entry.definition));
    auto collection = std::make_shared<Collection>(
        entry.id, entry.name, entry.row_store, std::move(schema), entry.created_unix_us, kSeqZero);
    AZ_RETURN_IF_ERROR(
        RecoverCollection(core, *collection, by_store[entry.row_store], known_files));
    NoteActive(core, collection, INT64_MAX);
    map[entry.name] = std::move(collection);
  }
  core.SetCollections(std::move(map));
  // A catalog that lacks commits may lack files, too.
  return core.durability->CheckWritable().ok() ? RemoveOrphans(core, known_files)
                                               : absl::OkStatus();
}

absl::Status Repair(Core& core, const std::shared_ptr<Collection>& collection,
                    const std::shared_ptr<Segment>& segment, const absl::Status& why) {
  if (!core.durability->CheckWritable().ok()) return why;
  RowLoader loader(core, *collection, segment->rows());
  absl::StatusOr<std::vector<std::shared_ptr<GrowingSegment>>> loaded = loader.Load();
  if (!loaded.ok()) {
    return absl::Status(loaded.status().code(),
                        absl::StrCat("it is bad and its rows cannot be read: ", why.message(), "; ",
                                     loaded.status().message()));
  }
  collection->damaged_rows += loader.damaged();
  if (!loaded->empty()) loaded->back()->Close(segment->rows().end);
  // First aside, then out of the catalog: a start in between finds no file and reads the rows
  // again.
  Quarantine(core, segment->id(), why);
  AZ_FAILPOINT(kQuarantineBeforeCatalog);
  ReplaceCommit replace(core, collection, {segment}, {loaded->begin(), loaded->end()}, {});
  AZ_RETURN_IF_ERROR(replace.Publish());
  ScheduleBuild(core, collection);
  return absl::OkStatus();
}

bool IsListed(Core& core, const Collection& collection, const std::shared_ptr<Segment>& segment) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  const auto& segments = collection.segments().segments;
  return std::find(segments.begin(), segments.end(), segment) != segments.end();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Core>> Recover(const DatabaseOptions& options) {
  AZ_RETURN_IF_ERROR(CheckFileSystem(options));
  AZ_ASSIGN_OR_RETURN(storage::DataDir dir,
                      storage::DataDir::Open(options.data_dir, FilesOf(options), options.random));
  AZ_FAILPOINT(kRecoverBeforeStore);
  auto disk =
      std::make_unique<DiskGuard>(dir.path(), dir.ballast_path(), dir.files(),
                                  DiskGuard::Limits{.floor_bytes = options.disk_floor_bytes,
                                                    .ballast_bytes = options.ballast_bytes});
  auto durability = std::make_unique<Durability>(*disk);
  storage::StoreOptions store_options;
  store_options.block_cache_bytes = options.block_cache_bytes;
  store_options.write_buffer_bytes = options.write_buffer_bytes;
  store_options.files = &dir.files();
  store_options.merges_tables = !options.make_workers;
  store_options.listener = durability.get();
  AZ_ASSIGN_OR_RETURN(OpenedStore opened, OpenChecked(dir, options, store_options, *durability));
  auto core =
      std::make_unique<Core>(options, std::move(dir), std::move(disk), std::move(durability),
                             std::move(opened.store), opened.applied);
  core->disk->Refresh();
  AZ_ASSIGN_OR_RETURN(core->next_ids, core->store->GetNextIds());
  core->next_segment.store(Raw(core->next_ids.segment));
  core->memory.Add(MemoryPart::kRocks, static_cast<int64_t>(store_options.memory_bytes()));
  AZ_RETURN_IF_ERROR(RecoverRequests(*core));
  AZ_RETURN_IF_ERROR(RecoverCatalog(*core));
  AZ_FAILPOINT(kRecoverBeforeServe);
  return core;
}

absl::Status VerifyOrRepair(Core& core, const std::shared_ptr<Collection>& collection,
                            const std::shared_ptr<Segment>& segment, const CancelToken& cancel) {
  MutexLock lock(collection->repair_mu);
  // Another repair, or a merge, may have been faster.
  if (!IsListed(core, *collection, segment)) return absl::OkStatus();
  const absl::Status verified = segment->Verify(cancel);
  return absl::IsDataLoss(verified) ? Repair(core, collection, segment, verified) : verified;
}

absl::StatusOr<bool> RepairSuspects(Core& core, std::string_view name, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const auto collection, core.FindCollection(name));
  std::vector<std::shared_ptr<Segment>> suspects;
  {
    const ViewRegistry::Pin pin = core.views.PinNow();
    for (const auto& segment : collection->segments().segments) {
      if (segment->suspect()) suspects.push_back(segment);
    }
  }
  for (const auto& segment : suspects) {
    AZ_RETURN_IF_ERROR(VerifyOrRepair(core, collection, segment, cancel));
  }
  return !suspects.empty();
}

}  // namespace azimuth::engine
