// Backpressure: slows writers down, and in the end refuses them, when rows come faster than their
// index can be built or than memory allows. Deletes never ask, and reads never do.
//
// Two pressures count, the greater one decides: the rows of the collection that wait for a segment
// file, between Limits::rows_slow and rows_max; and the bytes of all growing segments, between a
// quarter and a half of what RocksDB leaves of the memory budget. Below the first mark a write
// passes at once, past the second it is refused, and in between it waits in proportion.
//
// Who calls what: Insert, Upsert and Update call Admit after their records are checked and before
// CommitQueue::Run, and keep the Admission until Run has returned. Whatever makes the pressure less
// calls Relieve after it (ReplaceCommit::Apply, drop, truncate). Maintenance closes growing
// segments of any size, the largest first, while MemoryTight(): many small collections together
// must not come to a state where only a build would free memory and none has enough rows to want
// one. For the same reason it closes the growing segment of a collection past Limits::rows_slow.
//
// Ownership: borrows the budget. Thread safety: any number of threads.
#pragma once

#include "base/deadline.h"
#include "base/mutex.h"
#include "engine/memory_budget.h"

#include "absl/status/statusor.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>

namespace azimuth::engine {

class Backpressure final {
 public:
  struct Limits {
    uint64_t rows_slow = 0;  // Of one collection.
    uint64_t rows_max = 0;
    // Of one batch. Zero: nobody waits (for a simulation, where nothing else runs meanwhile).
    std::chrono::milliseconds delay_max{1000};
  };

  // Counts the bytes of an admitted write until they stand in a growing segment.
  class Admission final {
   public:
    Admission(Admission&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), bytes_(other.bytes_) {}
    Admission& operator=(Admission&&) = delete;
    ~Admission() {
      if (owner_ != nullptr) owner_->in_flight_bytes_.fetch_sub(bytes_);
    }

   private:
    friend class Backpressure;
    Admission(Backpressure* owner, uint64_t bytes) : owner_(owner), bytes_(bytes) {
      owner_->in_flight_bytes_.fetch_add(bytes_);
    }
    Backpressure* owner_;
    uint64_t bytes_;
  };

  Backpressure(const MemoryBudget& budget, const Limits& limits)
      : budget_(budget), limits_(limits) {}
  Backpressure(const Backpressure&) = delete;
  Backpressure& operator=(const Backpressure&) = delete;

  // Lets a write of about `bytes` (of rows and vectors) pass, perhaps after a delay that ends early
  // when the pressure falls. `unindexed_rows` are the closed and growing rows of the collection
  // now. What is there decides and not what comes: a batch larger than all limits passes when
  // nothing else waits. Errors: ResourceExhausted (past a hard limit; names the number),
  // DeadlineExceeded and Cancelled by `cancel`. After an error nothing was written.
  absl::StatusOr<Admission> Admit(std::string_view collection,
                                  const std::atomic<uint64_t>& unindexed_rows, uint64_t bytes,
                                  const CancelToken& cancel);
  // Wakes those who wait, to look again.
  void Relieve();

  // True if growing rows take more memory than lets writes pass without a delay.
  bool MemoryTight() const { return GrowingBytes() >= BytesSlow(); }
  // 0: a write passes at once; 1: it is refused; in between, the part of delay_max that it waits.
  double PressureOf(uint64_t unindexed_rows) const;
  // Writes that wait now.
  uint32_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  uint64_t BytesMax() const;
  uint64_t BytesSlow() const { return BytesMax() / 2; }
  uint64_t GrowingBytes() const {
    return budget_.used(MemoryPart::kGrowing) + in_flight_bytes_.load(std::memory_order_relaxed);
  }
  absl::Status CheckHardLimits(std::string_view collection, uint64_t unindexed_rows) const;
  absl::Status Delay(const std::atomic<uint64_t>& unindexed_rows, const CancelToken& cancel);

  const MemoryBudget& budget_;
  const Limits limits_;
  std::atomic<uint64_t> in_flight_bytes_{0};
  std::atomic<uint32_t> waiting_{0};
  Mutex mu_;
  CondVar relieved_;
};

}  // namespace azimuth::engine
