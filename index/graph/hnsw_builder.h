// Builds HNSW graphs with hnswlib, anew or out of a finished graph, and takes them out into a plain
// structure. The only place that knows hnswlib.
//
// Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
// Hierarchical Navigable Small World graphs", 2018, algorithms 1 to 4. Levels are drawn here, from
// a seed, since hnswlib's own generator is shared by its threads without a lock.
// Thread safety: a call is independent of all others.
#pragma once

#include "base/deadline.h"
#include "index/types.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace azimuth::index {

struct HnswBuildOptions {
  Metric metric = Metric::kL2;
  uint32_t dim = 0;
  uint32_t m = 16;  // Links of a node per upper level; twice that on level 0.
  uint32_t ef_construction = 200;
  uint64_t seed = 1;
};

// Runs body(0) ... body(count - 1), possibly at the same time on several threads, and returns when
// all are done. How this layer gets threads without knowing of a pool.
using ParallelFor = std::function<void(size_t count, const std::function<void(size_t)>& body)>;

// A graph in memory. Nodes are numbered as the vectors were.
struct BuiltGraph {
  uint32_t m = 0;
  uint32_t node_count = 0;
  uint32_t entry_node = 0;  // Meaningless when node_count is 0.
  uint32_t max_level = 0;
  std::vector<uint8_t> levels;   // Of each node.
  std::vector<uint32_t> level0;  // node_count x 2m; unused: the node itself.
  // For each node of level >= 1, ascending: its lists of levels 1 ... levels[node], m slots each,
  // unused slots repeat the node itself.
  std::vector<uint32_t> upper_nodes;
  std::vector<uint32_t> upper_lists;
};

class FrozenGraph;

// A finished graph over some of the vectors of a new one, and over others that are gone.
struct GraphSeed {
  static constexpr uint32_t kGone = UINT32_MAX;

  const FrozenGraph* graph = nullptr;
  // Of each node of the graph: its number among the vectors of the new one, or kGone.
  std::span<const uint32_t> new_node;
};

// Vectors that are inserted last, so that the graph without them can be measured with them as
// queries.
struct HeldOut {
  uint32_t wanted = 0;
  // What a build gives: the numbers of as many vectors, drawn by the seed of its options,
  // ascending; and the graph before they were in it, over all numbers. Theirs stand alone: they
  // have no neighbours and are nobody's.
  std::vector<uint32_t> numbers = {};
  BuiltGraph before = {};
};

// `vectors[i]` points at dim floats of node i (unit length for cosine), borrowed during the call.
// hnswlib keeps a copy meanwhile: memory is about count x (4 dim + 16 m + 190) bytes.
// Errors: DeadlineExceeded, Cancelled by `cancel` (asked between insertions); ResourceExhausted if
// memory runs out; InvalidArgument for options out of range. `held_out` may be null.
absl::StatusOr<BuiltGraph> BuildHnsw(std::span<const float* const> vectors,
                                     const HnswBuildOptions& options, const ParallelFor& parallel,
                                     const CancelToken& cancel, HeldOut* held_out = nullptr);

// The same, but takes over what is left of the graph of `seed`, mends it (graph_repair.h) and
// inserts only the other vectors. REQUIRES: the Verify of that graph is OK, and its vectors are
// those that new_node says, under the same metric. Errors also: InvalidArgument if the graph has
// another m or new_node does not fit. Vectors that are held out are taken out of the graph first.
absl::StatusOr<BuiltGraph> ExtendHnsw(std::span<const float* const> vectors,
                                      const HnswBuildOptions& options, const GraphSeed& seed,
                                      const ParallelFor& parallel, const CancelToken& cancel,
                                      HeldOut* held_out = nullptr);

}  // namespace azimuth::index
