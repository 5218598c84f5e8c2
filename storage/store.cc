#include "storage/store.h"

#include "base/status.h"
#include "base/strings.h"
#include "storage/commit_batch.h"
#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "storage/rocks_files.h"
#include "storage/rocks_options.h"
#include "storage/rocks_status.h"

#include "rocksdb/db.h"
#include "rocksdb/listener.h"

#include <algorithm>
#include <atomic>
#include <cstring>
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

// Syncs the log that was written so far before the first write into the next one.
//
// RocksDB begins a new log whenever a memtable is full. Commits that asked for no sync would then
// lie in two logs that the system writes out in any order, and a power failure could take commits
// out of the middle: of the old log's end, but not of the new log. Only a lost end is no damage.
class LogSyncer final : public rocksdb::EventListener {
 public:
  // Null while there is no open database.
  void SetDb(rocksdb::DB* db) { db_.store(db); }
  // Called by the thread that writes, after the new log was made and before it is written.
  void OnMemTableSealed(const rocksdb::MemTableInfo& /*info*/) override {
    rocksdb::DB* const db = db_.load();
    // After an error RocksDB itself refuses the writes that follow.
    if (db != nullptr) db->SyncWAL().PermitUncheckedError();
  }

 private:
  std::atomic<rocksdb::DB*> db_ = nullptr;
};

struct Store::Rep {
  std::unique_ptr<rocksdb::Env> env;  // Outlives the database.
  std::unique_ptr<rocksdb::DB> db;
  std::shared_ptr<LogSyncer> log_syncer = std::make_shared<LogSyncer>();
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
    log_syncer->SetDb(nullptr);
    const rocksdb::Status status = db->Close();
    if (first.ok()) first = status;
    db.reset();
    return first;
  }

  rocksdb::ColumnFamilyHandle* handle(Family family) const {
    return handles[static_cast<size_t>(family)];
  }

  // One value; nullopt if the key is not there.
  absl::StatusOr<std::optional<std::string>> Get(Family family, const std::string& key,
                                                 std::string_view what) const {
    std::string value;
    const rocksdb::Status status = db->Get(rocksdb::ReadOptions(), handle(family), key, &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok()) return FromRocks(absl::StrFormat("read %s", what), status);
    return std::optional<std::string>(std::move(value));
  }

  // Calls visit(key, value) for every entry of the range, in order, as of the call.
  template <typename Visit>
  absl::Status Scan(Family family, const KeyRange& range, std::string_view what,
                    const Visit& visit) const {
    rocksdb::ReadOptions options = MakeScanOptions();
    const rocksdb::Slice end(range.end);
    if (!range.end.empty()) options.iterate_upper_bound = &end;
    const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options, handle(family)));
    for (it->Seek(range.first); it->Valid(); it->Next()) {
      AZ_RETURN_IF_ERROR(visit(ToView(it->key()), ToView(it->value())));
    }
    // An iterator that met an error is not valid either.
    return FromRocks(absl::StrFormat("scan %s", what), it->status());
  }

  // Reads `count` keys in chunks. append_key(i, buffer) appends key i; take(i, value) is called for
  // each that is there; place(i) names it in errors.
  template <typename AppendKey, typename Take, typename Place>
  absl::Status MultiGet(Family family, const ReadSnapshot* snapshot, size_t count,
                        const AppendKey& append_key, const Take& take, const Place& place) const {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot == nullptr ? nullptr : snapshot->rep_->snapshot;
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

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path,
                                                   const StoreOptions& options) {
  // RocksDB syncs what it makes in its directory, but not the name of the directory itself.
  Files& files = options.files == nullptr ? Files::Posix() : *options.files;
  AZ_RETURN_IF_ERROR(files.MakeDir(path));
  AZ_RETURN_IF_ERROR(files.SyncDir(ParentDirectory(path)));
  auto rep = std::make_unique<Rep>();
  rocksdb::DB* db = nullptr;
  const std::shared_ptr<rocksdb::Cache> cache = MakeCache(options);
  rocksdb::DBOptions db_options = MakeDbOptions(options, cache);
  db_options.listeners.push_back(rep->log_syncer);
  rep->env = MakeOrderedEnv(options.files == nullptr ? nullptr : options.files->rocks_env());
  db_options.env = rep->env.get();
  const rocksdb::Status status =
      rocksdb::DB::Open(db_options, path, MakeFamilies(options, cache), &rep->handles, &db);
  if (!status.ok()) return FromRocks(absl::StrFormat("open the database in %s", path), status);
  rep->db.reset(db);
  rep->log_syncer->SetDb(db);
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
  rocksdb::WriteOptions options;
  options.sync = sync;
  return FromRocksWrite("commit", rep_->db->Write(options, &batch.rep_->batch));
}

absl::StatusOr<std::vector<CollectionEntry>> Store::ListCollections() const {
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
  AZ_RETURN_IF_ERROR(rep_->Scan(Family::kCatalog, CollectionsRange(), "the collections", visit));
  return entries;
}

absl::StatusOr<std::vector<SegmentEntry>> Store::ListSegments() const {
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
  AZ_RETURN_IF_ERROR(rep_->Scan(Family::kCatalog, SegmentsRange(), "the segments", visit));
  return entries;
}

absl::StatusOr<std::vector<RequestEntry>> Store::ListRequests() const {
  std::vector<RequestEntry> entries;
  const auto visit = [&](std::string_view key, std::string_view value) -> absl::Status {
    AZ_ASSIGN_OR_RETURN(RequestEntry entry, WithPlace(absl::StrFormat("request id %s", Quoted(key)),
                                                      DecodeRequestEntry(value)));
    entry.id = key;
    entries.push_back(std::move(entry));
    return absl::OkStatus();
  };
  AZ_RETURN_IF_ERROR(rep_->Scan(Family::kRequests, AllKeys(), "the remembered requests", visit));
  return entries;
}

absl::StatusOr<NextIds> Store::GetNextIds() const {
  AZ_ASSIGN_OR_RETURN(const auto value, rep_->Get(Family::kMeta, NextIdsKey(), "the next ids"));
  if (!value.has_value()) return NextIds{};
  return DecodeNextIds(*value);
}

absl::StatusOr<Seq> Store::GetAppliedSeq() const {
  AZ_ASSIGN_OR_RETURN(const auto value,
                      rep_->Get(Family::kMeta, AppliedSeqKey(), "the applied position"));
  if (!value.has_value()) return kSeqZero;
  return WithPlace("the applied position", DecodeSeq(*value));
}

absl::StatusOr<RowStoreCounters> Store::GetCounters(RowStoreId store) const {
  const std::string place = absl::StrFormat("the counters of row store %d", Raw(store));
  AZ_ASSIGN_OR_RETURN(const auto value, rep_->Get(Family::kMeta, CountersKey(store), place));
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
                             const std::function<absl::Status(RowId, StoredRow&&)>& visit) const {
  if (range.first >= range.end) return absl::OkStatus();
  const KeyRange keys{RowKey(store, range.first), RowKey(store, range.end)};
  return rep_->Scan(Family::kRows, keys, absl::StrFormat("the rows of row store %d", Raw(store)),
                    [&](std::string_view key, std::string_view value) -> absl::Status {
                      AZ_ASSIGN_OR_RETURN(const RowId row, RowOfKey(key, kRowKeyBytes));
                      AZ_ASSIGN_OR_RETURN(StoredRow stored,
                                          WithPlace(RowPlace(store, row), DecodeRow(value)));
                      return visit(row, std::move(stored));
                    });
}

absl::Status Store::ScanVectors(
    RowStoreId store, FieldId field, RowRange range,
    const std::function<absl::Status(RowId, std::span<const float>)>& visit) const {
  if (range.first >= range.end) return absl::OkStatus();
  const KeyRange keys{VectorKey(store, field, range.first), VectorKey(store, field, range.end)};
  std::vector<float> vector;
  return rep_->Scan(
      Family::kVectors, keys,
      absl::StrFormat("the vectors of row store %d, field %d", Raw(store), Raw(field)),
      [&](std::string_view key, std::string_view value) -> absl::Status {
        AZ_ASSIGN_OR_RETURN(const RowId row, RowOfKey(key, kVectorKeyBytes));
        if (absl::Status status = ToFloats(value, vector); !status.ok()) {
          return AtPlace(VectorPlace(store, field, row), status);
        }
        return visit(row, vector);
      });
}

absl::Status Store::ScanRetired(RowStoreId store,
                                const std::function<absl::Status(RowId, Seq)>& visit) const {
  return rep_->Scan(Family::kRetired, RowStoreRange(store),
                    absl::StrFormat("the retirements of row store %d", Raw(store)),
                    [&](std::string_view key, std::string_view value) -> absl::Status {
                      AZ_ASSIGN_OR_RETURN(const RowId row, RowOfKey(key, kRowKeyBytes));
                      AZ_ASSIGN_OR_RETURN(const Seq seq,
                                          WithPlace(RowPlace(store, row), DecodeSeq(value)));
                      return visit(row, seq);
                    });
}

absl::Status Store::Close() {
  const rocksdb::Status flushed = rep_->db->Flush(rocksdb::FlushOptions(), rep_->handles);
  const rocksdb::Status released = rep_->Release();
  AZ_RETURN_IF_ERROR(FromRocksWrite("flush before closing", flushed));
  return FromRocksWrite("close", released);
}

}  // namespace azimuth::storage
