// The check of the entries of a snapshot against the definition of its collection and against each
// other, before anything of them is restored: so that what a server would not have written never
// gets into a store.
//
// Types, dimensions, text; order and bounds of row ids and sequence numbers; rows and keys lead to
// each other one to one; retirements and vectors belong to rows. Memory: 24 bytes a row.
// Thread safety: one owner.
#pragma once

#include "base/ids.h"
#include "engine/schema.h"
#include "storage/row.h"
#include "storage/row_entries.h"

#include "absl/status/status.h"

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {

class EntriesCheck final {
 public:
  // `schema` outlives it. Rows are below `next_row` and of commits up to `as_of`.
  EntriesCheck(const Schema& schema, RowId next_row, Seq as_of)
      : schema_(schema), next_row_(next_row), as_of_(as_of) {}

  // All entries, in order of ScanRowEntries. DataLoss names what is wrong.
  absl::Status Visit(storage::RowEntryKind kind, std::string_view key, std::string_view value);
  // After the last one. DataLoss.
  absl::Status Finish();

  // Valid after Finish.
  uint64_t live_rows() const { return rows_.size() - retired_of_rows_; }
  uint64_t vectors() const { return vectors_; }
  // Ascending.
  const std::vector<RowId>& rows() const { return rows_; }
  const std::vector<std::pair<RowId, Seq>>& retired() const { return retired_; }
  // What the map of retirements (segment/retired_map.h) takes in memory, also when the next row is
  // retired.
  uint64_t retired_bytes() const;

 private:
  absl::Status CheckRow(std::string_view key, std::string_view value);
  absl::Status CheckVectorEntry(std::string_view key, std::string_view value);
  absl::Status CheckKeyEntry(std::string_view key, std::string_view value);
  absl::Status CheckRetired(std::string_view key, std::string_view value);
  // Its place among rows_; rows_.size() if it is not there.
  size_t PlaceOf(RowId row) const;
  uint64_t HashOf(const Key& key, const storage::KeyEntry& entry) const;

  const Schema& schema_;
  const RowId next_row_;
  const Seq as_of_;
  std::vector<RowId> rows_;
  std::vector<Seq> insert_seqs_;  // By place.
  std::vector<uint64_t> hashes_;  // Likewise: of the key and what its entry must say.
  std::vector<bool> found_;       // Likewise: a key leads to it, or it is retired.
  std::vector<std::pair<RowId, Seq>> retired_;
  uint64_t found_count_ = 0;
  uint64_t retired_of_rows_ = 0;
  uint64_t retired_pages_ = 0;
  uint64_t last_page_ = UINT64_MAX;
  uint64_t vectors_ = 0;
  FieldId vector_field_{};
  size_t vector_place_ = 0;  // Where the search for the next row begins.
};

}  // namespace azimuth::engine
