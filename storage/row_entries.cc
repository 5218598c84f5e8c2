#include "storage/row_entries.h"

#include "base/bytes.h"
#include "base/status.h"
#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "storage/rocks_status.h"
#include "storage/store_access.h"

#include "rocksdb/utilities/checkpoint.h"

#include <memory>
#include <vector>

namespace azimuth::storage {
namespace {

// Before every key of the four families.
constexpr size_t kRowStoreBytes = sizeof(uint32_t);

std::string_view NameOf(RowEntryKind kind) {
  switch (kind) {
    case RowEntryKind::kRow:
      return "rows";
    case RowEntryKind::kVector:
      return "vectors";
    case RowEntryKind::kKey:
      return "keys";
    case RowEntryKind::kRetired:
      return "retirements";
  }
  return "entries";
}

// The parsers of whole keys are the only ones.
std::string WithRowStore(std::string_view key) {
  std::string whole;
  PutBig(whole, uint32_t{0});
  whole.append(key);
  return whole;
}

absl::StatusOr<bool> IsBelow(RowEntryKind kind, std::string_view key, RowId end) {
  if (kind == RowEntryKind::kKey) return true;  // They come with their commit.
  if (kind == RowEntryKind::kVector) {
    AZ_ASSIGN_OR_RETURN(const VectorEntryKey parsed, ParseVectorEntryKey(key));
    return parsed.row < end;
  }
  AZ_ASSIGN_OR_RETURN(const RowId row, ParseRowEntryKey(key));
  return row < end;
}

}  // namespace

absl::Status ScanRowEntries(const Store& store, RowStoreId row_store, RowId end,
                            const RowEntryVisitor& visit, const ReadSnapshot* snapshot) {
  const KeyRange range = RowStoreRange(row_store);
  const rocksdb::Slice upper_bound(range.end);
  for (const RowEntryKind kind : kRowEntryKinds) {
    rocksdb::ReadOptions options = MakeScanOptions();
    options.snapshot = StoreAccess::SnapshotOf(snapshot);
    options.iterate_upper_bound = &upper_bound;
    const std::unique_ptr<rocksdb::Iterator> it(
        StoreAccess::Db(store).NewIterator(options, StoreAccess::Handle(store, FamilyOf(kind))));
    for (it->Seek(range.first); it->Valid(); it->Next()) {
      const rocksdb::Slice key = it->key();
      const rocksdb::Slice value = it->value();
      if (key.size() < kRowStoreBytes) {
        return RowStoreOfKey({key.data(), key.size()}).status();
      }
      const auto entry_key = std::string_view(key.data(), key.size()).substr(kRowStoreBytes);
      AZ_ASSIGN_OR_RETURN(const bool below, IsBelow(kind, entry_key, end));
      if (!below) continue;
      AZ_RETURN_IF_ERROR(visit(kind, entry_key, std::string_view(value.data(), value.size())));
    }
    // An iterator that met an error is not valid either.
    AZ_RETURN_IF_ERROR(
        FromRocks(absl::StrFormat("scan the %s of row store %d", NameOf(kind), Raw(row_store)),
                  it->status()));
  }
  return absl::OkStatus();
}

absl::StatusOr<RowId> ParseRowEntryKey(std::string_view key) {
  return RowOfKey(WithRowStore(key), kRowKeyBytes);
}

absl::StatusOr<VectorEntryKey> ParseVectorEntryKey(std::string_view key) {
  ByteReader reader(key);
  uint32_t field = 0;
  AZ_ASSIGN_OR_RETURN(const RowId row, RowOfKey(WithRowStore(key), kVectorKeyBytes));
  if (!reader.Big(field)) return DataLoss("malformed key of a vector");
  return VectorEntryKey{.field = FieldId{field}, .row = row};
}

absl::StatusOr<Key> ParseKeyEntryKey(std::string_view key) {
  return ParseKeyKey(WithRowStore(key));
}

absl::StatusOr<KeyEntry> ParseKeyEntryValue(std::string_view value) {
  return DecodeKeyEntry(value);
}

absl::StatusOr<Seq> ParseRetiredValue(std::string_view value) {
  return DecodeSeq(value);
}

absl::Status MakeCheckpoint(const Store& store, const std::string& path, Files& files) {
  rocksdb::Checkpoint* made = nullptr;
  AZ_RETURN_IF_ERROR(FromRocksWrite("copy the database",
                                    rocksdb::Checkpoint::Create(&StoreAccess::Db(store), &made)));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  // Most of it before commits have to wait.
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  for (size_t i = 0; i < kFamilyCount; ++i) {
    handles.push_back(StoreAccess::Handle(store, static_cast<Family>(i)));
  }
  AZ_RETURN_IF_ERROR(
      FromRocksWrite("flush before a copy", StoreAccess::Db(store).Flush({}, handles)));
  {
    // RocksDB takes the tables first and then the end of the log, and so might have the commit of
    // rows whose row tables it lacks.
    const MutexLock lock(StoreAccess::LogMu(store));
    // A log size of zero: memtables are flushed, so that the copy does not lean on a log that may
    // not be synced.
    AZ_RETURN_IF_ERROR(
        FromRocksWrite(absl::StrFormat("copy the database to %s", path),
                       checkpoint->CreateCheckpoint(path, /*log_size_for_flush=*/0)));
  }
  AZ_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
  for (const std::string& name : names) {
    AZ_ASSIGN_OR_RETURN(const auto file, files.OpenForUpdate(path + "/" + name));
    AZ_RETURN_IF_ERROR(file->Sync());
  }
  return files.SyncDir(path);
}

}  // namespace azimuth::storage
