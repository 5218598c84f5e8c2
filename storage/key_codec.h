// The keys of every column family: bytes whose order is the order of what they name.
//
// Byte table: docs/FORMATS.md, "RocksDB keys". Internal to storage.
// Thread safety: functions only.
#pragma once

#include "base/ids.h"
#include "base/value.h"

#include "absl/status/statusor.h"

#include <string>
#include <string_view>

namespace azimuth::storage {

// Append the key to `out`, so that many keys can share one buffer.
void AppendRowKey(RowStoreId store, RowId row, std::string& out);
void AppendVectorKey(RowStoreId store, FieldId field, RowId row, std::string& out);
// The key of a record's key in the family of keys.
void AppendKeyKey(RowStoreId store, const Key& key, std::string& out);

std::string RowKey(RowStoreId store, RowId row);
std::string VectorKey(RowStoreId store, FieldId field, RowId row);
std::string KeyKey(RowStoreId store, const Key& key);

// The meta family.
std::string AppliedSeqKey();
std::string NextIdsKey();
std::string CountersKey(RowStoreId store);
// Up to where row tables may stand (storage/row_tables.h).
std::string TablesEndKey(RowStoreId store);

// The catalog family.
std::string CollectionKey(CollectionId id);
std::string SegmentKey(RowStoreId store, SegmentId id);

// The requests family: the request's id as it is.
std::string RequestKey(std::string_view id);

// A half-open range of keys.
struct KeyRange {
  std::string first;
  std::string end;
};
// All keys of a row store in the families of rows, vectors, keys and retirements.
KeyRange RowStoreRange(RowStoreId store);
// All collections, all segments, and the segments of one row store in the catalog.
KeyRange CollectionsRange();
KeyRange SegmentsRange();
KeyRange SegmentsRange(RowStoreId store);
// The vectors of one field of a row store.
KeyRange VectorFieldRange(RowStoreId store, FieldId field);
// The counters of all row stores, and the ends of their row tables.
KeyRange AllCountersRange();
KeyRange AllTablesEndsRange();
// Every key of a family whose keys are free text; an empty end is no end.
KeyRange AllKeys();

// The row that a key of the rows, vectors or retired family ends in. DataLoss if the key is not
// `size` bytes long: 12 in rows and retired, 16 in vectors.
absl::StatusOr<RowId> RowOfKey(std::string_view key, size_t size);
inline constexpr size_t kRowKeyBytes = 12;
inline constexpr size_t kVectorKeyBytes = 16;

// The row store that a key of the rows, vectors, keys or retired family begins with. DataLoss if it
// is too short.
absl::StatusOr<RowStoreId> RowStoreOfKey(std::string_view key);
// The record's key that a key of the family of keys holds. DataLoss if malformed.
absl::StatusOr<Key> ParseKeyKey(std::string_view key);
absl::StatusOr<RowStoreId> ParseCountersKey(std::string_view key);
absl::StatusOr<RowStoreId> ParseTablesEndKey(std::string_view key);
// The field of a key of the vectors family.
absl::StatusOr<FieldId> FieldOfVectorKey(std::string_view key);

// What a catalog key names. DataLoss if malformed.
absl::StatusOr<CollectionId> ParseCollectionKey(std::string_view key);
struct SegmentKeyParts {
  RowStoreId store{};
  SegmentId id{};
};
absl::StatusOr<SegmentKeyParts> ParseSegmentKey(std::string_view key);

}  // namespace azimuth::storage
