// ScratchPool: scratch memory of searches, lent to one thread at a time, counted in the memory
// budget.
//
// As much is lent as searches run at once, which the threads of requests bound; of what comes back,
// kIdleMax are kept. Ownership: borrows the budget; a Loan points at its pool. Thread safety: any
// number of threads; a Loan has one owner.
#pragma once

#include "base/mutex.h"
#include "engine/memory_budget.h"
#include "engine/query/search_scratch.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace azimuth::engine {

class ScratchPool final {
 public:
  // For a search for `limit` hits; gives the memory back when it dies.
  class Loan final {
   public:
    Loan(ScratchPool& pool, uint32_t limit) : pool_(pool), limit_(limit), scratch_(pool.Take()) {}
    ~Loan() {
      scratch_->Trim(limit_);
      pool_.Give(std::move(scratch_));
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    SearchScratch& operator*() const { return *scratch_; }
    SearchScratch* operator->() const { return scratch_.get(); }

   private:
    ScratchPool& pool_;
    const uint32_t limit_;
    std::unique_ptr<SearchScratch> scratch_;
  };

  explicit ScratchPool(MemoryBudget& budget) : budget_(budget) { idle_.reserve(kIdleMax); }

  // Loans of this moment: the threads that search.
  size_t lent() {
    MutexLock lock(mu_);
    return lent_;
  }

 private:
  static constexpr size_t kIdleMax = 64;
  struct Idle {
    std::unique_ptr<SearchScratch> scratch;
    size_t bytes = 0;
  };

  std::unique_ptr<SearchScratch> Take() {
    {
      MutexLock lock(mu_);
      if (!idle_.empty()) {
        ++lent_;
        Idle taken = std::move(idle_.back());
        idle_.pop_back();
        budget_.Add(MemoryPart::kScratch, -static_cast<int64_t>(taken.bytes));
        return std::move(taken.scratch);
      }
    }
    auto made = std::make_unique<SearchScratch>();
    MutexLock lock(mu_);
    ++lent_;
    return made;
  }
  void Give(std::unique_ptr<SearchScratch> scratch) {
    const size_t bytes = scratch->memory_bytes();
    MutexLock lock(mu_);
    --lent_;
    if (idle_.size() == kIdleMax) return;  // Freed after the lock.
    budget_.Add(MemoryPart::kScratch, static_cast<int64_t>(bytes));
    idle_.push_back({std::move(scratch), bytes});
  }

  MemoryBudget& budget_;
  Mutex mu_;
  std::vector<Idle> idle_ AZ_GUARDED_BY(mu_);
  size_t lent_ AZ_GUARDED_BY(mu_) = 0;
};

}  // namespace azimuth::engine
