// The writing side of the Store: commits, and the row tables that go before them.
#include "base/failpoint.h"
#include "storage/commit_batch.h"
#include "storage/store_rep.h"

#include "absl/strings/str_cat.h"

#include <string>
#include <utility>

namespace azimuth::storage {
namespace {

// Rows that one note allows for: one synced write for so many.
constexpr uint64_t kRowsReserved = uint64_t{1} << 20;

// Whether the family has a key in [first, end).
absl::StatusOr<bool> HasKeys(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* handle,
                             const std::string& first, const std::string& end) {
  rocksdb::ReadOptions options;
  const rocksdb::Slice bound(end);
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator(options, handle));
  it->Seek(first);
  if (it->Valid()) return true;
  AZ_RETURN_IF_ERROR(FromRocks("look for rows that no commit leads to", it->status()));
  return false;
}

}  // namespace

absl::Status Store::Commit(CommitBatch& batch, bool sync) {
  const rocksdb::Status& refused = batch.rep_->error;
  if (!refused.ok()) {
    // Nothing was written: RocksDB refused the change when it was added to the batch.
    return InvalidArgument("cannot commit: %s", refused.ToString());
  }
  const MutexLock lock(rep_->log_mu);
  AZ_RETURN_IF_ERROR(rep_->Prepare());
  AZ_RETURN_IF_ERROR(rep_->DeleteUnwanted());
  if (batch.rep_->tables != nullptr && !batch.rep_->tables->empty()) {
    AZ_RETURN_IF_ERROR(rep_->TakeIn(*batch.rep_->tables->rep_));
  }
  rocksdb::WriteOptions options;
  options.sync = sync;
  AZ_RETURN_IF_ERROR(
      rep_->Noted(FromRocksWrite("commit", rep_->db->Write(options, &batch.rep_->batch))));
  rep_->unwanted.clear();
  // It may have begun a new log whose name is not on disk.
  return rep_->CheckNotFailed();
}

std::unique_ptr<RowTables> Store::NewRowTables() {
  auto rep = std::make_unique<RowTables::Rep>();
  rep->db = rep_->db.get();
  rep->handles = &rep_->handles;
  rep->path_prefix = absl::StrCat(rep_->intake_path, "/",
                                  rep_->tables_made.fetch_add(1, std::memory_order_relaxed), "-");
  return std::unique_ptr<RowTables>(new RowTables(std::move(rep)));
}

absl::Status Store::TakeIn(RowTables& tables) {
  const MutexLock lock(rep_->log_mu);
  AZ_RETURN_IF_ERROR(rep_->Prepare());
  const size_t before = rep_->unwanted.size();
  AZ_RETURN_IF_ERROR(rep_->TakeIn(*tables.rep_));
  rep_->unwanted.resize(before);
  return rep_->CheckNotFailed();
}

absl::Status Store::Rep::Prepare() {
  AZ_RETURN_IF_ERROR(CheckWritable());
  AZ_RETURN_IF_ERROR(Heal());
  return events->memtables_empty() ? FillMemtables() : absl::OkStatus();
}

absl::Status Store::Rep::TakeIn(RowTables::Rep& tables) {
  AZ_RETURN_IF_ERROR(tables.Finish());
  AZ_RETURN_IF_ERROR(Reserve(tables.ends));
  AZ_FAILPOINT(kTablesBeforeTakeIn);
  const std::vector<RowTables::Range> ranges = tables.Ranges();
  unwanted.insert(unwanted.end(), ranges.begin(), ranges.end());
  AZ_RETURN_IF_ERROR(
      Noted(FromRocksWrite("take in row tables", db->IngestExternalFiles(tables.Arguments()))));
  AZ_FAILPOINT(kTablesAfterTakeIn);
  return absl::OkStatus();
}

absl::Status Store::Rep::Reserve(const std::map<RowStoreId, RowId>& ends) {
  rocksdb::WriteBatch note;
  std::map<RowStoreId, RowId> reserved;
  for (const auto& [store, end] : ends) {
    const auto it = tables_ends.find(store);
    if (it != tables_ends.end() && end <= it->second) continue;
    reserved[store] = RowId{Raw(end) + kRowsReserved};
    AZ_RETURN_IF_ERROR(FromRocksWrite(
        "note row tables",
        note.Put(handle(Family::kMeta), TablesEndKey(store), EncodeRowId(reserved[store]))));
  }
  if (reserved.empty()) return absl::OkStatus();
  rocksdb::WriteOptions options;
  options.sync = true;
  AZ_RETURN_IF_ERROR(Noted(FromRocksWrite("note row tables", db->Write(options, &note))));
  for (const auto& [store, end] : reserved) tables_ends[store] = end;
  return CheckNotFailed();
}

absl::StatusOr<std::vector<std::pair<RowStoreId, RowId>>> Store::ListTablesEnds(
    const ReadSnapshot* snapshot) const {
  std::vector<std::pair<RowStoreId, RowId>> ends;
  const auto visit = [&](std::string_view key, std::string_view value) -> absl::Status {
    AZ_ASSIGN_OR_RETURN(const RowStoreId store, ParseTablesEndKey(key));
    AZ_ASSIGN_OR_RETURN(const RowId end, DecodeRowId(value));
    ends.emplace_back(store, end);
    return absl::OkStatus();
  };
  AZ_RETURN_IF_ERROR(
      rep_->Scan(Family::kMeta, AllTablesEndsRange(), "the notes of row tables", snapshot, visit));
  return ends;
}

absl::Status Store::RemoveLeftovers(bool everywhere) {
  AZ_ASSIGN_OR_RETURN(const auto ends, ListTablesEnds());
  std::set<RowStoreId> stores;
  for (const auto& entry : ends) stores.insert(entry.first);
  if (everywhere) {
    AZ_ASSIGN_OR_RETURN(const auto all, ListRowStores());
    stores.insert(all.begin(), all.end());
  }
  if (stores.empty()) return absl::OkStatus();
  const MutexLock lock(rep_->log_mu);
  for (const RowStoreId store : stores) {
    const absl::StatusOr<RowStoreCounters> counters = GetCounters(store);
    if (absl::IsDataLoss(counters.status())) continue;  // Nobody knows which rows are left over.
    AZ_RETURN_IF_ERROR(counters.status());
    // Nor where they are not there, and rows are: not even a damaged store must lose those here.
    if (counters->next_row == RowId{}) {
      const KeyRange all = RowStoreRange(store);
      const auto has = HasKeys(*rep_->db, rep_->handle(Family::kKeys), all.first, all.end);
      if (absl::IsDataLoss(has.status())) continue;
      AZ_RETURN_IF_ERROR(has.status());
      if (*has) continue;
    }
    std::vector<RowTables::Range> leftovers;
    const absl::Status found = rep_->FindRowsFrom(store, counters->next_row, leftovers);
    if (absl::IsDataLoss(found)) continue;  // Rows without their vectors are no less damaged.
    AZ_RETURN_IF_ERROR(found);
    rep_->unwanted.insert(rep_->unwanted.end(), leftovers.begin(), leftovers.end());
    rep_->unwanted.push_back(
        {Family::kMeta, TablesEndKey(store), TablesEndKey(store) + std::string(1, '\0')});
  }
  absl::Status deleted = rep_->Prepare();
  if (deleted.ok()) deleted = rep_->DeleteUnwanted();
  // The first commit that finds room again does it.
  return absl::IsResourceExhausted(deleted) ? absl::OkStatus() : deleted;
}

absl::Status Store::Rep::DeleteUnwanted() {
  if (unwanted.empty()) return absl::OkStatus();
  rocksdb::WriteBatch batch;
  for (const RowTables::Range& range : unwanted) {
    AZ_RETURN_IF_ERROR(FromRocksWrite(
        "delete rows", batch.DeleteRange(handle(range.family), range.first, range.end)));
  }
  // Synced with the commit that it goes before; alone it is done again by the next start.
  AZ_RETURN_IF_ERROR(Noted(FromRocksWrite("delete rows", db->Write({}, &batch))));
  unwanted.clear();
  return CheckNotFailed();
}

absl::Status Store::Rep::FindRowsFrom(RowStoreId store, RowId first,
                                      std::vector<RowTables::Range>& ranges) const {
  const auto add = [&](Family family, std::string from, std::string end) -> absl::Status {
    AZ_ASSIGN_OR_RETURN(const bool has, HasKeys(*db, handle(family), from, end));
    if (has) ranges.push_back({family, std::move(from), std::move(end)});
    return absl::OkStatus();
  };
  const KeyRange all = RowStoreRange(store);
  AZ_RETURN_IF_ERROR(add(Family::kRows, RowKey(store, first), all.end));
  AZ_RETURN_IF_ERROR(add(Family::kRetired, RowKey(store, first), all.end));
  // Vectors stand in order of field.
  rocksdb::ReadOptions options;
  const rocksdb::Slice bound(all.end);
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options, handle(Family::kVectors)));
  for (it->Seek(all.first); it->Valid();) {
    AZ_ASSIGN_OR_RETURN(const FieldId field, FieldOfVectorKey(ToView(it->key())));
    const KeyRange vectors = VectorFieldRange(store, field);
    AZ_RETURN_IF_ERROR(add(Family::kVectors, VectorKey(store, field, first), vectors.end));
    it->Seek(vectors.end);
  }
  return FromRocks("look for rows that no commit leads to", it->status());
}

}  // namespace azimuth::storage
