// RowTables: sorted rows for a bulk load, written to table files of their own, which the database
// then takes in whole: past the write-ahead log, the memtables and their merges.
//
// What loads gain by it: docs/BENCHMARKS.md, "storage.ingest_share_of_rocksdb". The files lie in
// the folder `intake` of the database and are linked into it when they are taken in.
//
// What is taken in is of no use to anybody before a commit leads there, and is seen by a scan with
// an older ReadSnapshot as well: who scans does it up to the row that the counters give out next.
// Store::Commit takes in the tables of its batch first, and what a death in between leaves behind
// Store::RemoveLeftovers finds by a note that was synced before (docs/FORMATS.md, "RocksDB
// values").
//
// Ownership: made by Store::NewRowTables, and dies before the Store; its destructor removes the
// files that were not taken in.
// Thread safety: one owner. The Put functions report errors late: Finish returns the first one.
#pragma once

#include "base/ids.h"
#include "base/value.h"
#include "storage/row.h"

#include "absl/status/status.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace azimuth::storage {

class RowTables final {
 public:
  ~RowTables();
  RowTables(const RowTables&) = delete;
  RowTables& operator=(const RowTables&) = delete;

  // Each function takes what it adds in order: of row id within a row store (and field), of key
  // within a row store.
  void PutEncodedRow(RowStoreId store, RowId row, std::string_view encoded);
  // `vector` is dim floats.
  void PutVector(RowStoreId store, FieldId field, RowId row, std::span<const float> vector);
  void PutKey(RowStoreId store, const Key& key, const KeyEntry& entry);
  void PutRetired(RowStoreId store, RowId row, Seq retired_seq);

  // Ends the files, synced; nothing may be added after it. Store::Commit and Store::TakeIn do it,
  // too, but an error tells their callers less: of one here nothing has come into the database,
  // which can be written as before. ResourceExhausted (of the disk, of descriptors), else
  // Unavailable.
  absl::Status Finish();

  // Whether vectors of the field go into files that there are, or of which there are few yet: each
  // pair of row store and field has files of its own.
  bool HasRoomFor(RowStoreId store, FieldId field) const;

  uint64_t byte_size() const;  // Of keys and values so far.
  bool empty() const { return byte_size() == 0; }

 private:
  friend class Store;
  struct Range;
  struct Rep;
  explicit RowTables(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace azimuth::storage
