// CancelToken: when a request must stop, and whether its caller has gone. The last parameter of
// everything that loops over data.
//
// Thread safety: copies share nothing mutable; Check may be called from any thread.
#pragma once

#include "absl/status/status.h"

#include <chrono>
#include <functional>
#include <utility>

namespace azimuth {

class CancelToken final {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Never cancels.
  CancelToken() = default;
  // `is_cancelled` may be empty; it must be callable from any thread while the token lives.
  CancelToken(TimePoint deadline, std::function<bool()> is_cancelled)
      : deadline_(deadline), is_cancelled_(std::move(is_cancelled)) {}

  // DeadlineExceeded, Cancelled or OK. Costs a clock read: ask every few thousand steps.
  absl::Status Check() const {
    if (deadline_ != TimePoint::max() && std::chrono::steady_clock::now() >= deadline_) {
      return absl::DeadlineExceededError("the deadline passed before the work was done");
    }
    if (is_cancelled_ && is_cancelled_()) return absl::CancelledError("cancelled by the client");
    return absl::OkStatus();
  }

  TimePoint deadline() const { return deadline_; }

 private:
  TimePoint deadline_ = TimePoint::max();
  std::function<bool()> is_cancelled_;
};

}  // namespace azimuth
