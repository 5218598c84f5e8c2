// Fetching the fields and vectors of chosen rows.
//
// Thread safety: pure functions over the store and a pinned view.
#pragma once

#include "engine/core.h"
#include "engine/query/request.h"
#include "engine/query/search_scratch.h"
#include "engine/query/view.h"
#include "engine/record.h"

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include <cstddef>
#include <span>
#include <vector>

namespace azimuth::engine {

// Checks names: vectors must be vector fields; fields must be declared when the collection is not
// dynamic, and never vector fields. InvalidArgument.
absl::Status CheckProjection(const Schema& schema, const Projection& projection);

// True if `projection` asks for what stands in the store, not only for keys and versions.
inline bool ReadsStore(const Projection& projection) {
  return !projection.fields.has_value() || !projection.fields->empty() ||
         !projection.vectors.empty();
}

// Puts what `projection` asks of row i into record(i), which is as it was made. DataLoss names a
// row that the store does not have.
absl::Status FetchRows(const Core& core, const Collection& collection, const View& view,
                       std::span<const RowRef> rows, const Projection& projection,
                       absl::FunctionRef<RecordOutput&(size_t i)> record);
// The same, as a list.
absl::StatusOr<std::vector<RecordOutput>> FetchRows(const Core& core, const Collection& collection,
                                                    const View& view, std::span<const RowRef> rows,
                                                    const Projection& projection);

}  // namespace azimuth::engine
