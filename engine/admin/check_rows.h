// The check of the rows, keys, vectors, retirements and counters of one collection against each
// other.
//
// Rows and keys lead to each other one to one if each live row's key leads to it and there are as
// many keys as live rows; only if not, the rows of all keys are read to say which. Memory: 24 bytes
// a row. Thread safety: functions only.
#pragma once

#include "base/ids.h"
#include "engine/admin/findings.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace azimuth::engine {

// What a row store has, for the checks that follow.
struct StoreRows {
  std::vector<RowId> rows;                     // Ascending.
  std::vector<std::pair<RowId, Seq>> retired;  // Ascending; also of rows that are gone.
  storage::RowStoreCounters counters;          // As they are stored.
  bool rows_complete = true;                   // All rows could be read.
  bool retired_complete = true;                // All retirements could be read.
  bool complete() const { return rows_complete && retired_complete; }
};

// What cannot be read is a finding and ends that part of the check. Errors: of `cancel`, and others
// than damage.
absl::StatusOr<StoreRows> CheckRows(CheckContext& context, const CheckedCollection& collection);

// The rows that are there and not retired. REQUIRES: rows.complete().
uint64_t CountLive(const StoreRows& rows);

// Counts again: the row id that is next (`segments_end`: no segment has a row at or past it) and
// the rows that are live.
void CheckCounters(CheckContext& context, const CheckedCollection& collection,
                   const StoreRows& rows, RowId segments_end);

}  // namespace azimuth::engine
