// Fetching the fields and vectors of chosen rows.
//
// Thread safety: pure functions over the store and a pinned view.
#pragma once

#include "engine/core.h"
#include "engine/query/request.h"
#include "engine/query/view.h"
#include "engine/record.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <vector>

namespace azimuth::engine {

// A row of a view.
struct RowRef {
  const Segment* segment = nullptr;
  uint32_t position = 0;
};

// Checks names: vectors must be vector fields; fields must be declared when the collection is not
// dynamic, and never vector fields. InvalidArgument.
absl::Status CheckProjection(const Schema& schema, const Projection& projection);

// What `projection` asks of each row, in order. DataLoss names a row that the store does not have.
absl::StatusOr<std::vector<RecordOutput>> FetchRows(const Core& core, const Collection& collection,
                                                    const View& view,
                                                    const std::vector<RowRef>& rows,
                                                    const Projection& projection);

}  // namespace azimuth::engine
