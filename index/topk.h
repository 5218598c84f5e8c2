// TopK: the k nearest of the neighbours that it is shown, exact on ties.
//
// Ties of distance are decided by a TieOrder, also at the edge of the k: the result does not depend
// on the order in which neighbours come. Source: bounded binary heap.
// Thread safety: one owner.
#pragma once

#include "index/types.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

namespace azimuth::index {

class TopK final {
 public:
  // Empties it, for at most `k` neighbours, none of them farther than `bound`. `ties` may be null:
  // then the lower position is first; else it must outlive the use. Memory is reserved as
  // neighbours come, never by k.
  void Reset(size_t k, const TieOrder* ties, float bound = std::numeric_limits<float>::infinity()) {
    k_ = k;
    ties_ = ties;
    first_bound_ = bound;
    sorted_ = false;
    heap_.clear();
  }

  size_t k() const { return k_; }
  size_t size() const { return heap_.size(); }
  bool full() const { return heap_.size() >= k_; }
  // The k-th distance so far: neighbours farther than this cannot enter. That of Reset until full.
  float bound() const { return full() && k_ > 0 ? heap_.front().distance : first_bound_; }

  void Push(Neighbor neighbor) {
    if (k_ == 0 || neighbor.distance > first_bound_) return;
    if (!full()) {
      heap_.push_back(neighbor);
      std::push_heap(heap_.begin(), heap_.end(), Order{ties_});
    } else if (Order{ties_}(neighbor, heap_.front())) {
      std::pop_heap(heap_.begin(), heap_.end(), Order{ties_});
      heap_.back() = neighbor;
      std::push_heap(heap_.begin(), heap_.end(), Order{ties_});
    }
  }

  // Sorts nearest first and gives the result; valid until the next Reset. Push no more after it.
  const std::vector<Neighbor>& Sorted() {
    if (!sorted_) std::sort_heap(heap_.begin(), heap_.end(), Order{ties_});
    sorted_ = true;  // No longer a heap, which a second sort_heap would need.
    return heap_;
  }

 private:
  struct Order {
    const TieOrder* ties;
    bool operator()(const Neighbor& a, const Neighbor& b) const {
      if (a.distance != b.distance) return a.distance < b.distance;
      return ties != nullptr ? ties->Before(a.position, b.position) : a.position < b.position;
    }
  };

  size_t k_ = 0;
  float first_bound_ = std::numeric_limits<float>::infinity();
  const TieOrder* ties_ = nullptr;
  bool sorted_ = false;
  std::vector<Neighbor> heap_;
};

}  // namespace azimuth::index
