// The check of a segment's graph: how many nodes level 0 leads to from the entry, and whether
// vectors find themselves. (Not with the inner product, by which a vector may be far from itself.)
//
// A graph is an approximation, and some nodes may be out of reach of a walk: that is counted. Only
// where it is so many that searches suffer is it a finding. On hard data (random vectors of many
// dimensions) a narrow walk misses much in a good graph as well: what one misses is searched for
// again by wider ones before that is held against the graph.
// Thread safety: functions only.
#pragma once

#include "engine/admin/findings.h"
#include "engine/segment/segment.h"

#include "absl/status/statusor.h"

#include <cstdint>

namespace azimuth::engine {

// Of the nodes of a graph; of a graph of fewer nodes a few say nothing.
inline constexpr double kUnreachableShareMax = 0.01;
inline constexpr uint32_t kReachableNodesMin = 1000;
// Vectors that are searched for in a graph, and the share that must be found; in a graph of a few
// nodes so many may be missed.
inline constexpr uint32_t kRecallSample = 64;
inline constexpr double kSelfRecallMin = 0.9;
inline constexpr double kMissesMax = 2;
// The widest walk keeps as many nodes as the share says, within bounds. Even then a graph whose
// links lead anywhere is found out: of links to 32 random nodes it looks at two thirds of all.
inline constexpr uint32_t kSelfEfShareInverse = 32;
inline constexpr uint32_t kSelfEfMin = 64;  // That of a search that does not say.
inline constexpr uint32_t kSelfEfMax = 1 << 16;

// Nodes of `graph` that level 0 does not lead to from the entry node. REQUIRES: its neighbours are
// below node_count(). Errors: of `cancel`.
absl::StatusOr<uint32_t> CountUnreachable(const index::FrozenGraph& graph,
                                          const CancelToken& cancel);
// Whether those are so many that searches suffer.
inline bool IsUnreachable(uint32_t unreachable, uint32_t nodes) {
  return nodes >= kReachableNodesMin && unreachable > kUnreachableShareMax * nodes;
}

// False if there is a finding. REQUIRES: segment.HasGraph(vector_slot), and it is verified.
absl::StatusOr<bool> CheckSegmentGraph(CheckContext& context, const CheckedCollection& collection,
                                       const Segment& segment, size_t vector_slot);

}  // namespace azimuth::engine
