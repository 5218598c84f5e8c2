#include "engine/durability.h"

#include "base/logging.h"
#include "base/status.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

// Commits without a sync wait at most this long for one, and a tick.
constexpr int64_t kUnsyncedMaxMs = 400;
constexpr int64_t kMarkIntervalMs = 1000;

}  // namespace

absl::Status Durability::CheckWritable() const {
  if (state() == State::kWritable) return absl::OkStatus();
  MutexLock lock(mu_);
  return reason_;
}

std::string Durability::reason() const {
  MutexLock lock(mu_);
  return std::string(reason_.message());
}

void Durability::Fail(const absl::Status& why) {
  if (why.code() == absl::StatusCode::kResourceExhausted) return disk_.NoteFull();
  {
    MutexLock lock(mu_);
    if (state() != State::kWritable) return;
    reason_ = FailedPrecondition(
        "the store is read-only since a write failed, and the server stops; a restart recovers all "
        "that was acknowledged: %s",
        std::string(why.message()));
    state_.store(State::kFailed, std::memory_order_release);
  }
  LogError("the store is read-only from here on: %s", std::string(why.message()));
}

void Durability::LoseData(const absl::Status& what) {
  {
    MutexLock lock(mu_);
    reason_ = what;
    state_.store(State::kDataLoss, std::memory_order_release);
  }
  LogError("the store is served read-only: %s", std::string(what.message()));
}

void Durability::Begin(std::unique_ptr<storage::Watermark> watermark, Seq applied) {
  watermark_ = std::move(watermark);
  MutexLock lock(mu_);
  committed_ = applied;
  synced_ = applied;
}

void Durability::NoteCommitted(Seq seq, bool synced, int64_t now_ms) {
  MutexLock lock(mu_);
  committed_ = seq;
  if (synced) {
    synced_ = seq;
    unsynced_since_ms_ = -1;
  } else if (unsynced_since_ms_ < 0) {
    unsynced_since_ms_ = now_ms;
  }
}

void Durability::Tick(storage::Store& store, int64_t now_ms) {
  if (state() != State::kWritable || watermark_ == nullptr) return;
  Seq committed{};
  bool sync = false;
  {
    MutexLock lock(mu_);
    committed = committed_;
    sync = unsynced_since_ms_ >= 0 && now_ms - unsynced_since_ms_ >= kUnsyncedMaxMs;
  }
  if (sync) {
    if (const absl::Status status = store.SyncLog(); !status.ok()) return Fail(status);
  }
  Seq mark{};
  {
    MutexLock lock(mu_);
    if (sync) {
      synced_ = std::max(synced_, committed);
      // What came meanwhile waits from now on.
      if (unsynced_since_ms_ >= 0) unsynced_since_ms_ = committed_ == committed ? -1 : now_ms;
    }
    if (marked_at_ms_ != INT64_MIN && now_ms - marked_at_ms_ < kMarkIntervalMs) return;
    mark = synced_;
    if (mark == watermark_->written()) return;
    marked_at_ms_ = now_ms;
  }
  WriteMark(mark);
}

absl::Status Durability::MarkClean() {
  if (watermark_ == nullptr || state() != State::kWritable) return absl::OkStatus();
  Seq committed{};
  {
    MutexLock lock(mu_);
    committed = committed_;
  }
  return watermark_->Write(committed, /*clean=*/true);
}

void Durability::WriteMark(Seq seq) {
  // On a full disk it is tried again.
  if (const absl::Status status = watermark_->Write(seq, /*clean=*/false); !status.ok()) {
    Fail(status);
  }
}

Seq Durability::synced() const {
  MutexLock lock(mu_);
  return synced_;
}

Seq Durability::watermark() const {
  return watermark_ == nullptr ? kSeqZero : watermark_->written();
}

// Commits that run now are not in it: the leader notes them afterwards.
void Durability::OnLogRotated() {
  if (state() != State::kWritable || watermark_ == nullptr) return;
  Seq committed{};
  {
    MutexLock lock(mu_);
    committed = committed_;
    synced_ = std::max(synced_, committed);
    unsynced_since_ms_ = -1;
  }
  WriteMark(committed);
}

void Durability::OnDamage(const absl::Status& status) {
  damage_found_.fetch_add(1, std::memory_order_relaxed);
  const std::string text(status.message());
  {
    // A merge is tried again and again.
    MutexLock lock(mu_);
    if (text == last_damage_) return;
    last_damage_ = text;
  }
  LogError("a table file is damaged; its other rows are served, verify names it: %s", text);
}

}  // namespace azimuth::engine
