// ManualWorkers: background work that happens when a test says so, on the test's own thread.
//
// Thread safety: Submit from any thread; the rest by the test.
#pragma once

#include "base/mutex.h"
#include "engine/database.h"
#include "engine/worker_pool.h"

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <utility>

namespace azimuth::engine::testing {

class ManualWorkers final : public Workers {
 public:
  void Submit(std::function<void()> job) override {
    MutexLock lock(mu_);
    if (!stopped_) jobs_.push_back(std::move(job));
  }
  void RunParallel(size_t count, const std::function<void(size_t)>& body) override {
    for (size_t i = 0; i < count; ++i) body(i);
  }
  void Repeat(std::chrono::milliseconds, std::function<void()> tick) override {
    tick_ = std::move(tick);
  }
  void Stop() override {
    MutexLock lock(mu_);
    stopped_ = true;
    jobs_.clear();
  }

  // Runs the oldest job; false if there is none.
  bool RunOne() {
    std::function<void()> job;
    {
      MutexLock lock(mu_);
      if (jobs_.empty()) return false;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
    return true;
  }
  void RunAll() {
    while (RunOne()) {
    }
  }
  // One round of maintenance.
  void Tick() { tick_(); }

  size_t waiting() const {
    MutexLock lock(mu_);
    return jobs_.size();
  }

 private:
  mutable Mutex mu_;
  std::deque<std::function<void()>> jobs_ AZ_GUARDED_BY(mu_);
  bool stopped_ AZ_GUARDED_BY(mu_) = false;
  std::function<void()> tick_;
};

// Makes the database that is opened with `options` use ManualWorkers, and points `workers` at them;
// they live as long as that database.
inline void UseManualWorkers(DatabaseOptions& options, ManualWorkers*& workers) {
  options.make_workers = [&workers](int) {
    auto made = std::make_unique<ManualWorkers>();
    workers = made.get();
    return made;
  };
}

}  // namespace azimuth::engine::testing
