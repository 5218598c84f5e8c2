// ViewRegistry: who reads at which sequence number, and what may be freed. docs/VISIBILITY.md has
// the order of events and the argument.
//
// A reader pins a slot before it reads anything shared, and unpins when it is done. While it is
// pinned, (1) no row that is visible at its sequence number is dropped by a merge, and (2) nothing
// that it can still reach is freed. Pinning takes no lock and touches no counter that others touch.
// Source: epoch-based reclamation (Fraser 2004), with the reader's sequence number in the slot.
//
// Thread safety: any thread, Publish excepted: one thread at a time (the leader of the commit
// queue).
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "storage/store.h"

#include "absl/status/statusor.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

namespace azimuth::engine {

class ViewRegistry final {
 private:
  struct Slot;
  struct Published {
    Seq seq;
    std::unique_ptr<storage::ReadSnapshot> snapshot;
  };

 public:
  // A pinned reader. Moves; unpins when it dies. May be released by another thread than pinned it.
  class Pin final {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept : slot_(other.slot_), published_(other.published_) {
      other.slot_ = nullptr;
    }
    Pin& operator=(Pin&& other) noexcept;
    ~Pin() { Release(); }
    // Rows are visible to this reader when insert_seq <= seq() < retired_seq.
    Seq seq() const { return published_->seq; }
    // The store as it was at seq(), for reads by key and fetches of rows.
    const storage::ReadSnapshot& snapshot() const { return *published_->snapshot; }

   private:
    friend class ViewRegistry;
    Pin(Slot* slot, const Published* published) : slot_(slot), published_(published) {}
    void Release();
    Slot* slot_ = nullptr;
    const Published* published_ = nullptr;  // Lives while the slot is taken.
  };

  // Begins at `seq`, with the store as `snapshot` has it.
  ViewRegistry(Seq seq, std::unique_ptr<storage::ReadSnapshot> snapshot);
  ~ViewRegistry();  // Frees everything retired. REQUIRES: nobody is pinned.

  Pin PinNow() const;
  // Waits until `seq` is published, then pins. DeadlineExceeded (of `cancel`, or after
  // `wait_max_ms` without a deadline), Cancelled, ResourceExhausted if `waiters_max` wait already.
  absl::StatusOr<Pin> PinAtLeast(Seq seq, int64_t wait_max_ms, int waiters_max,
                                 const CancelToken& cancel) const;

  // Every row of commits up to `seq` is in place, and `snapshot` is the store after the last of
  // them: later pins see them.
  void Publish(Seq seq, std::unique_ptr<storage::ReadSnapshot> snapshot);
  // The newest published number.
  Seq published() const { return PinNow().seq(); }

  // No reader that is pinned now, or pins later, has a smaller sequence number.
  Seq OldestPinned() const;

  // Calls `free` once no reader is pinned that may have reached the thing before it was unlinked.
  // REQUIRES: it is unlinked already.
  void Retire(std::function<void()> free);
  // Frees what can be freed now.
  void Collect();
  // Lets go of the store, before it is closed. REQUIRES: nobody is pinned, now or later.
  void ReleaseStore();

 private:
  struct Slot {
    alignas(64) std::atomic<uint64_t> epoch_plus_1{0};  // 0: the slot is free.
    std::atomic<uint64_t> seq{0};                       // A lower bound of the reader's Seq.
  };
  struct Block {
    static constexpr size_t kSlots = 64;
    Slot slots[kSlots];
    std::atomic<Block*> next{nullptr};
  };
  struct Retired {
    uint64_t epoch;
    std::function<void()> free;
  };

  template <typename F>
  void ForEachSlot(F&& f) const;

  std::atomic<const Published*> published_;
  std::atomic<uint64_t> epoch_{0};
  const std::unique_ptr<Block> first_;  // Later blocks hang off it and live as long.
  Mutex mu_;
  std::deque<Retired> retired_ AZ_GUARDED_BY(mu_);  // Ascending by epoch.
  // Readers that wait for a number; Publish wakes them only if there are any.
  mutable std::atomic<int> waiting_{0};
  mutable Mutex wait_mu_;
  mutable CondVar wait_published_;
};

}  // namespace azimuth::engine
