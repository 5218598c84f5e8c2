// MemoryBudget: one number of bytes for all that grows with the data, and who uses how much of it:
// RocksDB (block cache and memtables: a fixed reservation, and what they take past it), growing
// segments, builds, scratch of queries and of checks of snapshots, copies of graphs and codes.
//
// It counts; it never refuses bytes that are there already. Two things act on it: builds wait here
// (ReserveForBuild), and writes wait in front of the queue (write/backpressure.h).
// Who calls what: the opening of a database adds kRocks, and maintenance what is past that now;
// GrowingSegment adds and gives back kGrowing; a build holds a Reservation from before it gathers
// its rows until its inputs are replaced; the pool of scratch memory adds what it comes to own, and
// checks of snapshots what they keep (CountedBytes); segments count their copies as kResident.
// Ownership: outlives all who count in it; a Reservation points at its budget.
// Thread safety: any number of threads. Counters are relaxed: a sum of several may be a moment old.
// Errors: only ReserveForBuild has any.
#pragma once

#include "base/deadline.h"
#include "base/mutex.h"
#include "engine/schema.h"

#include "absl/status/statusor.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>

namespace azimuth::engine {

enum class MemoryPart : uint8_t {
  kRocks = 0,
  kGrowing = 1,
  kBuild = 2,
  kScratch = 3,
  kResident = 4,
};

class MemoryBudget final {
 public:
  // Bytes that a build may use; gives them back when it dies. Moved from, it holds nothing.
  class Reservation final {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Reservation& operator=(Reservation&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Reservation() {
      if (budget_ != nullptr) budget_->Release(bytes_);
    }
    uint64_t bytes() const { return bytes_; }

   private:
    friend class MemoryBudget;
    Reservation(MemoryBudget* budget, uint64_t bytes) : budget_(budget), bytes_(bytes) {}
    MemoryBudget* budget_ = nullptr;
    uint64_t bytes_ = 0;
  };

  explicit MemoryBudget(uint64_t total) : total_(total) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // Three fifths of the machine's memory, or of its control group's where that is less.
  static uint64_t DefaultTotal();

  uint64_t total() const { return total_; }
  uint64_t used(MemoryPart part) const {
    return used_[static_cast<size_t>(part)].load(std::memory_order_relaxed);
  }
  uint64_t used() const;  // All parts together.
  // Negative gives back.
  void Add(MemoryPart part, int64_t bytes) {
    used_[static_cast<size_t>(part)].fetch_add(static_cast<uint64_t>(bytes),
                                               std::memory_order_relaxed);
  }

  // Waits until `bytes` more fit beside all that is used, in order of arrival. A build that finds
  // no other one running goes ahead whatever is used: only builds make growing rows less. So who
  // waits here waits for running builds and for nothing else, and a pool of one worker never waits.
  // Who holds a Reservation must not ask for another. Errors: those of `cancel`, which is asked ten
  // times a second.
  absl::StatusOr<Reservation> ReserveForBuild(uint64_t bytes, const CancelToken& cancel);

 private:
  bool MayBuild(uint64_t bytes, uint64_t ticket) const AZ_REQUIRES(mu_);
  void Release(uint64_t bytes) AZ_EXCLUDES(mu_);

  const uint64_t total_;
  std::array<std::atomic<uint64_t>, 5> used_{};

  mutable Mutex mu_;
  CondVar changed_;
  uint32_t running_ AZ_GUARDED_BY(mu_) = 0;
  uint64_t next_ticket_ AZ_GUARDED_BY(mu_) = 0;
  std::set<uint64_t> waiting_ AZ_GUARDED_BY(mu_);  // Tickets; the least is next.
};

// Bytes of one part that one owner holds, who says how many; gives them back when it dies.
class CountedBytes final {
 public:
  CountedBytes(MemoryBudget& budget, MemoryPart part) : budget_(budget), part_(part) {}
  ~CountedBytes() { Set(0); }
  CountedBytes(const CountedBytes&) = delete;
  CountedBytes& operator=(const CountedBytes&) = delete;

  uint64_t bytes() const { return bytes_; }
  void Set(uint64_t bytes) {
    budget_.Add(part_, static_cast<int64_t>(bytes) - static_cast<int64_t>(bytes_));
    bytes_ = bytes;
  }
  // What the owner may hold of what nobody else uses.
  uint64_t Free() const {
    const uint64_t others = budget_.used() - bytes_;
    return others < budget_.total() ? budget_.total() - others : 0;
  }

 private:
  MemoryBudget& budget_;
  const MemoryPart part_;
  uint64_t bytes_ = 0;
};

// About what the build of a segment of `rows` rows takes beside its inputs: the graph library's
// copy of the vectors and its links, the frozen graph, and the columns. Vector fields are built one
// after the other, so the largest counts.
uint64_t EstimateBuildBytes(const Schema& schema, uint64_t rows);

}  // namespace azimuth::engine
