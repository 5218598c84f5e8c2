// What a start makes again of a row store when what was written of it cannot be read.
//
// Keys lead to all rows that are live, and to no other ones, so they say what retirements and
// counters say, in O(keys).
// Thread safety: before anybody reads the collection. Errors: DataLoss if the keys, or the rows
// that no segment has, cannot be read either.
#pragma once

#include "base/ids.h"
#include "engine/segment/retired_map.h"
#include "engine/segment/segment.h"
#include "storage/row.h"
#include "storage/store.h"

#include "absl/status/statusor.h"

namespace azimuth::engine {

struct RecoveredCounters {
  storage::RowStoreCounters counters;
  absl::Status damage;  // Why they were counted again; else they are those of the store.
};

// The counters, counted again if they cannot be read, or are not there although rows are or were.
// `ids_end`: past all ids that are known of in another way. The next row gets no lower one then.
absl::StatusOr<RecoveredCounters> ReadCounters(const storage::Store& store, RowStoreId row_store,
                                               RowId ids_end);

// Retires, as of `at`, the rows of `set` that no key leads to and that are not retired already.
absl::Status RetireUnreached(const storage::Store& store, RowStoreId row_store,
                             const SegmentSet& set, Seq at, RetiredMap& retired);

}  // namespace azimuth::engine
