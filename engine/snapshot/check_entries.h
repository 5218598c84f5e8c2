// The check of the entries of a snapshot against the definition of its collection and against each
// other, before anything of them is restored: so that what a server would not have written never
// gets into a store.
//
// Types, dimensions, text; order and bounds of row ids and sequence numbers; rows and keys lead to
// each other one to one; retirements and vectors belong to rows.
// Memory: 24 bytes a row until Finish, then 8 until ReleaseRows; 16 a retirement. Where there are
// more rows than were expected it grows by a quarter, and 8 bytes a row, or 16 a retirement, are
// there twice for a moment. All of it is counted as MemoryPart::kScratch; more than half of the
// budget, or than nobody else uses, is refused.
// Thread safety: one owner.
#pragma once

#include "base/ids.h"
#include "engine/memory_budget.h"
#include "engine/schema.h"
#include "storage/row.h"
#include "storage/row_entries.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {

// Whether maps of retirements (segment/retired_map.h) of so many bytes fit into the memory: the
// budget, or the share of the machine's that a budget is by itself, where that is more. A running
// server does not count those maps, and holds as many. ResourceExhausted.
absl::Status CheckRetiredBytes(uint64_t bytes, const MemoryBudget& memory);

class EntriesCheck final {
 public:
  // `schema` and `memory` outlive it. Rows are below `next_row` and of commits up to `as_of`. Room
  // is made for `expected` rows at once; there may be more or less.
  EntriesCheck(const Schema& schema, RowId next_row, Seq as_of, MemoryBudget& memory,
               uint64_t expected = 0)
      : schema_(schema),
        next_row_(next_row),
        as_of_(as_of),
        expected_(expected),
        total_(memory.total()),
        counted_(memory, MemoryPart::kScratch) {}
  EntriesCheck(const EntriesCheck&) = delete;
  EntriesCheck& operator=(const EntriesCheck&) = delete;

  // All entries, in order of ScanRowEntries. DataLoss names what is wrong. ResourceExhausted: there
  // are more than the memory is for.
  absl::Status Visit(storage::RowEntryKind kind, std::string_view key, std::string_view value);
  // After the last one. DataLoss.
  absl::Status Finish();

  // Valid after Finish.
  uint64_t row_count() const { return row_count_; }
  uint64_t live_rows() const { return row_count_ - retired_of_rows_; }
  uint64_t vectors() const { return vectors_; }
  // Ascending; until ReleaseRows.
  const std::vector<RowId>& rows() const { return rows_; }
  void ReleaseRows();
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
  // Before one more row or retirement is kept.
  absl::Status MakeRoomForRow();
  absl::Status MakeRoomForRetired();
  // How many elements of `bytes` there is to be room for, of which there is for `now`; `twice`
  // bytes of each are there twice meanwhile.
  absl::StatusOr<size_t> Room(size_t now, size_t wanted, uint64_t bytes, uint64_t twice) const;
  void Count();

  const Schema& schema_;
  const RowId next_row_;
  const Seq as_of_;
  const uint64_t expected_;
  const uint64_t total_;
  CountedBytes counted_;
  uint64_t row_count_ = 0;
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
