// Walk: the nodes of a FrozenGraph that are nearest to a query, by whatever measures them.
//
// Source: Malkov and Yashunin 2018, algorithms 2 and 5. Where all rows are admitted, the two heaps
// are one sorted pool of fixed size, as in Fu et al., "Fast approximate nearest neighbor search
// with the navigating spreading-out graph", VLDB 2019, algorithm 1. Else rows that are not admitted
// are walked through but never returned, and the walk goes on until `ef` admitted ones are known.
// A walk whose width turns out to be too small goes on from where it is with a larger one.
// It gives up once it has computed `distances_max` distances (then a scan of the admitted rows is
// cheaper, and the caller does that).
#pragma once

#include "base/deadline.h"
#include "index/bitset.h"
#include "index/codes/quantizer.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/node_distances.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace azimuth::index {

// Memory of a walk, reused between walks: one walk at a time. After warm-up a walk allocates
// nothing.
class GraphScratch final {
 public:
  struct Candidate {
    float distance;
    uint32_t node;
  };

  // What the last walk found, nearest first: at most ef admitted nodes.
  std::span<const Candidate> found() const { return found_; }
  // What it has grown to.
  size_t memory_bytes() const;

  // For the implementation.
  // Forgets what was visited, in O(what was visited).
  void Begin(size_t node_count);
  // Of the nodes that have been asked for since Begin. Without a branch: whether a neighbour has
  // been seen before is anybody's guess.
  class Visited final {
   public:
    explicit Visited(GraphScratch& scratch)
        : words_(scratch.visited_.data()),
          touched_(scratch.touched_words_.data()),
          count_(scratch.touched_count_) {}
    // 1 the first time that it is asked for `node`, else 0.
    size_t Add(uint32_t node) {
      uint64_t& word = words_[node / 64];
      const uint64_t before = word;
      const uint32_t shift = node % 64;
      word = before | uint64_t{1} << shift;
      touched_[count_] = node / 64;
      count_ += before == 0 ? 1 : 0;
      return (before >> shift & 1) ^ 1;
    }

   private:
    uint64_t* const words_;
    uint32_t* const touched_;
    size_t& count_;
  };
  std::vector<Candidate> frontier;  // Min-heap.
  std::vector<Candidate> best;      // Max-heap of at most ef admitted ones, or the sorted pool.
  // Nodes to measure and their distances; of a walk that may widen, all that it has measured.
  std::vector<uint32_t> fresh;
  std::vector<float> distances;
  EncodedQuery query;  // Of the caller, where it walks by codes.
  void SetFound(std::span<const Candidate> found) { found_ = found; }

 private:
  std::span<const Candidate> found_;
  std::vector<uint64_t> visited_;
  std::vector<uint32_t> touched_words_;  // One more than words: the last is written to only.
  size_t touched_count_ = 0;
};

struct WalkOptions {
  size_t ef = 64;                              // Width of the walk, >= 1.
  const Bitset* admitted = nullptr;            // Over positions; null admits all.
  const uint32_t* node_to_position = nullptr;  // node_count entries; null: the same numbers.
  uint64_t distances_max = UINT64_MAX;
  // Of what the walk has found: the width to go on with. Asked once; what is no more ends the walk,
  // and so does what would take it past distances_max, as abandoned.
  const std::function<size_t(std::span<const GraphScratch::Candidate> found)>* widen = nullptr;
};

struct GraphSearchResult {
  uint64_t distances_computed = 0;
  bool abandoned = false;  // Stopped by distances_max; nothing was found.
};

// Leaves what it finds in `scratch`. Nodes whose distance is not a number are left out. A neighbour
// id that is not below node_count is DataLoss. Errors: also those of `cancel`.
absl::StatusOr<GraphSearchResult> WalkGraph(const FrozenGraph& graph,
                                            const NodeDistances& distances,
                                            const WalkOptions& options, GraphScratch& scratch,
                                            const CancelToken& cancel);

}  // namespace azimuth::index
