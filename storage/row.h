// The rows and catalog entries that the store keeps, as values, and their encodings.
//
// Byte tables: docs/FORMATS.md, "Rows", "Keys", "Catalog". Decoders never trust a length; they
// answer DataLoss. Thread safety: plain values.
#pragma once

#include "base/ids.h"
#include "base/value.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::storage {

// One version of a record, without its vectors.
struct StoredRow {
  Seq insert_seq{};
  PartitionId partition = kDefaultPartition;
  int64_t expires_at_unix_us = 0;  // 0: never.
  Key key{};
  std::vector<std::pair<FieldId, Value>> fields{};  // Declared ones, ascending by id.
  ValueMap dynamic{};                               // Undeclared ones, by name.
};
std::string EncodeRow(const StoredRow& row);
// Puts `seq` in the place of insert_seq in what EncodeRow made, so that a row can be encoded before
// its number is known.
void SetInsertSeq(std::string& encoded_row, Seq seq);
// The same of the key, where it is an int64.
void SetInt64Key(std::string& encoded_row, int64_t key);
absl::StatusOr<StoredRow> DecodeRow(std::string_view bytes);

// What a key leads to.
struct KeyEntry {
  RowId row{};
  Seq insert_seq{};
  PartitionId partition = kDefaultPartition;
  int64_t expires_at_unix_us = 0;
};

// Counters of a row store, written with every commit that changes them.
struct RowStoreCounters {
  RowId next_row{};  // The id that the next row gets.
  uint64_t live_rows = 0;
};

// A half-open range of row ids.
struct RowRange {
  RowId first{};
  RowId end{};
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

// A segment file that the catalog names.
struct SegmentEntry {
  SegmentId id{};
  RowStoreId row_store{};
  // The rows that need not be read again at start: those in the file, and those in the range that
  // were retired before it was written.
  RowRange rows{};
  uint64_t row_count = 0;  // Rows in the file.
  uint64_t file_bytes = 0;
};

// A collection as the catalog has it. `definition` is the engine's encoding of its schema.
struct CollectionEntry {
  CollectionId id{};
  RowStoreId row_store{};
  std::string database{};
  std::string name{};
  int64_t created_unix_us = 0;
  std::string definition{};
  // Where keys are made of row ids: no id from here on was ever given out, with counters that may
  // be lost or not. Zero where it is not kept.
  RowId ids_end{};
};

// A write that is remembered so that its repetition gets the first answer again.
struct RequestEntry {
  std::string id{};      // As the client gave it.
  std::string digest{};  // Of the request: tells a repetition from another request of that id.
  int64_t at_unix_us = 0;
  std::string reply{};  // The engine's own encoding.
  friend bool operator==(const RequestEntry&, const RequestEntry&) = default;
};

// Ids that the next thing of a kind gets.
struct NextIds {
  CollectionId collection{1};
  RowStoreId row_store{1};
  SegmentId segment{1};
};

}  // namespace azimuth::storage
