#include "storage/store.h"

#include "base/strings.h"
#include "storage/rocks_files.h"
#include "storage/store_access.h"
#include "storage/store_rep.h"

#include "rocksdb/convenience.h"
#include "rocksdb/metadata.h"

#include <cstring>
#include <functional>
#include <utility>

namespace azimuth::storage {
namespace {

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

ReadSnapshot::ReadSnapshot(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
ReadSnapshot::~ReadSnapshot() {
  rep_->db->ReleaseSnapshot(rep_->snapshot);
}

Store::Store(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
Store::~Store() = default;

rocksdb::DB& StoreAccess::Db(const Store& store) {
  return *store.rep_->db;
}
Mutex& StoreAccess::LogMu(const Store& store) {
  return store.rep_->log_mu;
}
rocksdb::ColumnFamilyHandle* StoreAccess::Handle(const Store& store, Family family) {
  return store.rep_->handle(family);
}
const rocksdb::Snapshot* StoreAccess::SnapshotOf(const ReadSnapshot* snapshot) {
  return snapshot == nullptr ? nullptr : snapshot->rep_->snapshot;
}

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

// Tables that a death left before they were taken in.
absl::Status RemoveAll(const std::string& folder, Files& files) {
  AZ_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(folder));
  for (const std::string& name : names) AZ_RETURN_IF_ERROR(files.Remove(folder + "/" + name));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path,
                                                   const StoreOptions& options) {
  Files& files = options.files == nullptr ? Files::Posix() : *options.files;
  AZ_RETURN_IF_ERROR(CheckNotHeadless(path, files));
  const std::string intake = path + "/" + std::string(kIntakeName);
  if (!options.read_only) {
    // RocksDB syncs what it makes in its directory, but not the name of the directory itself.
    AZ_RETURN_IF_ERROR(files.MakeDir(path));
    AZ_RETURN_IF_ERROR(files.SyncDir(ParentDirectory(path)));
    AZ_RETURN_IF_ERROR(files.MakeDir(intake));
    AZ_RETURN_IF_ERROR(RemoveAll(intake, files));
  }
  auto rep = std::make_unique<Rep>();
  rep->read_only = options.read_only;
  rep->intake_path = intake;
  rep->events = std::make_shared<StoreEvents>(options.listener);
  const std::shared_ptr<rocksdb::Cache> cache = MakeCache(options);
  rep->cache = cache;
  rocksdb::DBOptions db_options = MakeDbOptions(options, cache);
  db_options.listeners.push_back(rep->events);
  rep->env = MakeOrderedEnv(options.files == nullptr ? nullptr : options.files->rocks_env(), path);
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

absl::Status Store::SyncLog() {
  AZ_RETURN_IF_ERROR(rep_->CheckWritable());
  const MutexLock lock(rep_->log_mu);
  AZ_RETURN_IF_ERROR(rep_->Heal());
  return rep_->Noted(FromRocksWrite("sync the log", rep_->db->SyncWAL()));
}

uint64_t Store::memory_past_bound() const {
  const uint64_t used = rep_->cache->GetUsage();
  const uint64_t bound = rep_->cache->GetCapacity();
  return used > bound ? used - bound : 0;
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
