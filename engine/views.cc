#include "engine/views.h"

#include "base/status.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {

ViewRegistry::Pin& ViewRegistry::Pin::operator=(Pin&& other) noexcept {
  if (this != &other) {
    Release();
    slot_ = std::exchange(other.slot_, nullptr);
    published_ = other.published_;
  }
  return *this;
}

void ViewRegistry::Pin::Release() {
  // Release: everything that the reader read happened before a collector sees the slot free.
  if (slot_ != nullptr) slot_->epoch_plus_1.store(0, std::memory_order_release);
  slot_ = nullptr;
}

ViewRegistry::ViewRegistry(Seq seq, std::unique_ptr<storage::ReadSnapshot> snapshot)
    : published_(std::make_unique<Published>(Published{seq, std::move(snapshot)}).release()),
      first_(std::make_unique<Block>()) {}

ViewRegistry::~ViewRegistry() {
  std::deque<Retired> retired;
  {
    MutexLock lock(mu_);
    retired.swap(retired_);
  }
  for (Retired& item : retired) item.free();
  std::unique_ptr<const Published>(published_.load()).reset();
  for (Block* block = first_->next.load(); block != nullptr;) {
    const std::unique_ptr<Block> owned(block);
    block = owned->next.load();
  }
}

void ViewRegistry::Publish(Seq seq, std::unique_ptr<storage::ReadSnapshot> snapshot) {
  const Published* old = published_.exchange(
      std::make_unique<Published>(Published{seq, std::move(snapshot)}).release(),
      std::memory_order_seq_cst);
  Retire([old] { std::unique_ptr<const Published>(old).reset(); });
  // A reader counts itself before it looks at the number, so either it sees this one or it is
  // woken.
  if (waiting_.load(std::memory_order_seq_cst) == 0) return;
  MutexLock lock(wait_mu_);
  wait_published_.NotifyAll();
}

absl::StatusOr<ViewRegistry::Pin> ViewRegistry::PinAtLeast(Seq seq, int64_t wait_max_ms,
                                                           int waiters_max,
                                                           const CancelToken& cancel) const {
  Pin pin = PinNow();
  if (pin.seq() >= seq) return pin;
  pin = Pin();
  constexpr std::chrono::milliseconds kCancelInterval{100};
  const auto start = std::chrono::steady_clock::now();
  const auto end = cancel.deadline() == CancelToken::TimePoint::max()
                       ? start + std::chrono::milliseconds(wait_max_ms)
                       : cancel.deadline();
  absl::Status status;
  if (waiting_.fetch_add(1, std::memory_order_seq_cst) >= waiters_max) {
    status = ResourceExhausted("min_seq: %d reads wait already, which is the most", waiters_max);
  }
  while (status.ok() && published() < seq) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= end) {
      status = absl::DeadlineExceededError(absl::StrFormat(
          "min_seq: the store is at %d and did not come to %d in %d ms; is the number from this "
          "server?",
          Raw(published()), Raw(seq),
          std::chrono::duration_cast<std::chrono::milliseconds>(now - start).count()));
      break;
    }
    {
      MutexLock lock(wait_mu_);
      // Not while the number is there: its notice may have come before the lock.
      if (published() < seq)
        wait_published_.WaitUntil(wait_mu_, std::min(end, now + kCancelInterval));
    }
    status = cancel.Check();
    if (status.code() == absl::StatusCode::kDeadlineExceeded) status = absl::OkStatus();
  }
  waiting_.fetch_sub(1, std::memory_order_seq_cst);
  if (!status.ok()) return status;
  return PinNow();
}

ViewRegistry::Pin ViewRegistry::PinNow() const {
  // Threads begin at different slots, so that in the common case nobody else touches the line.
  static thread_local const size_t start =
      std::hash<std::thread::id>()(std::this_thread::get_id()) % Block::kSlots;
  for (Block* block = first_.get();;) {
    for (size_t i = 0; i < Block::kSlots; ++i) {
      Slot& slot = block->slots[(start + i) % Block::kSlots];
      uint64_t expected = 0;
      if (slot.epoch_plus_1.load(std::memory_order_relaxed) != 0) continue;
      const uint64_t mine = epoch_.load(std::memory_order_seq_cst) + 1;
      if (!slot.epoch_plus_1.compare_exchange_strong(expected, mine, std::memory_order_seq_cst)) {
        continue;
      }
      // First a lower bound into the slot, then the view itself: OldestPinned never overtakes it.
      // The slot is taken already, so that what published_ leads to is not freed.
      slot.seq.store(Raw(published_.load(std::memory_order_seq_cst)->seq),
                     std::memory_order_seq_cst);
      return Pin(&slot, published_.load(std::memory_order_seq_cst));
    }
    Block* next = block->next.load(std::memory_order_acquire);
    if (next == nullptr) {
      auto fresh = std::make_unique<Block>();
      if (block->next.compare_exchange_strong(next, fresh.get(), std::memory_order_acq_rel)) {
        next = fresh.release();
      }
    }
    block = next;
  }
}

template <typename F>
void ViewRegistry::ForEachSlot(F&& f) const {
  for (const Block* block = first_.get(); block != nullptr;
       block = block->next.load(std::memory_order_acquire)) {
    for (const Slot& slot : block->slots) f(slot);
  }
}

Seq ViewRegistry::OldestPinned() const {
  // The published number first: who pins after the scan of its slot reads one at least as large.
  uint64_t oldest = Raw(published());
  ForEachSlot([&](const Slot& slot) {
    if (slot.epoch_plus_1.load(std::memory_order_seq_cst) != 0) {
      oldest = std::min(oldest, slot.seq.load(std::memory_order_seq_cst));
    }
  });
  return Seq{oldest};
}

void ViewRegistry::Retire(std::function<void()> free) {
  {
    MutexLock lock(mu_);
    const uint64_t epoch = epoch_.fetch_add(1, std::memory_order_seq_cst);
    retired_.push_back({epoch, std::move(free)});
  }
  Collect();
}

void ViewRegistry::ReleaseStore() {
  Publish(published(), nullptr);
}

void ViewRegistry::Collect() {
  uint64_t oldest = UINT64_MAX;
  std::vector<Retired> ready;
  {
    MutexLock lock(mu_);
    if (retired_.empty()) return;
    ForEachSlot([&](const Slot& slot) {
      const uint64_t epoch_plus_1 = slot.epoch_plus_1.load(std::memory_order_seq_cst);
      if (epoch_plus_1 != 0) oldest = std::min(oldest, epoch_plus_1 - 1);
    });
    while (!retired_.empty() && retired_.front().epoch < oldest) {
      ready.push_back(std::move(retired_.front()));
      retired_.pop_front();
    }
  }
  for (Retired& item : ready) item.free();
}

}  // namespace azimuth::engine
