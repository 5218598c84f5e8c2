// What the other files of storage need of an open Store. Internal to storage.
//
// Thread safety: as rocksdb::DB.
#pragma once

#include "base/mutex.h"
#include "storage/rocks_options.h"
#include "storage/row_entries.h"
#include "storage/store.h"

#include "rocksdb/db.h"

namespace azimuth::storage {

struct StoreAccess {
  static rocksdb::DB& Db(const Store& store);
  static rocksdb::ColumnFamilyHandle* Handle(const Store& store, Family family);
  // Held while a commit, with its row tables, is written.
  static Mutex& LogMu(const Store& store);
  // Null for none.
  static const rocksdb::Snapshot* SnapshotOf(const ReadSnapshot* snapshot);
};

// Where entries of a kind lie.
inline Family FamilyOf(RowEntryKind kind) {
  switch (kind) {
    case RowEntryKind::kRow:
      return Family::kRows;
    case RowEntryKind::kVector:
      return Family::kVectors;
    case RowEntryKind::kKey:
      return Family::kKeys;
    case RowEntryKind::kRetired:
      return Family::kRetired;
  }
  return Family::kRows;
}

}  // namespace azimuth::storage
