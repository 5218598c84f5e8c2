#include "index/graph/search.h"

#include "base/status.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace azimuth::index {
namespace {

constexpr uint64_t kHopsPerCheck = 1024;
constexpr size_t kWordBits = 64;

using Candidate = GraphScratch::Candidate;

struct Nearer {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.distance < b.distance; }
};
struct Farther {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.distance > b.distance; }
};

class Walk final {
 public:
  Walk(const FrozenGraph& graph, const NodeVectors& vectors, const DistanceKernels& kernels,
       const float* query, const GraphSearchOptions& options, GraphScratch& scratch,
       const CancelToken& cancel)
      : graph_(graph),
        vectors_(vectors),
        kernels_(kernels),
        query_(query),
        options_(options),
        ef_(std::max<size_t>(options.ef, 1)),
        scratch_(scratch),
        cancel_(cancel) {}

  // REQUIRES: the graph has nodes.
  absl::StatusOr<GraphSearchResult> Run() {
    const size_t slots = graph_.degree0();
    scratch_.fresh.resize(slots);
    scratch_.distances.resize(slots);
    scratch_.frontier.clear();
    scratch_.best.clear();
    scratch_.best.reserve(std::min<size_t>(ef_, graph_.node_count()));
    scratch_.Begin(graph_.node_count());

    AZ_RETURN_IF_ERROR(cancel_.Check());
    if (Spent()) return Abandoned();
    scratch_.fresh[0] = graph_.entry_node();
    Compute(1);
    Candidate nearest{scratch_.distances[0], graph_.entry_node()};
    // The walk has to start somewhere, also where sums overflow.
    if (std::isnan(nearest.distance)) nearest.distance = std::numeric_limits<float>::infinity();
    for (uint32_t level = graph_.max_level(); level > 0; --level) {
      AZ_RETURN_IF_ERROR(Descend(level, nearest));
      if (result_.abandoned) return result_;
    }
    AZ_RETURN_IF_ERROR(WalkLevel0(nearest));
    return result_;
  }

  void PushInto(TopK& top) const {
    for (const Candidate& candidate : scratch_.best) {
      top.Push({candidate.distance, PositionOf(candidate.node)});
    }
  }

 private:
  // Goes to the nearest neighbour for as long as one is nearer.
  absl::Status Descend(uint32_t level, Candidate& nearest) {
    for (bool moved = true; moved;) {
      moved = false;
      AZ_RETURN_IF_ERROR(CountHop());
      if (Spent()) {
        result_.abandoned = true;
        return absl::OkStatus();
      }
      const uint32_t from = nearest.node;
      size_t count = 0;
      for (const uint32_t neighbor : graph_.Upper(from, level)) {
        if (neighbor == from) continue;
        if (neighbor >= graph_.node_count()) return BadNeighbor(from, neighbor, level);
        scratch_.fresh[count++] = neighbor;
      }
      Compute(count);
      for (size_t i = 0; i < count; ++i) {
        if (scratch_.distances[i] < nearest.distance) {
          nearest = {scratch_.distances[i], scratch_.fresh[i]};
          moved = true;
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status WalkLevel0(const Candidate& start) {
    scratch_.Visit(start.node);
    Offer(start);
    std::vector<Candidate>& frontier = scratch_.frontier;
    while (!frontier.empty()) {
      const Candidate from = frontier.front();
      if (scratch_.best.size() >= ef_ && from.distance > scratch_.best.front().distance) break;
      AZ_RETURN_IF_ERROR(CountHop());
      if (Spent()) {
        result_.abandoned = true;
        break;
      }
      std::pop_heap(frontier.begin(), frontier.end(), Farther{});
      frontier.pop_back();

      size_t count = 0;
      for (const uint32_t neighbor : graph_.Level0(from.node)) {
        if (neighbor >= graph_.node_count()) return BadNeighbor(from.node, neighbor, 0);
        scratch_.fresh[count] = neighbor;
        count += scratch_.Visit(neighbor) ? 1 : 0;
      }
      Compute(count);
      for (size_t i = 0; i < count; ++i) Offer({scratch_.distances[i], scratch_.fresh[i]});
      if (!frontier.empty()) __builtin_prefetch(graph_.Level0(frontier.front().node).data());
    }
    return absl::OkStatus();
  }

  // Keeps a node whose distance has been computed, if it is near enough. A distance that is not a
  // number (an overflow of both signs) is never near.
  void Offer(const Candidate& candidate) {
    const bool full = scratch_.best.size() >= ef_;
    const float bound =
        full ? scratch_.best.front().distance : std::numeric_limits<float>::infinity();
    if (!(candidate.distance < bound || (!full && candidate.distance <= bound))) return;
    scratch_.frontier.push_back(candidate);
    std::push_heap(scratch_.frontier.begin(), scratch_.frontier.end(), Farther{});
    if (!Admits(candidate.node)) return;
    if (full) {
      std::pop_heap(scratch_.best.begin(), scratch_.best.end(), Nearer{});
      scratch_.best.back() = candidate;
    } else {
      scratch_.best.push_back(candidate);
    }
    std::push_heap(scratch_.best.begin(), scratch_.best.end(), Nearer{});
  }

  void Compute(size_t count) {
    kernels_.gather(query_, vectors_.base, vectors_.stride, vectors_.dim, scratch_.fresh.data(),
                    count, scratch_.distances.data());
    result_.distances_computed += count;
  }

  uint32_t PositionOf(uint32_t node) const {
    return options_.node_to_position != nullptr ? options_.node_to_position[node] : node;
  }

  bool Admits(uint32_t node) const {
    if (options_.admitted == nullptr) return true;
    const uint32_t position = PositionOf(node);
    return position < options_.admitted->size() && options_.admitted->Test(position);
  }

  bool Spent() const { return result_.distances_computed >= options_.distances_max; }

  GraphSearchResult Abandoned() {
    result_.abandoned = true;
    return result_;
  }

  absl::Status CountHop() {
    return ++hops_ % kHopsPerCheck == 0 ? cancel_.Check() : absl::OkStatus();
  }

  absl::Status BadNeighbor(uint32_t node, uint32_t neighbor, uint32_t level) const {
    return DataLoss("graph: node %d of %d has neighbour %d on level %d", node, graph_.node_count(),
                    neighbor, level);
  }

  const FrozenGraph& graph_;
  const NodeVectors& vectors_;
  const DistanceKernels& kernels_;
  const float* query_;
  const GraphSearchOptions& options_;
  const size_t ef_;
  GraphScratch& scratch_;
  const CancelToken& cancel_;
  uint64_t hops_ = 0;
  GraphSearchResult result_;
};

}  // namespace

void GraphScratch::Begin(size_t node_count) {
  for (const uint32_t word : touched_words_) visited_[word] = 0;
  touched_words_.clear();
  const size_t words = (node_count + kWordBits - 1) / kWordBits;
  if (visited_.size() < words) {
    visited_.resize(words, 0);
    touched_words_.reserve(words);
  }
}

bool GraphScratch::Visit(uint32_t node) {
  uint64_t& word = visited_[node / kWordBits];
  const uint64_t bit = uint64_t{1} << (node % kWordBits);
  if ((word & bit) != 0) return false;
  if (word == 0) touched_words_.push_back(static_cast<uint32_t>(node / kWordBits));
  word |= bit;
  return true;
}

absl::StatusOr<GraphSearchResult> SearchGraph(const FrozenGraph& graph, const NodeVectors& vectors,
                                              const DistanceKernels& kernels, const float* query,
                                              const GraphSearchOptions& options, TopK& top,
                                              GraphScratch& scratch, const CancelToken& cancel) {
  if (graph.node_count() == 0) return GraphSearchResult{};
  Walk walk(graph, vectors, kernels, query, options, scratch, cancel);
  AZ_ASSIGN_OR_RETURN(const GraphSearchResult result, walk.Run());
  if (!result.abandoned) walk.PushInto(top);
  return result;
}

}  // namespace azimuth::index
