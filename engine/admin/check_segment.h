// The check of one segment: its file, its graphs, and its rows against those of the store.
//
// Thread safety: functions only; the segment may be in use.
#pragma once

#include "engine/admin/check_rows.h"
#include "engine/admin/findings.h"
#include "engine/segment/retired_map.h"
#include "engine/segment/segment.h"

#include "absl/status/statusor.h"

namespace azimuth::engine {

// The checks answer whether all is right; if not, there are findings. Errors: of `cancel`, and
// others than damage.

// Reads the whole file; then the graphs: that level 0 leads from the entry to all nodes, and that
// vectors of a sample are found.
absl::StatusOr<bool> CheckSegmentFile(CheckContext& context, const CheckedCollection& collection,
                                      const Segment& segment);

// Memory of the next one: for each row that is compared, 12 bytes and 8 more for each vector field;
// and some times CompareBatch::kBytesMax, beside one row.
// That the segment has the live rows of `range` and none that the store does not know, and (of all
// rows, or of a sample) that they have the same content. With `retired`, that of a running
// database, also that the segment hides exactly the rows that are retired.
absl::StatusOr<bool> CheckSegmentRows(CheckContext& context, const CheckedCollection& collection,
                                      const Segment& segment, storage::RowRange range,
                                      const StoreRows& rows, const RetiredMap* retired);

}  // namespace azimuth::engine
