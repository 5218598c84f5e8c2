#include "engine/recover.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/maintenance.h"
#include "engine/recover_damage.h"
#include "engine/row_loader.h"
#include "engine/segment/build_job.h"
#include "engine/segment/replace_commit.h"
#include "engine/segment/sealed.h"
#include "engine/snapshot/restore_snapshot.h"
#include "storage/file.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

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

// A file that was written while rows were read again. So a start that dies goes on from there.
absl::Status NameInCatalog(Core& core, const storage::SegmentEntry& entry) {
  core.next_ids.segment = SegmentId{core.next_segment.load()};
  storage::CommitBatch batch;
  batch.PutSegment(entry);
  batch.PutNextIds(core.next_ids);
  return core.store->Commit(batch, /*sync=*/true);
}

// What a start that finds no room for it, or may not write, can do without.
absl::Status CommitIfRoom(Core& core, storage::CommitBatch& batch) {
  if (!core.durability->CheckWritable().ok()) return absl::OkStatus();
  const absl::Status status = core.store->Commit(batch, /*sync=*/true);
  return absl::IsResourceExhausted(status) ? absl::OkStatus() : status;
}

// `ids_end`: past all ids of rows that segments and retirements name.
absl::Status RecoverCounters(Core& core, Collection& collection, RowId ids_end) {
  const RowId end = std::max(ids_end, collection.ids_end);
  AZ_ASSIGN_OR_RETURN(const RecoveredCounters recovered,
                      ReadCounters(*core.store, collection.row_store, end));
  const storage::RowStoreCounters* counters = &recovered.counters;
  if (!recovered.damage.ok()) {
    core.durability->OnDamage(recovered.damage);
    // For snapshots, which read what is written. On a full disk the next write does it.
    storage::CommitBatch batch;
    batch.PutCounters(collection.row_store, *counters);
    AZ_RETURN_IF_ERROR(CommitIfRoom(core, batch));
  }
  collection.next_row = counters->next_row;
  collection.live_rows.store(counters->live_rows);
  return absl::OkStatus();
}

absl::Status RecoverCollection(Core& core, Collection& collection,
                               const std::vector<storage::SegmentEntry>& entries,
                               std::set<std::string>& known_files) {
  std::vector<RowId> retired;
  const absl::Status retired_read =
      core.store->ScanRetired(collection.row_store, [&](RowId row, Seq seq) {
        collection.retired.Retire(row, seq);
        retired.push_back(row);
        return absl::OkStatus();
      });
  if (!retired_read.ok() && !absl::IsDataLoss(retired_read)) return retired_read;
  RowId ids_end = retired.empty() ? RowId{} : Next(retired.back());
  for (const auto& entry : entries) ids_end = std::max(ids_end, entry.rows.end);
  AZ_RETURN_IF_ERROR(RecoverCounters(core, collection, ids_end));

  AZ_ASSIGN_OR_RETURN(const auto segments, OpenSegments(core, collection, entries, known_files));
  SegmentSet set;
  RowId covered_to{};
  const CancelToken no_cancel;
  const auto load_up_to = [&](RowId end, bool is_last) -> absl::Status {
    if (covered_to >= end) return absl::OkStatus();
    const auto on_file = [&](const storage::SegmentEntry& entry) {
      known_files.insert(core.dir.segment_path(entry.id));
      return NameInCatalog(core, entry);
    };
    RowLoader loader(core, collection, {covered_to, end}, RowLoader::Form::kMemoryFirst,
                     RowsInMemory(set.segments), on_file, no_cancel);
    AZ_RETURN_IF_ERROR(loader.Load());
    AZ_RETURN_IF_ERROR(loader.Close(/*keep_growing=*/is_last));
    collection.damaged_rows += loader.damaged();
    if (is_last) collection.growing = loader.growing();
    set.segments.insert(set.segments.end(), loader.segments().begin(), loader.segments().end());
    return absl::OkStatus();
  };
  for (const auto& segment : segments) {
    AZ_RETURN_IF_ERROR(load_up_to(segment->rows().first, false));
    set.segments.push_back(segment);
    covered_to = segment->rows().end;
  }
  AZ_RETURN_IF_ERROR(load_up_to(collection.next_row, true));
  if (!retired_read.ok()) {
    core.durability->OnDamage(retired_read);
    AZ_RETURN_IF_ERROR(RetireUnreached(*core.store, collection.row_store, set,
                                       core.views.published(), collection.retired));
  }
  for (const auto& segment : set.segments) {
    MarkRetiredRows(collection.retired, *segment);
    collection.next_sweep_us =
        std::min(collection.next_sweep_us.load(), segment->earliest_expiry());
  }
  collection.unindexed_rows = RowsInMemory(set.segments);
  if (retired_read.ok() && core.durability->CheckWritable().ok()) {
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

// Earlier servers did not write of which row store a load is: that of the collection, until now.
absl::Status NameRowStores(Core& core, std::vector<storage::RequestEntry>& requests) {
  storage::CommitBatch batch;
  bool named = false;
  for (storage::RequestEntry& request : requests) {
    if (!IsLoadEntry(request.id) || !request.digest.empty()) continue;
    const std::optional<CollectionId> id = CollectionOfLoad(request.id);
    const CollectionMap& collections = core.collections();
    const auto it = std::find_if(collections.begin(), collections.end(),
                                 [&](const auto& entry) { return entry.second->id == id; });
    if (it == collections.end()) continue;
    request.digest = LoadEntryDigest(it->second->row_store);
    batch.PutRequest(request);
    named = true;
  }
  return named ? CommitIfRoom(core, batch) : absl::OkStatus();
}

// In order of arrival, as they were added. Without them a write that is sent again is a new one,
// which is no reason to serve nothing.
absl::Status RecoverRequests(Core& core) {
  auto requests = core.store->ListRequests();
  if (absl::IsDataLoss(requests.status())) {
    LogError("the request ids of earlier writes cannot be read and are forgotten");
    core.durability->OnDamage(requests.status());
    return absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(requests.status());
  std::sort(requests->begin(), requests->end(),
            [](const auto& a, const auto& b) { return a.at_unix_us < b.at_unix_us; });
  AZ_RETURN_IF_ERROR(NameRowStores(core, *requests));
  for (storage::RequestEntry& request : *requests) {
    RequestMemory& memory = IsLoadEntry(request.id) ? core.loads : core.requests;
    memory.Add(std::move(request));
  }
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
absl::StatusOr<std::unique_ptr<storage::Store>> OpenStore(storage::DataDir& dir,
                                                          const DatabaseOptions& database_options,
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
  // First the incarnation: once the log is opened the damage is gone, and a start after a death
  // would not see that numbers were lost.
  AZ_RETURN_IF_ERROR(dir.ChangeIncarnation(database_options.random));
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
  AZ_ASSIGN_OR_RETURN(opened.store, OpenStore(dir, options, store_options, mark, accepts, lost));
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
  if (!lost || accepts) AZ_RETURN_IF_ERROR(opened.store->RemoveLeftovers(/*everywhere=*/lost));
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
    collection->ids_end = entry.ids_end;
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

bool IsListed(Core& core, const Collection& collection, const std::shared_ptr<Segment>& segment) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  const auto& segments = collection.segments().segments;
  return std::find(segments.begin(), segments.end(), segment) != segments.end();
}

void RemoveFiles(const Core& core, const std::vector<storage::SegmentEntry>& files) {
  for (const storage::SegmentEntry& file : files) {
    // Else the next start does it.
    storage::RemoveFile(core.dir.segment_path(file.id), core.files()).IgnoreError();
  }
}

absl::Status Repair(Core& core, const std::shared_ptr<Collection>& collection,
                    const std::shared_ptr<Segment>& segment, const absl::Status& why,
                    const CancelToken& cancel) {
  if (!core.durability->CheckWritable().ok()) return why;
  std::vector<storage::SegmentEntry> files;
  const auto on_file = [&](const storage::SegmentEntry& entry) {
    files.push_back(entry);
    return absl::OkStatus();
  };
  RowLoader loader(core, *collection, segment->rows(), RowLoader::Form::kFiles,
                   collection->unindexed_rows.load(), on_file, cancel);
  absl::Status status = loader.Load();
  if (status.ok()) status = loader.Close(/*keep_growing=*/false);
  if (!status.ok()) {
    RemoveFiles(core, files);
    // A disk that does not give back what was just written is no better than the bad file.
    const absl::StatusCode code = absl::IsInternal(status) ? why.code() : status.code();
    return absl::Status(code,
                        absl::StrCat("it is bad and its rows cannot be read and written again: ",
                                     why.message(), "; ", status.message()));
  }
  // A merge was faster; then the file was removed since nobody needs it.
  if (!IsListed(core, *collection, segment)) {
    RemoveFiles(core, files);
    return absl::OkStatus();
  }
  // First aside, then out of the catalog: a start in between finds no file and reads the rows
  // again.
  Quarantine(core, segment->id(), why);
  AZ_FAILPOINT(kQuarantineBeforeCatalog);
  ReplaceCommit replace(core, collection, {segment}, loader.segments(), files, {});
  status = replace.Publish();
  // Unavailable: nobody knows whether they are named, and a start decides by the catalog.
  if (!status.ok() && !absl::IsUnavailable(status)) RemoveFiles(core, files);
  if (absl::IsAborted(status)) return absl::OkStatus();  // A merge was faster.
  AZ_RETURN_IF_ERROR(status);
  collection->damaged_rows += loader.damaged();
  for (const auto& made : replace.replacements()) {
    if (made->state() == SegmentState::kSealed) core.scrubber.Add(collection, made);
  }
  NoteActive(core, collection, INT64_MAX);
  ScheduleBuild(core, collection);
  return absl::OkStatus();
}

// One at a time verifies and repairs segments of a collection.
class RepairTurn final {
 public:
  explicit RepairTurn(Collection& collection) : collection_(collection) {}
  RepairTurn(const RepairTurn&) = delete;
  RepairTurn& operator=(const RepairTurn&) = delete;
  ~RepairTurn() {
    if (!mine_) return;
    MutexLock lock(collection_.repair_mu);
    collection_.repairing = false;
    collection_.repair_done.NotifyAll();
  }

  absl::Status Wait(const CancelToken& cancel) {
    constexpr std::chrono::milliseconds kLookAgain{50};
    MutexLock lock(collection_.repair_mu);
    while (collection_.repairing) {
      AZ_RETURN_IF_ERROR(cancel.Check());
      collection_.repair_done.WaitUntil(
          collection_.repair_mu,
          std::min(cancel.deadline(), std::chrono::steady_clock::now() + kLookAgain));
    }
    collection_.repairing = true;
    mine_ = true;
    return absl::OkStatus();
  }

 private:
  Collection& collection_;
  bool mine_ = false;
};

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
  disk->Refresh();  // RocksDB needs room to open: on a full disk the ballast is for it.
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
  AZ_RETURN_IF_ERROR(RecoverCatalog(*core));
  AZ_RETURN_IF_ERROR(RecoverRequests(*core));
  RecoverRestores(*core);
  AZ_FAILPOINT(kRecoverBeforeServe);
  return core;
}

absl::Status VerifyOrRepair(Core& core, const std::shared_ptr<Collection>& collection,
                            const std::shared_ptr<Segment>& segment, const CancelToken& cancel) {
  RepairTurn turn(*collection);
  AZ_RETURN_IF_ERROR(turn.Wait(cancel));
  // Another repair, or a merge, may have been faster.
  if (!IsListed(core, *collection, segment)) return absl::OkStatus();
  absl::Status bad = segment->suspicion();
  if (bad.ok()) bad = segment->Verify(cancel);
  if (!absl::IsDataLoss(bad)) return bad;
  // Meanwhile, too: then its file was removed, and is not bad.
  if (!IsListed(core, *collection, segment)) return absl::OkStatus();
  // To the end, although the deadline of the caller may pass: each one would begin anew.
  const CancelToken until_gone(CancelToken::TimePoint::max(), [&core, &collection] {
    return core.closing.load() || collection->dropped.load();
  });
  return Repair(core, collection, segment, bad, until_gone);
}

absl::StatusOr<bool> RepairSuspects(Core& core, std::string_view name, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const auto collection, core.FindCollection(name));
  std::vector<std::shared_ptr<Segment>> suspects;
  {
    const ViewRegistry::Pin pin = core.views.PinNow();
    for (const auto& segment : collection->segments().segments) {
      if (!segment->suspicion().ok()) suspects.push_back(segment);
    }
  }
  for (const auto& segment : suspects) {
    AZ_RETURN_IF_ERROR(VerifyOrRepair(core, collection, segment, cancel));
  }
  return !suspects.empty();
}

}  // namespace azimuth::engine
