// GraphSearch: the walk over a FrozenGraph.
//
// Source: Malkov and Yashunin 2018, algorithms 2 and 5. Differs: rows that are not admitted are
// walked through but never returned, the walk goes on until `ef` admitted ones are known, and it
// gives up once it has computed `distances_max` distances (then a scan of the admitted rows is
// cheaper, and the caller does that).
#pragma once

#include "base/deadline.h"
#include "index/bitset.h"
#include "index/distance/distance.h"
#include "index/graph/frozen_graph.h"
#include "index/topk.h"
#include "index/types.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace azimuth::index {

// The vectors of a graph in node order: row i begins at base + i * stride floats.
struct NodeVectors {
  const float* base = nullptr;
  size_t stride = 0;
  size_t dim = 0;
};

struct GraphSearchOptions {
  size_t ef = 64;                    // Width of the walk, >= 1; use at least the k of the TopK.
  const Bitset* admitted = nullptr;  // Over positions; null admits all.
  const uint32_t* node_to_position = nullptr;  // node_count entries; null: the same numbers.
  uint64_t distances_max = UINT64_MAX;
};

// Memory of a walk, reused between walks: one walk at a time. After warm-up a walk allocates
// nothing.
class GraphScratch final {
 public:
  // For the implementation: forgets what was visited, in O(what was visited).
  void Begin(size_t node_count);
  // True the first time that it is asked for `node` since Begin.
  bool Visit(uint32_t node);
  // What it has grown to.
  size_t memory_bytes() const {
    return (frontier.capacity() + best.capacity()) * sizeof(Candidate) +
           (fresh.capacity() + touched_words_.capacity()) * sizeof(uint32_t) +
           distances.capacity() * sizeof(float) + visited_.capacity() * sizeof(uint64_t);
  }

  struct Candidate {
    float distance;
    uint32_t node;
  };
  std::vector<Candidate> frontier;  // Min-heap.
  std::vector<Candidate> best;      // Max-heap of at most ef admitted ones.
  std::vector<uint32_t> fresh;
  std::vector<float> distances;

 private:
  std::vector<uint64_t> visited_;
  std::vector<uint32_t> touched_words_;
};

struct GraphSearchResult {
  uint64_t distances_computed = 0;
  bool abandoned = false;  // Stopped by distances_max; nothing was pushed.
};

// Pushes the admitted neighbours that the walk found (at most ef) into `top`, as positions; none if
// it was abandoned. Nodes whose distance is not a number are left out. A neighbour id that is not
// below node_count is DataLoss. Errors: also those of `cancel`.
absl::StatusOr<GraphSearchResult> SearchGraph(const FrozenGraph& graph, const NodeVectors& vectors,
                                              const DistanceKernels& kernels, const float* query,
                                              const GraphSearchOptions& options, TopK& top,
                                              GraphScratch& scratch, const CancelToken& cancel);

}  // namespace azimuth::index
