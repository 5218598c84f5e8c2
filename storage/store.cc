#include "storage/store.h"

#include "base/mutex.h"
#include "base/status.h"
#include "base/strings.h"
#include "storage/commit_batch.h"
#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "storage/rocks_files.h"
#include "storage/rocks_options.h"
#include "storage/rocks_resume.h"
#include "storage/rocks_status.h"
#include "storage/store_events.h"

#include "rocksdb/convenience.h"
#include "rocksdb/db.h"
#include "rocksdb/metadata.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <set>
#include <utility>

namespace azimuth::storage {
namespace {

// Keys of one MultiGet: bounds what it pins in memory.
constexpr size_t kMultiGetKeysMax = 1000;

std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

std::string RowPlace(RowStoreId store, RowId row) {
  return absl::StrFormat("row store %d, row %d", Raw(store), Raw(row));
}

std::string KeyPlace(RowStoreId store, const Key& key) {
  return absl::StrFormat("row store %d, key %s", Raw(store), KeyToText(key));
}

std::string VectorPlace(RowStoreId store, FieldId field, RowId row) {
  return absl::StrFormat("row store %d, vector field %d, row %d", Raw(store), Raw(field), Raw(row));
}

// Copies: RocksDB's bytes stand at any address.
absl::Status ToFloats(std::string_view bytes, std::vector<float>& out) {
  if (bytes.size() % sizeof(float) != 0) {
    return DataLoss("malformed vector: %d bytes are not a multiple of 4", bytes.size());
  }
  out.resize(bytes.size() / sizeof(float));
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

// What `result` holds; an error has the place before it.
template <typename T>
absl::StatusOr<T> WithPlace(std::string_view place, absl::StatusOr<T> result) {
  if (!result.ok()) return AtPlace(place, result.status());
  return result;
}

}  // namespace

struct ReadSnapshot::Rep {
  rocksdb::DB* db;
  const rocksdb::Snapshot* snapshot;
};

ReadSnapshot::ReadSnapshot(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
ReadSnapshot::~ReadSnapshot() {
  rep_->db->ReleaseSnapshot(rep_->snapshot);
}

struct Store::Rep {
  std::unique_ptr<rocksdb::Env> env;  // Outlives the database.
  std::unique_ptr<rocksdb::DB> db;
  std::shared_ptr<StoreEvents> events;
  bool read_only = false;
  // One thread at a time writes and syncs the log: RocksDB takes a sync of a log that a write has
  // just failed to for a mistake of the program.
  Mutex log_mu;
  std::atomic<bool> resumed = false;  // After a full disk, since it was opened.
  // Of TendFlushes, by its one thread: looks in a row that found something wrong.
  int looks = 0;
  uint64_t flushes_seen = 0;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;  // By Family; they die before the database.

  ~Rep() { Release().PermitUncheckedError(); }

  // Closes the handles and the database, once.
  rocksdb::Status Release() {
    if (db == nullptr) return rocksdb::Status::OK();
    rocksdb::Status first;
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      const rocksdb::Status status = db->DestroyColumnFamilyHandle(handle);
      if (first.ok()) first = status;
    }
    handles.clear();
    if (events != nullptr) events->SetDb(nullptr);
    const rocksdb::Status status = db->Close();
    if (first.ok()) first = status;
    db.reset();
    return first;
  }

  rocksdb::ColumnFamilyHandle* handle(Family family) const {
    return handles[static_cast<size_t>(family)];
  }

  static rocksdb::ReadOptions OptionsAt(const ReadSnapshot* snapshot,
                                        rocksdb::ReadOptions options = {}) {
    options.snapshot = snapshot == nullptr ? nullptr : snapshot->rep_->snapshot;
    return options;
  }

  absl::Status CheckWritable() const {
    if (!read_only) return absl::OkStatus();
    return absl::FailedPreconditionError("the database was opened to be read only");
  }

  absl::Status CheckNotFailed() const {
    if (!events->failed()) return absl::OkStatus();
    return absl::UnavailableError("a write or a sync has failed");
  }

  // Puts something into the memtables, so that they are not empty when the log meets a full disk.
  // To resume begins a new log if there is something to flush; but if there is nothing RocksDB
  // would go on with the old one, which it must not.
  absl::Status FillMemtables() {
    AZ_ASSIGN_OR_RETURN(const auto applied,
                        Get(Family::kMeta, AppliedSeqKey(), "the applied position", nullptr));
    rocksdb::WriteOptions unlogged;
    unlogged.disableWAL = true;
    // The same value once more, or what a new store answers.
    const rocksdb::Status put = db->Put(unlogged, handle(Family::kMeta), AppliedSeqKey(),
                                        applied.value_or(EncodeSeq(kSeqZero)));
    AZ_RETURN_IF_ERROR(Noted(FromRocksWrite("write a memtable", put)));
    events->MemtablesFilled();
    return absl::OkStatus();
  }

  absl::Status Resume() {
    return FromRocksWrite("go on after a full disk", ResumeDb(*db, handles, [this] {
                            // Else it is full again, and the resume comes to its end.
                            if (!events->needs_resume()) events->GiveUp();
                          }));
  }

  // Before the log is touched. Unavailable after a failure for good. After a full disk the database
  // is resumed, which begins a new log and flushes all that the old one has; ResourceExhausted
  // while there is no room for that.
  absl::Status Heal() AZ_REQUIRES(log_mu) {
    AZ_RETURN_IF_ERROR(CheckNotFailed());
    if (!events->needs_resume()) return absl::OkStatus();
    events->BeginResume();
    resumed.store(true);
    const absl::Status status = ResumeAll();
    if (!status.ok()) events->NeedResume();
    events->EndResume();
    return status;
  }

  absl::Status ResumeAll() {
    // Then the log was not left, though a write to it has failed: see FillMemtables.
    const bool same_log = events->memtables_empty();
    AZ_RETURN_IF_ERROR(Resume());
    if (!same_log) return absl::OkStatus();
    AZ_RETURN_IF_ERROR(FillMemtables());
    return Resume();
  }

  // The status of a write or a sync of the log. RocksDB may have told of a full disk before it
  // stored that error, so that it was not resumed from.
  absl::Status Noted(absl::Status status) const {
    if (absl::IsResourceExhausted(status)) events->NeedResume();
    return status;
  }

  // One value; nullopt if the key is not there.
  absl::StatusOr<std::optional<std::string>> Get(Family family, const std::string& key,
                                                 std::string_view what,
                                                 const ReadSnapshot* snapshot) const {
    std::string value;
    const rocksdb::Status status = db->Get(OptionsAt(snapshot), handle(family), key, &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok()) return FromRocks(absl::StrFormat("read %s", what), status);
    return std::optional<std::string>(std::move(value));
  }

  // Calls visit(key, value) for every entry of the range, in order, as of the call.
  template <typename Visit>
  absl::Status Scan(Family family, const KeyRange& range, std::string_view what,
                    const ReadSnapshot* snapshot, const Visit& visit) const {
    rocksdb::ReadOptions options = OptionsAt(snapshot, MakeScanOptions());
    const rocksdb::Slice end(range.end);
    if (!range.end.empty()) options.iterate_upper_bound = &end;
    const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options, handle(family)));
    for (it->Seek(range.first); it->Valid(); it->Next()) {
      AZ_RETURN_IF_ERROR(visit(ToView(it->key()), ToView(it->value())));
    }
    // An iterator that met an error is not valid either.
    return FromRocks(absl::StrFormat("scan %s", what), it->status());
  }

  // Adds the row stores that a family has entries of.
  absl::Status ListRowStores(Family family, const ReadSnapshot* snapshot,
                             std::set<RowStoreId>& stores) const {
    const std::unique_ptr<rocksdb::Iterator> it(
        db->NewIterator(OptionsAt(snapshot), handle(family)));
    for (it->SeekToFirst(); it->Valid();) {
      AZ_ASSIGN_OR_RETURN(const RowStoreId store, RowStoreOfKey(ToView(it->key())));
      stores.insert(store);
      it->Seek(RowStoreRange(store).end);
    }
    return FromRocks("list the row stores", it->status());
  }

  // Reads `count` keys in chunks. append_key(i, buffer) appends key i; take(i, value) is called for
  // each that is there; place(i) names it in errors.
  template <typename AppendKey, typename Take, typename Place>
  absl::Status MultiGet(Family family, const ReadSnapshot* snapshot, size_t count,
                        const AppendKey& append_key, const Take& take, const Place& place) const {
    const rocksdb::ReadOptions options = OptionsAt(snapshot);
    const size_t chunk_max = std::min(count, kMultiGetKeysMax);
    std::string buffer;
    std::vector<size_t> ends(chunk_max);
    std::vector<rocksdb::Slice> keys(chunk_max);
    std::vector<rocksdb::PinnableSlice> values(chunk_max);
    std::vector<rocksdb::Status> statuses(chunk_max);
    for (size_t first = 0; first < count; first += chunk_max) {
      const size_t chunk = std::min(chunk_max, count - first);
      buffer.clear();
      for (size_t i = 0; i < chunk; ++i) {
        append_key(first + i, buffer);
        ends[i] = buffer.size();
      }
      // Only now: the buffer no longer moves.
      for (size_t i = 0; i < chunk; ++i) {
        const size_t begin = i == 0 ? 0 : ends[i - 1];
        keys[i] = rocksdb::Slice(buffer.data() + begin, ends[i] - begin);
      }
      db->MultiGet(options, handle(family), chunk, keys.data(), values.data(), statuses.data());
      for (size_t i = 0; i < chunk; ++i) {
        if (statuses[i].IsNotFound()) continue;
        if (!statuses[i].ok()) return FromRocks("read " + place(first + i), statuses[i]);
        if (absl::Status taken = take(first + i, ToView(values[i])); !taken.ok()) {
          return AtPlace(place(first + i), taken);
        }
        values[i].Reset();
      }
    }
    return absl::OkStatus();
  }
};

Store::Store(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
Store::~Store() = default;

namespace {

// RocksDB makes a new database where CURRENT is missing, and removes the tables of the old one as
// files that nobody names.
absl::Status CheckNotHeadless(const std::string& path, Files& files) {
  const absl::StatusOr<std::vector<std::string>> names = files.List(path);
  if (absl::IsNotFound(names.status())) return absl::OkStatus();
  if (!names.ok()) return names.status();
  if (std::find(names->begin(), names->end(), "CURRENT") != names->end()) return absl::OkStatus();
  for (const std::string& name : *names) {
    // A death while the very first manifest was made leaves neither of the two.
    if (name.ends_with(".sst") || name.ends_with(".log")) {
      return NotFound("cannot open the database in %s: it has %s, but no file CURRENT", path, name);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path,
                                                   const StoreOptions& options) {
  Files& files = options.files == nullptr ? Files::Posix() : *options.files;
  AZ_RETURN_IF_ERROR(CheckNotHeadless(path, files));
  if (!options.read_only) {
    // RocksDB syncs what it makes in its directory, but not the name of the directory itself.
    AZ_RETURN_IF_ERROR(files.MakeDir(path));
    AZ_RETURN_IF_ERROR(files.SyncDir(ParentDirectory(path)));
  }
  auto rep = std::make_unique<Rep>();
  rep->read_only = options.read_only;
  rep->events = std::make_shared<StoreEvents>(options.listener);
  const std::shared_ptr<rocksdb::Cache> cache = MakeCache(options);
  rocksdb::DBOptions db_options = MakeDbOptions(options, cache);
  db_options.listeners.push_back(rep->events);
  rep->env = MakeOrderedEnv(options.files == nullptr ? nullptr : options.files->rocks_env());
  db_options.env = rep->env.get();
  rocksdb::DB* db = nullptr;
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = MakeFamilies(options, cache);
  const rocksdb::Status status =
      options.read_only
          ? rocksdb::DB::OpenForReadOnly(db_options, path, families, &rep->handles, &db)
          : rocksdb::DB::Open(db_options, path, families, &rep->handles, &db);
  if (!status.ok()) return FromRocks(absl::StrFormat("open the database in %s", path), status);
  rep->db.reset(db);
  if (!options.read_only) rep->events->SetDb(db);
  // A CommitBatch names families by number alone.
  for (size_t i = 0; i < kFamilyCount; ++i) {
    if (rep->handles[i]->GetID() != i) {
      return DataLoss("the database in %s: column family '%s' has number %d instead of %d", path,
                      rep->handles[i]->GetName(), rep->handles[i]->GetID(), i);
    }
  }
  return std::unique_ptr<Store>(new Store(std::move(rep)));
}

absl::Status Store::Commit(CommitBatch& batch, bool sync) {
  const rocksdb::Status& refused = batch.rep_->error;
  if (!refused.ok()) {
    // Nothing was written: RocksDB refused the change when it was added to the batch.
    return InvalidArgument("cannot commit: %s", refused.ToString());
  }
  AZ_RETURN_IF_ERROR(rep_->CheckWritable());
  const MutexLock lock(rep_->log_mu);
  AZ_RETURN_IF_ERROR(rep_->Heal());
  if (rep_->events->memtables_empty()) AZ_RETURN_IF_ERROR(rep_->FillMemtables());
  rocksdb::WriteOptions options;
  options.sync = sync;
  AZ_RETURN_IF_ERROR(
      rep_->Noted(FromRocksWrite("commit", rep_->db->Write(options, &batch.rep_->batch))));
  // It may have begun a new log whose name is not on disk.
  return rep_->CheckNotFailed();
}

absl::Status Store::SyncLog() {
  AZ_RETURN_IF_ERROR(rep_->CheckWritable());
  const MutexLock lock(rep_->log_mu);
  AZ_RETURN_IF_ERROR(rep_->Heal());
  return rep_->Noted(FromRocksWrite("sync the log", rep_->db->SyncWAL()));
}

void Store::TendFlushes() {
  // So often in a row something is wrong before it is taken to stay so.
  constexpr int kLooksMax = 600;
  StoreEvents& events = *rep_->events;
  if (!rep_->resumed.load() || rep_->db == nullptr) return;
  // A write or a sync that runs must not be waited for, but one that hangs has to be noticed. (A
  // resume that hangs ResumeDb notices.)
  bool wrong = false;
  if (!rep_->log_mu.TryLock()) {
    wrong = !events.resuming() && !events.needs_resume() && WritesHang(*rep_->db);
  } else {
    const bool stands = events.needs_resume() || events.failed();
    wrong = !stands && FlushIfLeft(*rep_->db, rep_->handles);
    rep_->log_mu.Unlock();
  }
  const uint64_t flushes = events.flushes();
  const bool progress = flushes != std::exchange(rep_->flushes_seen, flushes);
  rep_->looks = wrong && !progress ? rep_->looks + 1 : 0;
  if (rep_->looks == kLooksMax) events.GiveUp();
}

absl::StatusOr<std::vector<CollectionEntry>> Store::ListCollections(
    const ReadSnapshot* snapshot) const {
  std::vector<CollectionEntry> entries;
  const auto visit = [&](std::string_view key, std::string_view value) -> absl::Status {
    AZ_ASSIGN_OR_RETURN(const CollectionId id, ParseCollectionKey(key));
    AZ_ASSIGN_OR_RETURN(CollectionEntry entry,
                        WithPlace(absl::StrFormat("catalog, collection %d", Raw(id)),
                                  DecodeCollectionEntry(value)));
    entry.id = id;
    entries.push_back(std::move(entry));
    return absl::OkStatus();
  };
  AZ_RETURN_IF_ERROR(
      rep_->Scan(Family::kCatalog, CollectionsRange(), "the collections", snapshot, visit));
  return entries;
}

absl::StatusOr<std::vector<SegmentEntry>> Store::ListSegments(const ReadSnapshot* snapshot) const {
  std::vector<SegmentEntry> entries;
  const auto visit = [&](std::string_view key, std::string_view value) -> absl::Status {
    AZ_ASSIGN_OR_RETURN(const SegmentKeyParts parts, ParseSegmentKey(key));
    AZ_ASSIGN_OR_RETURN(SegmentEntry entry,
                        WithPlace(absl::StrFormat("catalog, segment %d", Raw(parts.id)),
                                  DecodeSegmentEntry(value)));
    entry.id = parts.id;
    entry.row_store = parts.store;
    entries.push_back(entry);
    return absl::OkStatus();
  };
  AZ_RETURN_IF_ERROR(
      rep_->Scan(Family::kCatalog, SegmentsRange(), "the segments", snapshot, visit));
  return entries;
}

absl::StatusOr<std::vector<RequestEntry>> Store::ListRequests(const ReadSnapshot* snapshot) const {
  std::vector<RequestEntry> entries;
  const auto visit = [&](std::string_view key, std::string_view value) -> absl::Status {
    AZ_ASSIGN_OR_RETURN(RequestEntry entry, WithPlace(absl::StrFormat("request id %s", Quoted(key)),
                                                      DecodeRequestEntry(value)));
    entry.id = key;
    entries.push_back(std::move(entry));
    return absl::OkStatus();
  };
  AZ_RETURN_IF_ERROR(
      rep_->Scan(Family::kRequests, AllKeys(), "the remembered requests", snapshot, visit));
  return entries;
}

absl::StatusOr<NextIds> Store::GetNextIds(const ReadSnapshot* snapshot) const {
  AZ_ASSIGN_OR_RETURN(const auto value,
                      rep_->Get(Family::kMeta, NextIdsKey(), "the next ids", snapshot));
  if (!value.has_value()) return NextIds{};
  return DecodeNextIds(*value);
}

absl::StatusOr<Seq> Store::GetAppliedSeq(const ReadSnapshot* snapshot) const {
  AZ_ASSIGN_OR_RETURN(const auto value,
                      rep_->Get(Family::kMeta, AppliedSeqKey(), "the applied position", snapshot));
  if (!value.has_value()) return kSeqZero;
  return WithPlace("the applied position", DecodeSeq(*value));
}

absl::StatusOr<RowStoreCounters> Store::GetCounters(RowStoreId store,
                                                    const ReadSnapshot* snapshot) const {
  const std::string place = absl::StrFormat("the counters of row store %d", Raw(store));
  AZ_ASSIGN_OR_RETURN(const auto value,
                      rep_->Get(Family::kMeta, CountersKey(store), place, snapshot));
  if (!value.has_value()) return RowStoreCounters{};
  return WithPlace(place, DecodeCounters(*value));
}

std::unique_ptr<ReadSnapshot> Store::TakeSnapshot() const {
  auto rep = std::make_unique<ReadSnapshot::Rep>();
  rep->db = rep_->db.get();
  rep->snapshot = rep_->db->GetSnapshot();
  return std::unique_ptr<ReadSnapshot>(new ReadSnapshot(std::move(rep)));
}

absl::StatusOr<std::vector<std::optional<KeyEntry>>> Store::LookUpKeys(
    RowStoreId store, std::span<const Key> keys, const ReadSnapshot* snapshot) const {
  std::vector<std::optional<KeyEntry>> entries(keys.size());
  AZ_RETURN_IF_ERROR(rep_->MultiGet(
      Family::kKeys, snapshot, keys.size(),
      [&](size_t i, std::string& buffer) { AppendKeyKey(store, keys[i], buffer); },
      [&](size_t i, std::string_view value) -> absl::Status {
        AZ_ASSIGN_OR_RETURN(entries[i], DecodeKeyEntry(value));
        return absl::OkStatus();
      },
      [&](size_t i) { return KeyPlace(store, keys[i]); }));
  return entries;
}

absl::StatusOr<std::vector<std::optional<StoredRow>>> Store::GetRows(
    RowStoreId store, std::span<const RowId> rows, const ReadSnapshot* snapshot) const {
  std::vector<std::optional<StoredRow>> result(rows.size());
  AZ_RETURN_IF_ERROR(rep_->MultiGet(
      Family::kRows, snapshot, rows.size(),
      [&](size_t i, std::string& buffer) { AppendRowKey(store, rows[i], buffer); },
      [&](size_t i, std::string_view value) -> absl::Status {
        AZ_ASSIGN_OR_RETURN(result[i], DecodeRow(value));
        return absl::OkStatus();
      },
      [&](size_t i) { return RowPlace(store, rows[i]); }));
  return result;
}

absl::StatusOr<std::vector<std::vector<float>>> Store::GetVectors(
    RowStoreId store, FieldId field, std::span<const RowId> rows,
    const ReadSnapshot* snapshot) const {
  std::vector<std::vector<float>> vectors(rows.size());
  AZ_RETURN_IF_ERROR(rep_->MultiGet(
      Family::kVectors, snapshot, rows.size(),
      [&](size_t i, std::string& buffer) { AppendVectorKey(store, field, rows[i], buffer); },
      [&](size_t i, std::string_view value) { return ToFloats(value, vectors[i]); },
      [&](size_t i) { return VectorPlace(store, field, rows[i]); }));
  return vectors;
}

absl::Status Store::ScanRows(RowStoreId store, RowRange range,
                             const std::function<absl::Status(RowId, StoredRow&&)>& visit,
                             const ReadSnapshot* snapshot) const {
  if (range.first >= range.end) return absl::OkStatus();
  const KeyRange keys{RowKey(store, range.first), RowKey(store, range.end)};
  return rep_->Scan(Family::kRows, keys, absl::StrFormat("the rows of row store %d", Raw(store)),
                    snapshot, [&](std::string_view key, std::string_view value) -> absl::Status {
                      AZ_ASSIGN_OR_RETURN(const RowId row, RowOfKey(key, kRowKeyBytes));
                      AZ_ASSIGN_OR_RETURN(StoredRow stored,
                                          WithPlace(RowPlace(store, row), DecodeRow(value)));
                      return visit(row, std::move(stored));
                    });
}

absl::Status Store::ScanVectors(
    RowStoreId store, FieldId field, RowRange range,
    const std::function<absl::Status(RowId, std::span<const float>)>& visit,
    const ReadSnapshot* snapshot) const {
  if (range.first >= range.end) return absl::OkStatus();
  const KeyRange keys{VectorKey(store, field, range.first), VectorKey(store, field, range.end)};
  std::vector<float> vector;
  return rep_->Scan(
      Family::kVectors, keys,
      absl::StrFormat("the vectors of row store %d, field %d", Raw(store), Raw(field)), snapshot,
      [&](std::string_view key, std::string_view value) -> absl::Status {
        AZ_ASSIGN_OR_RETURN(const RowId row, RowOfKey(key, kVectorKeyBytes));
        if (absl::Status status = ToFloats(value, vector); !status.ok()) {
          return AtPlace(VectorPlace(store, field, row), status);
        }
        return visit(row, vector);
      });
}

absl::Status Store::ScanRetired(RowStoreId store,
                                const std::function<absl::Status(RowId, Seq)>& visit,
                                const ReadSnapshot* snapshot) const {
  return rep_->Scan(Family::kRetired, RowStoreRange(store),
                    absl::StrFormat("the retirements of row store %d", Raw(store)), snapshot,
                    [&](std::string_view key, std::string_view value) -> absl::Status {
                      AZ_ASSIGN_OR_RETURN(const RowId row, RowOfKey(key, kRowKeyBytes));
                      AZ_ASSIGN_OR_RETURN(const Seq seq,
                                          WithPlace(RowPlace(store, row), DecodeSeq(value)));
                      return visit(row, seq);
                    });
}

absl::Status Store::ScanKeys(RowStoreId store,
                             const std::function<absl::Status(Key&&, const KeyEntry&)>& visit,
                             const ReadSnapshot* snapshot) const {
  return rep_->Scan(
      Family::kKeys, RowStoreRange(store), absl::StrFormat("the keys of row store %d", Raw(store)),
      snapshot, [&](std::string_view key, std::string_view value) -> absl::Status {
        AZ_ASSIGN_OR_RETURN(Key parsed, ParseKeyKey(key));
        AZ_ASSIGN_OR_RETURN(const KeyEntry entry,
                            WithPlace(KeyPlace(store, parsed), DecodeKeyEntry(value)));
        return visit(std::move(parsed), entry);
      });
}

absl::StatusOr<std::vector<RowStoreId>> Store::ListRowStores(const ReadSnapshot* snapshot) const {
  std::set<RowStoreId> stores;
  for (const Family family : {Family::kRows, Family::kVectors, Family::kKeys, Family::kRetired}) {
    AZ_RETURN_IF_ERROR(rep_->ListRowStores(family, snapshot, stores));
  }
  AZ_RETURN_IF_ERROR(rep_->Scan(Family::kMeta, AllCountersRange(), "the counters", snapshot,
                                [&](std::string_view key, std::string_view) -> absl::Status {
                                  AZ_ASSIGN_OR_RETURN(const RowStoreId store,
                                                      ParseCountersKey(key));
                                  stores.insert(store);
                                  return absl::OkStatus();
                                }));
  return std::vector<RowStoreId>(stores.begin(), stores.end());
}

absl::StatusOr<std::vector<absl::Status>> Store::CheckTables(const CancelToken& cancel) const {
  std::vector<absl::Status> bad;
  for (rocksdb::ColumnFamilyHandle* handle : rep_->handles) {
    rocksdb::ColumnFamilyMetaData family;
    rep_->db->GetColumnFamilyMetaData(handle, &family);
    const rocksdb::Options options = rep_->db->GetOptions(handle);
    for (const rocksdb::LevelMetaData& level : family.levels) {
      for (const rocksdb::SstFileMetaData& file : level.files) {
        AZ_RETURN_IF_ERROR(cancel.Check());
        const std::string path = file.directory + "/" + file.relative_filename;
        const rocksdb::Status status = rocksdb::VerifySstFileChecksum(
            options, rocksdb::EnvOptions(options), MakeScanOptions(), path);
        // Merged away meanwhile; then its blocks were read and compared by the merge.
        if (status.ok() || rep_->env->FileExists(path).IsNotFound()) continue;
        bad.push_back(FromRocks(absl::StrFormat("verify %s", path), status));
      }
    }
  }
  return bad;
}

absl::Status Store::Close() {
  AZ_RETURN_IF_ERROR(rep_->CheckWritable());
  const MutexLock lock(rep_->log_mu);
  AZ_RETURN_IF_ERROR(rep_->Heal());
  // After a full disk RocksDB does not wait for it; then the log has it all.
  const rocksdb::Status flushed = rep_->db->Flush(rocksdb::FlushOptions(), rep_->handles);
  const rocksdb::Status released = rep_->Release();
  AZ_RETURN_IF_ERROR(FromRocksWrite("flush before closing", flushed));
  return FromRocksWrite("close", released);
}

}  // namespace azimuth::storage
