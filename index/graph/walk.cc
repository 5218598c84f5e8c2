#include "index/graph/walk.h"

#include "base/status.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

constexpr uint64_t kHopsPerCheck = 256;
constexpr size_t kWordBits = 64;
// A sorted pool is moved by half its length for each node that comes in; wider walks use heaps.
constexpr size_t kPoolMax = 512;
// Nodes whose neighbours a walk by pool measures together: their memory is waited for at once.
constexpr size_t kExpandedTogether = 4;
// Set in the number of a node of the pool whose neighbours have been looked at.
constexpr uint32_t kExpanded = uint32_t{1} << 31;

constexpr uint32_t kNoNode = UINT32_MAX;

using Candidate = GraphScratch::Candidate;

struct Nearer {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.distance < b.distance; }
};
struct Farther {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.distance > b.distance; }
};

class Walk final {
 public:
  Walk(const FrozenGraph& graph, const NodeDistances& distances, const WalkOptions& options,
       GraphScratch& scratch, const CancelToken& cancel)
      : graph_(graph),
        distances_(distances),
        options_(options),
        ef_(std::max<size_t>(options.ef, 1)),
        scratch_(scratch),
        cancel_(cancel) {}

  // REQUIRES: the graph has nodes.
  absl::StatusOr<GraphSearchResult> Run() {
    scratch_.Begin(graph_.node_count());
    HaveSlots();

    AZ_RETURN_IF_ERROR(cancel_.Check());
    if (Spent()) return Abandoned();
    scratch_.fresh[0] = graph_.entry_node();
    Compute(1);
    Candidate nearest{scratch_.distances[0], graph_.entry_node()};
    // The walk has to start somewhere, also where sums overflow.
    if (std::isnan(nearest.distance)) {
      nearest.distance = std::numeric_limits<float>::infinity();
      unmeasured_ = nearest.node;
    }
    for (uint32_t level = graph_.max_level(); level > 0; --level) {
      AZ_RETURN_IF_ERROR(Descend(level, nearest));
      if (result_.abandoned) return result_;
    }
    AZ_RETURN_IF_ERROR(WalkLevel0(nearest));
    if (options_.widen == nullptr || result_.abandoned) return result_;
    const size_t wider = (*options_.widen)(scratch_.found());
    if (wider <= ef_) return result_;
    // Not begun if it would cost more than it may.
    const double expected = static_cast<double>(result_.distances_computed) *
                            static_cast<double>(wider) / static_cast<double>(ef_);
    if (expected >= static_cast<double>(options_.distances_max)) return Abandoned();
    const bool goes_on = Pooled();
    ef_ = wider;
    if (goes_on && Pooled()) {
      AZ_RETURN_IF_ERROR(GoOn(scratch_.found().size()));
    } else {
      scratch_.Begin(graph_.node_count());
      AZ_RETURN_IF_ERROR(WalkLevel0(nearest));
    }
    return result_;
  }

 private:
  bool Pooled() const {
    return options_.admitted == nullptr && ef_ <= kPoolMax && graph_.node_count() < kExpanded;
  }

  absl::Status WalkLevel0(const Candidate& start) {
    logged_ = 0;
    return Pooled() ? WalkPool(start) : WalkHeaps(start);
  }

  // Room for the neighbours of those that are expanded together, and one more: a neighbour is
  // written before it is known whether it is new.
  void HaveSlots() {
    const size_t slots = logged_ + graph_.degree0() * kExpandedTogether + 1;
    if (scratch_.fresh.size() >= slots) return;
    scratch_.fresh.resize(2 * slots);
    scratch_.distances.resize(2 * slots);
  }
  uint32_t* fresh() { return scratch_.fresh.data() + logged_; }
  const float* distances() const { return scratch_.distances.data() + logged_; }

  // Goes to the nearest neighbour for as long as one is nearer.
  absl::Status Descend(uint32_t level, Candidate& nearest) {
    for (bool moved = true; moved;) {
      moved = false;
      AZ_RETURN_IF_ERROR(CountHop());
      if (Spent()) {
        Abandoned();
        return absl::OkStatus();
      }
      const uint32_t from = nearest.node;
      size_t count = 0;
      for (const uint32_t neighbor : graph_.Upper(from, level)) {
        if (neighbor >= graph_.node_count()) return BadNeighbor(from, neighbor, level);
        if (neighbor == from) continue;
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

  // Puts those neighbours of `node` that have not been visited into fresh(), after the first
  // `count` there; returns how many there are then.
  absl::StatusOr<size_t> CollectFresh(uint32_t node, size_t count) {
    AZ_RETURN_IF_ERROR(CountHop());
    uint32_t* const into = fresh();
    const uint32_t node_count = graph_.node_count();
    GraphScratch::Visited visited(scratch_);
    for (const uint32_t neighbor : graph_.Level0(node)) {
      if (neighbor >= node_count) return BadNeighbor(node, neighbor, 0);
      into[count] = neighbor;
      count += visited.Add(neighbor);
    }
    return count;
  }

  void PrefetchLevel0(uint32_t node) const {
    constexpr size_t kLineSlots = 16;
    const std::span<const uint32_t> slots = graph_.Level0(node);
    __builtin_prefetch(slots.data());
    if (slots.size() > kLineSlots) __builtin_prefetch(slots.data() + kLineSlots);
  }

  absl::Status WalkPool(const Candidate& start) {
    scratch_.best.resize(std::max(scratch_.best.size(), ef_ + 1));
    GraphScratch::Visited(scratch_).Add(start.node);
    scratch_.best[0] = start;
    if (options_.widen != nullptr) {
      fresh()[0] = start.node;
      scratch_.distances[logged_++] = start.distance;
    }
    return ExpandPool(1, 0);
  }

  // After a walk that found `expanded` nodes, now with a larger ef_: of all that was measured the
  // nearest are the pool, as if none had been turned away.
  absl::Status GoOn(size_t expanded) {
    std::vector<Candidate>& all = scratch_.frontier;
    const float bound =
        expanded == 0 ? -std::numeric_limits<float>::infinity() : scratch_.found().back().distance;
    all.clear();
    for (size_t i = 0; i < logged_; ++i) {
      const float distance = scratch_.distances[i];
      if (std::isnan(distance)) continue;
      all.push_back({distance, scratch_.fresh[i] | (distance < bound ? kExpanded : 0)});
    }
    const size_t size = std::min(all.size(), ef_);
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(size), all.end(),
                      Nearer{});
    scratch_.best.resize(std::max(scratch_.best.size(), ef_ + 1));
    std::copy_n(all.begin(), size, scratch_.best.begin());
    size_t next = 0;
    while (next < size && (all[next].node & kExpanded) != 0) ++next;
    return ExpandPool(size, next);
  }

  // How many of the first `size` are not farther than `distance`; without a branch on distances.
  static size_t PlaceOf(float distance, const Candidate* pool, size_t size) {
    const Candidate* at = pool;
    for (size_t span = size; span > 1;) {
      const size_t half = span / 2;
      at += half * static_cast<size_t>(at[half - 1].distance <= distance);
      span -= half;
    }
    return static_cast<size_t>(at - pool) + static_cast<size_t>(at->distance <= distance);
  }

  // The pool: the first `size` of scratch_.best, ascending; `next` is the first that has not been
  // expanded.
  absl::Status ExpandPool(size_t size, size_t next) {
    Candidate* const pool = scratch_.best.data();
    while (next < size) {
      if (Spent()) {
        Abandoned();
        return absl::OkStatus();
      }
      // Several at a time: what they lead to is asked of memory together, not one after the other.
      HaveSlots();
      size_t count = 0;
      for (size_t taken = 0; taken < kExpandedTogether && next < size; ++taken) {
        const uint32_t node = pool[next].node;
        pool[next].node = node | kExpanded;
        AZ_ASSIGN_OR_RETURN(count, CollectFresh(node, count));
        while (next < size && (pool[next].node & kExpanded) != 0) ++next;
      }
      Compute(count);
      const uint32_t* const nodes = fresh();
      for (size_t i = 0; i < count; ++i) {
        const float distance = distances()[i];
        // Also false for what is not a number.
        const bool near = size < ef_ ? distance <= std::numeric_limits<float>::infinity()
                                     : distance < pool[size - 1].distance;
        if (!near) continue;
        const size_t at = PlaceOf(distance, pool, size);
        const size_t moved = (size < ef_ ? size : size - 1) - at;
        std::memmove(pool + at + 1, pool + at, moved * sizeof(Candidate));
        pool[at] = {distance, nodes[i]};
        size += size < ef_ ? 1 : 0;
        next = std::min(next, at);
        PrefetchLevel0(nodes[i]);
      }
      if (options_.widen != nullptr) logged_ += count;
      while (next < size && (pool[next].node & kExpanded) != 0) ++next;
    }
    for (size_t i = 0; i < size; ++i) pool[i].node &= ~kExpanded;
    SetFound({pool, size});
    return absl::OkStatus();
  }

  absl::Status WalkHeaps(const Candidate& start) {
    std::vector<Candidate>& frontier = scratch_.frontier;
    std::vector<Candidate>& best = scratch_.best;
    frontier.clear();
    best.clear();
    best.reserve(std::min<size_t>(ef_, graph_.node_count()));
    GraphScratch::Visited(scratch_).Add(start.node);
    Offer(start);
    while (!frontier.empty()) {
      const Candidate from = frontier.front();
      if (best.size() >= ef_ && from.distance > best.front().distance) break;
      if (Spent()) {
        Abandoned();
        return absl::OkStatus();
      }
      std::pop_heap(frontier.begin(), frontier.end(), Farther{});
      frontier.pop_back();
      AZ_ASSIGN_OR_RETURN(const size_t count, CollectFresh(from.node, 0));
      Compute(count);
      for (size_t i = 0; i < count; ++i) Offer({scratch_.distances[i], scratch_.fresh[i]});
      if (!frontier.empty()) __builtin_prefetch(graph_.Level0(frontier.front().node).data());
    }
    std::sort_heap(best.begin(), best.end(), Nearer{});
    SetFound(best);
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
    distances_.Compute(fresh(), count, scratch_.distances.data() + logged_);
    result_.distances_computed += count;
  }

  bool Admits(uint32_t node) const {
    if (options_.admitted == nullptr) return true;
    const uint32_t position =
        options_.node_to_position != nullptr ? options_.node_to_position[node] : node;
    return position < options_.admitted->size() && options_.admitted->Test(position);
  }

  void SetFound(std::span<Candidate> found) {
    const auto end = unmeasured_ == kNoNode ? found.end()
                                            : std::remove_if(found.begin(), found.end(),
                                                             [&](const Candidate& candidate) {
                                                               return candidate.node == unmeasured_;
                                                             });
    scratch_.SetFound({found.begin(), end});
  }

  bool Spent() const { return result_.distances_computed >= options_.distances_max; }

  GraphSearchResult Abandoned() {
    result_.abandoned = true;
    scratch_.SetFound({});
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
  const NodeDistances& distances_;
  const WalkOptions& options_;
  size_t ef_;
  GraphScratch& scratch_;
  const CancelToken& cancel_;
  size_t logged_ = 0;  // Of scratch_.fresh and distances, what has been measured before.
  uint64_t hops_ = 0;
  uint32_t unmeasured_ = kNoNode;  // The entry node, if its distance is no number.
  GraphSearchResult result_;
};

}  // namespace

size_t GraphScratch::memory_bytes() const {
  return (frontier.capacity() + best.capacity()) * sizeof(Candidate) +
         (fresh.capacity() + touched_words_.capacity()) * sizeof(uint32_t) +
         distances.capacity() * sizeof(float) + query.memory_bytes() +
         visited_.capacity() * sizeof(uint64_t);
}

void GraphScratch::Begin(size_t node_count) {
  found_ = {};
  for (size_t i = 0; i < touched_count_; ++i) visited_[touched_words_[i]] = 0;
  touched_count_ = 0;
  const size_t words = (node_count + kWordBits - 1) / kWordBits;
  if (visited_.size() < words) {
    visited_.resize(words, 0);
    touched_words_.resize(words + 1);
  }
}

absl::StatusOr<GraphSearchResult> WalkGraph(const FrozenGraph& graph,
                                            const NodeDistances& distances,
                                            const WalkOptions& options, GraphScratch& scratch,
                                            const CancelToken& cancel) {
  if (graph.node_count() == 0) {
    scratch.SetFound({});
    return GraphSearchResult{};
  }
  return Walk(graph, distances, options, scratch, cancel).Run();
}

}  // namespace azimuth::index
