// ScratchPool: scratch memory of graph walks, lent out one walk at a time, counted in the memory
// budget.
//
// As many are lent as walks run at once, which the threads of requests bound; of those that come
// back, kIdleMax are kept. Ownership: borrows the budget. Thread safety: any number of threads.
#pragma once

#include "base/mutex.h"
#include "engine/memory_budget.h"
#include "index/graph/search.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace azimuth::engine {

class ScratchPool final {
 public:
  explicit ScratchPool(MemoryBudget& budget) : budget_(budget) { idle_.reserve(kIdleMax); }

  std::unique_ptr<index::GraphScratch> Take() {
    MutexLock lock(mu_);
    if (idle_.empty()) return std::make_unique<index::GraphScratch>();
    Idle taken = std::move(idle_.back());
    idle_.pop_back();
    budget_.Add(MemoryPart::kScratch, -static_cast<int64_t>(taken.bytes));
    return std::move(taken.scratch);
  }
  void Give(std::unique_ptr<index::GraphScratch> scratch) {
    const size_t bytes = scratch->memory_bytes();
    MutexLock lock(mu_);
    if (idle_.size() == kIdleMax) return;  // Freed after the lock.
    budget_.Add(MemoryPart::kScratch, static_cast<int64_t>(bytes));
    idle_.push_back({std::move(scratch), bytes});
  }

 private:
  static constexpr size_t kIdleMax = 64;
  struct Idle {
    std::unique_ptr<index::GraphScratch> scratch;
    size_t bytes = 0;
  };

  MemoryBudget& budget_;
  Mutex mu_;
  std::vector<Idle> idle_ AZ_GUARDED_BY(mu_);
};

}  // namespace azimuth::engine
