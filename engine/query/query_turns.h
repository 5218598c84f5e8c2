// QueryTurns: the queries of a batch, which several threads take in runs until there are none left
// or one has failed.
//
// Thread safety: any number of threads.
#pragma once

#include "base/mutex.h"

#include "absl/status/status.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <optional>
#include <utility>

namespace azimuth::engine {

class QueryTurns final {
 public:
  struct Run {
    size_t first;
    size_t end;
    friend bool operator==(const Run&, const Run&) = default;
  };

  // Queries [first, end), `run` at a time. REQUIRES: run > 0.
  QueryTurns(size_t first, size_t end, size_t run) : end_(end), run_(run), next_(first) {}

  std::optional<Run> Take() {
    if (failed_.load(std::memory_order_relaxed)) return std::nullopt;
    const size_t first = next_.fetch_add(run_, std::memory_order_relaxed);
    if (first >= end_) return std::nullopt;
    return Run{first, std::min(first + run_, end_)};
  }
  // A run failed: none is given out any more.
  void Fail(const Run& run, absl::Status status) {
    failed_.store(true, std::memory_order_relaxed);
    MutexLock lock(mu_);
    if (!status_.ok() && run.first > failed_first_) return;
    failed_first_ = run.first;
    status_ = std::move(status);
  }
  // The error of the first run of those that failed; OK if none did.
  absl::Status status() {
    MutexLock lock(mu_);
    return status_;
  }

 private:
  const size_t end_;
  const size_t run_;
  std::atomic<size_t> next_;
  std::atomic<bool> failed_{false};
  Mutex mu_;
  size_t failed_first_ AZ_GUARDED_BY(mu_) = 0;
  absl::Status status_ AZ_GUARDED_BY(mu_);
};

}  // namespace azimuth::engine
