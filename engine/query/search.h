// Vector search over a view: per segment a plan, a walk or a scan; then one merged list.
//
// Thread safety: any number of threads.
#pragma once

#include "base/deadline.h"
#include "engine/core.h"
#include "engine/query/request.h"

#include "absl/status/statusor.h"

#include <span>
#include <string_view>

namespace azimuth::engine {

// As Database::Search.
absl::StatusOr<SearchResult> Search(Core& core, std::string_view collection,
                                    std::span<const float> queries, const SearchSpec& spec,
                                    const ReadOptions& options, const CancelToken& cancel);

// The vector field of that name; with an empty name the only one. InvalidArgument.
absl::StatusOr<const VectorFieldDef*> ChooseVectorField(const Schema& schema,
                                                        std::string_view name);

}  // namespace azimuth::engine
