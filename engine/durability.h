// Durability: how far the store is safe on disk, and whether it may still be written.
//
// Three states. Writable; read-only because a write or a sync failed (what is in memory and what is
// on disk may differ: the process drains and exits, and a start recovers from what the disk has; it
// never goes on by itself, see the fsync study of Rebello et al., ATC 2020); read-only because
// synced commits are missing (it serves what is there until somebody accepts the loss). A full disk
// is none of them: it heals by itself.
//
// Ownership: outlives the Store that it listens to.
// Thread safety: any thread; NoteCommitted by the commit leader.
#pragma once

#include "base/ids.h"
#include "base/mutex.h"
#include "engine/disk_guard.h"
#include "storage/store.h"
#include "storage/watermark.h"

#include "absl/status/status.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace azimuth::engine {

class Durability final : public storage::StoreListener {
 public:
  enum class State : uint8_t { kWritable, kFailed, kDataLoss };

  explicit Durability(DiskGuard& disk) : disk_(disk) {}

  State state() const { return state_.load(std::memory_order_acquire); }
  // OK; FailedPrecondition after a failure, DataLoss when commits are missing: each says why and
  // what to do.
  absl::Status CheckWritable() const;
  std::string reason() const;  // Empty while it is writable.

  // A write or a sync failed. The first reason stays. A full disk is noted and changes nothing.
  void Fail(const absl::Status& why);
  // Synced commits are missing. At start.
  void LoseData(const absl::Status& what);

  // Before the first commit: the store is at `applied`, all of it synced.
  void Begin(std::unique_ptr<storage::Watermark> watermark, Seq applied);
  // The store has committed up to `seq`.
  void NoteCommitted(Seq seq, bool synced, int64_t now_ms);
  // Syncs what was committed without a sync a moment ago, and moves the watermark once a second.
  void Tick(storage::Store& store, int64_t now_ms);
  // After the store was closed in good order.
  absl::Status MarkClean();

  Seq synced() const;
  Seq watermark() const;  // Zero before Begin.
  uint64_t damage_found() const { return damage_found_.load(std::memory_order_relaxed); }

  void OnLogRotated() override;
  void OnWriteError(const absl::Status& status) override { Fail(status); }
  void OnDamage(const absl::Status& status) override;

 private:
  // Moves the watermark to what is synced.
  void WriteMark(Seq seq);

  DiskGuard& disk_;
  std::atomic<State> state_{State::kWritable};
  std::atomic<uint64_t> damage_found_{0};
  std::unique_ptr<storage::Watermark> watermark_;  // Set by Begin.
  mutable Mutex mu_;
  absl::Status reason_ AZ_GUARDED_BY(mu_);
  std::string last_damage_ AZ_GUARDED_BY(mu_);
  Seq committed_ AZ_GUARDED_BY(mu_){};
  Seq synced_ AZ_GUARDED_BY(mu_){};
  int64_t unsynced_since_ms_ AZ_GUARDED_BY(mu_) = -1;  // -1: all is synced.
  int64_t marked_at_ms_ AZ_GUARDED_BY(mu_) = INT64_MIN;
};

}  // namespace azimuth::engine
