// The entries of one row store as bytes, for snapshots: they are copied as they are, with another
// row store before their keys.
//
// Byte tables of keys and values: docs/FORMATS.md, "RocksDB". Thread safety: any thread.
#pragma once

#include "base/ids.h"
#include "storage/row.h"
#include "storage/store.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace azimuth::storage {

// On disk, in snapshots; never renumber.
enum class RowEntryKind : uint8_t { kRow = 1, kVector = 2, kKey = 3, kRetired = 4 };
inline constexpr RowEntryKind kRowEntryKinds[] = {RowEntryKind::kRow, RowEntryKind::kVector,
                                                  RowEntryKind::kKey, RowEntryKind::kRetired};

// `key` is without the row store. Views are valid during the visit.
using RowEntryVisitor =
    std::function<absl::Status(RowEntryKind kind, std::string_view key, std::string_view value)>;

// All entries of a row store, kind by kind in order of kRowEntryKinds, by key; of rows, vectors and
// retirements those below `end`, the row that the store's counters give out next: what is past it
// no commit has given out (row_tables.h). The visitor's error ends it and is returned. Errors:
// those of reads of the Store.
absl::Status ScanRowEntries(const Store& store, RowStoreId row_store, RowId end,
                            const RowEntryVisitor& visit, const ReadSnapshot* snapshot);

// What such a key names. DataLoss if malformed.
absl::StatusOr<RowId> ParseRowEntryKey(std::string_view key);  // Of rows and retirements.
struct VectorEntryKey {
  FieldId field{};
  RowId row{};
};
absl::StatusOr<VectorEntryKey> ParseVectorEntryKey(std::string_view key);
absl::StatusOr<Key> ParseKeyEntryKey(std::string_view key);

// What the values of the two small kinds hold. DataLoss.
absl::StatusOr<KeyEntry> ParseKeyEntryValue(std::string_view value);
absl::StatusOr<Seq> ParseRetiredValue(std::string_view value);

// Makes a copy of the whole database in `path`, a folder that must not exist while its parent does:
// table files by hard links where that is possible. All of it is synced, and has every commit that
// returned before the call. Commits may go on meanwhile. Errors: those of Store::Commit.
absl::Status MakeCheckpoint(const Store& store, const std::string& path, Files& files);

}  // namespace azimuth::storage
