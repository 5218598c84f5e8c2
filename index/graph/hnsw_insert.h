// HnswInsert: the insertion of a node into a graph of hnswlib, as its addPoint does it, but with
// another search of a layer: a node's list is copied under its lock, rows are fetched from memory
// before it is their turn to be measured, and what was found is one sorted row instead of two
// heaps. Nodes are linked by hnswlib.
//
// Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
// hierarchical navigable small world graphs", TPAMI 2018, algorithms 1 and 2.
// Of hnsw_builder.cc alone, which is compiled without sanitizers as hnswlib is.
#pragma once

#include "hnswlib/hnswlib.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <queue>
#include <utility>
#include <vector>

namespace azimuth::index {

// Memory of one thread, and the graph, which is borrowed. Thread safety: several threads may insert
// into a graph, each with an object of its own.
class HnswInsert final {
 public:
  using Hnsw = hnswlib::HierarchicalNSW<float>;
  static constexpr size_t kLine = 64;  // Of the cache, in bytes.

  explicit HnswInsert(Hnsw& hnsw)
      : hnsw_(hnsw),
        row_lines_((hnsw.data_size_ + kLine - 1) / kLine),
        list_lines_((hnsw.size_links_level0_ + kLine - 1) / kLine),
        visited_((hnsw.max_elements_ + 63) / 64, 0) {}

  // `data` is what hnswlib copies; its table of labels stays empty. False if there is no memory.
  // Throws what hnswlib and the library throw.
  bool Insert(const void* data, size_t label, int level) {
    const Node node = TakeNode();
    const std::lock_guard lock(hnsw_.link_list_locks_[node]);
    hnsw_.element_levels_[node] = level;
    std::unique_lock global(hnsw_.global);
    const int top = hnsw_.maxlevel_;
    if (level <= top) global.unlock();  // Else nobody else raises it meanwhile.
    Node entry = hnsw_.enterpoint_node_;
    std::memset(Bytes(hnsw_.get_linklist0(node)), 0, hnsw_.size_data_per_element_);
    hnsw_.setExternalLabel(node, label);
    std::memcpy(hnsw_.getDataByInternalId(node), data, hnsw_.data_size_);
    if (level > 0) {
      hnsw_.linkLists_[node] = static_cast<char*>(
          std::calloc(hnsw_.size_links_per_element_ * static_cast<size_t>(level), 1));
      if (hnsw_.linkLists_[node] == nullptr) return false;
    }
    if (top >= 0) {
      if (level < top) entry = Descend(data, entry, top, level);
      for (int at = std::min(level, top); at >= 0; --at) {
        Search(data, entry, at);
        Queue found(Less(), Take());
        entry = hnsw_.mutuallyConnectNewElement(data, node, found, at, false);
      }
    }
    if (level > top) {
      hnsw_.enterpoint_node_ = node;
      hnsw_.maxlevel_ = level;
    }
    return true;
  }

 private:
  using Node = hnswlib::tableint;
  using Less = Hnsw::CompareByFirst;
  using Found = std::vector<std::pair<float, Node>>;
  using Queue = std::priority_queue<std::pair<float, Node>, Found, Less>;

  // Rows are fetched so many ahead of the one that is measured, and of a long one the first lines:
  // the hardware brings the others.
  static constexpr size_t kRowsAhead = 4;
  static constexpr size_t kRowLinesMax = 8;

  // A node that was found: in the order of distances as whole numbers are, then the node, then
  // whether it was expanded.
  using Candidate = uint64_t;
  static constexpr Candidate kExpanded = 1;

  static Candidate CandidateOf(float distance, Node node) {
    const auto bits = std::bit_cast<uint32_t>(distance);
    const uint32_t order = (bits >> 31) != 0 ? ~bits : bits | uint32_t{1} << 31;
    return uint64_t{order} << 32 | uint64_t{node} << 1;
  }
  static float DistanceOf(Candidate candidate) {
    const auto order = static_cast<uint32_t>(candidate >> 32);
    return std::bit_cast<float>((order >> 31) != 0 ? order ^ uint32_t{1} << 31 : ~order);
  }
  static Node NodeOf(Candidate candidate) { return static_cast<uint32_t>(candidate) >> 1; }

  static char* Bytes(void* list) { return static_cast<char*>(list); }

  static void Fetch(const char* bytes, size_t lines) {
    for (size_t i = 0; i < lines; ++i) __builtin_prefetch(bytes + i * kLine);
  }
  void FetchRow(Node node) const {
    Fetch(hnsw_.getDataByInternalId(node), std::min(row_lines_, kRowLinesMax));
  }

  Node TakeNode() {
    const std::lock_guard lock(hnsw_.cur_element_count_guard_);
    const auto node = static_cast<Node>(hnsw_.cur_element_count);
    hnsw_.element_levels_[node] = 0;  // Nothing to free yet.
    ++hnsw_.cur_element_count;
    return node;
  }

  float Distance(const void* data, Node node) const {
    const float distance =
        hnsw_.fstdistfunc_(data, hnsw_.getDataByInternalId(node), hnsw_.dist_func_param_);
    return std::isnan(distance) ? std::numeric_limits<float>::infinity() : distance;
  }

  // Those that the node links to on the level, in list_.
  void Copy(Node node, int level) {
    const std::lock_guard lock(hnsw_.link_list_locks_[node]);
    auto* const list = hnsw_.get_linklist_at_level(node, level);
    const size_t count = hnsw_.getListCount(list);
    list_.assign(list + 1, list + 1 + count);
  }

  // The nearest that a greedy walk finds above `level`.
  Node Descend(const void* data, Node entry, int top, int level) {
    float least = Distance(data, entry);
    for (int at = top; at > level; --at) {
      for (bool changed = true; changed;) {
        changed = false;
        Copy(entry, at);
        for (const Node node : list_) FetchRow(node);
        for (const Node node : list_) {
          const float distance = Distance(data, node);
          if (!(distance < least)) continue;
          least = distance;
          entry = node;
          changed = true;
        }
      }
    }
    return entry;
  }

  bool Visit(Node node) {
    uint64_t& word = visited_[node / 64];
    const uint64_t bit = uint64_t{1} << node % 64;
    if ((word & bit) != 0) return false;
    word |= bit;
    seen_.push_back(node);
    return true;
  }

  // What it takes to expand the node on level 0, where nearly all are expanded.
  void FetchList(Node node) const {
    __builtin_prefetch(&hnsw_.link_list_locks_[node]);
    Fetch(Bytes(hnsw_.get_linklist0(node)), list_lines_);
  }

  // The nearest ef_construction of those that `entry` leads to, in found_, ascending.
  void Search(const void* data, Node entry, int level) {
    const size_t ef = hnsw_.ef_construction_;
    found_.resize(ef + 1);
    Visit(entry);
    found_[0] = CandidateOf(Distance(data, entry), entry);
    size_t count = 1;
    size_t next = 0;  // All before it are expanded.
    while (next < count) {
      if ((found_[next] & kExpanded) != 0) {
        ++next;
        continue;
      }
      const Node node = NodeOf(found_[next]);
      found_[next++] |= kExpanded;
      Copy(node, level);
      const auto fresh =
          std::remove_if(list_.begin(), list_.end(), [this](Node other) { return !Visit(other); });
      list_.erase(fresh, list_.end());
      for (size_t i = 0; i < std::min(list_.size(), kRowsAhead); ++i) FetchRow(list_[i]);
      // The one that is expanded next, unless there is a nearer one among the fresh.
      if (next < count) FetchList(NodeOf(found_[next]));
      for (size_t i = 0; i < list_.size(); ++i) {
        if (i + kRowsAhead < list_.size()) FetchRow(list_[i + kRowsAhead]);
        const Candidate candidate = CandidateOf(Distance(data, list_[i]), list_[i]);
        if (count == ef && candidate >= found_[count - 1]) continue;
        const size_t place = Put(candidate, count);
        count = std::min(count + 1, ef);
        if (place > next) continue;
        next = place;
        FetchList(list_[i]);
      }
    }
    found_.resize(count);
    for (const Node node : seen_) visited_[node / 64] = 0;
    seen_.clear();
  }

  // Among the first `count`, all others in order; returns its place.
  size_t Put(Candidate candidate, size_t count) {
    size_t place = 0;
    for (size_t left = count; left > 0;) {
      const size_t half = (left + 1) / 2;  // Without a branch.
      place += found_[place + half - 1] < candidate ? half : 0;
      left -= half;
    }
    std::memmove(&found_[place + 1], &found_[place], (count - place) * sizeof(Candidate));
    found_[place] = candidate;
    return place;
  }

  Found Take() const {
    Found found;
    found.reserve(found_.size());
    for (const Candidate candidate : found_) {
      found.emplace_back(DistanceOf(candidate), NodeOf(candidate));
    }
    return found;
  }

  Hnsw& hnsw_;
  const size_t row_lines_;
  const size_t list_lines_;
  std::vector<uint64_t> visited_;  // All 0 between searches.
  std::vector<Node> seen_;         // Those whose bits are set.
  std::vector<Node> list_;
  std::vector<Candidate> found_;
};

}  // namespace azimuth::index
