// Takes nodes out of a finished graph and mends the lists that they leave behind, so that a merge
// can go on from the largest graph instead of building a new one.
//
// A list that lost nodes is offered the neighbours of those nodes, and of gone nodes behind them,
// and takes over as many as it lost: those that algorithm 4 of the paper selects beside what was
// left, then the nearest of the others. So no list gets shorter from merge to merge as long as
// there is something to take, which is what makes repeated reuse rot elsewhere. A node that stays
// far below the mean degree of the graph, or that no walk reaches any more, is left out: the caller
// inserts it anew.
//
// Source: Malkov and Yashunin 2018, algorithm 4 (with keepPrunedConnections).
// Thread safety: a call is independent of all others.
#pragma once

#include "base/deadline.h"
#include "index/distance/distance.h"
#include "index/graph/hnsw_builder.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <span>
#include <vector>

namespace azimuth::index {

// A graph over some of the vectors: node i is vector numbers[i].
struct RepairedGraph {
  BuiltGraph graph;
  std::vector<uint32_t> numbers;
};

// `kernels` is the distance of the graph over `dim` floats. REQUIRES: the graph's Verify is OK.
// Errors: InvalidArgument if the seed does not fit the vectors; those of `cancel`.
absl::StatusOr<RepairedGraph> RepairGraph(std::span<const float* const> vectors, size_t dim,
                                          const DistanceKernels& kernels, const GraphSeed& seed,
                                          const ParallelFor& parallel, const CancelToken& cancel);

}  // namespace azimuth::index
