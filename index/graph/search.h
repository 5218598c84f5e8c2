// GraphSearch: the nearest rows by a walk over a FrozenGraph, measured by the rows themselves or by
// codes of them; what is found by codes is measured again by the rows.
#pragma once

#include "base/deadline.h"
#include "index/distance/distance.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/node_distances.h"
#include "index/graph/walk.h"
#include "index/topk.h"
#include "index/types.h"

#include "absl/status/statusor.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace azimuth::index {

using GraphSearchOptions = WalkOptions;

// Pushes the admitted neighbours that the walk found (at most ef) into `top`, as positions; none if
// it was abandoned. Nodes whose distance is not a number are left out. A neighbour id that is not
// below node_count is DataLoss. Errors: also those of `cancel`.
absl::StatusOr<GraphSearchResult> SearchGraph(const FrozenGraph& graph, const NodeVectors& vectors,
                                              const DistanceKernels& kernels, const float* query,
                                              const GraphSearchOptions& options, TopK& top,
                                              GraphScratch& scratch, const CancelToken& cancel);

// The end of what is measured again together, from `begin` on, where `least` are in any case: their
// memory is far, and what the last of them are is known only then.
constexpr size_t RescoreEnd(size_t begin, size_t least, size_t most) {
  constexpr size_t kStep = 8;
  constexpr size_t kLastStep = 3;
  return begin < least ? std::min({begin + kStep, least, most}) : std::min(begin + kLastStep, most);
}
inline constexpr size_t kRescoreStepMax = 8;

// How many of what a walk by codes found are measured again: from the nearest by codes on, at least
// `least`, and then for as long as one may be among the nearest although its code says that it is
// farther, by `slack` at most; `most` in all.
struct RescoreOptions {
  size_t least = 0;
  size_t most = std::numeric_limits<size_t>::max();
  float slack = std::numeric_limits<float>::infinity();
};

// The same by `codes`. Pushes only what was measured again by `vectors`; that counts as distances
// computed, too.
absl::StatusOr<GraphSearchResult> SearchGraphByCodes(
    const FrozenGraph& graph, const NodeDistances& codes, const NodeDistances& vectors,
    const GraphSearchOptions& options, const RescoreOptions& rescore, TopK& top,
    GraphScratch& scratch, const CancelToken& cancel);

}  // namespace azimuth::index
