// WorkerPool: the background threads: builds, merges, maintenance. The only place that makes
// threads in the engine. They run at lower priority than the threads that answer requests.
//
// Thread safety: Submit and RunParallel from any thread.
#pragma once

#include "base/mutex.h"

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

namespace azimuth::engine {

class WorkerPool final {
 public:
  explicit WorkerPool(int threads);
  ~WorkerPool() { Stop(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Runs `job` on some worker, in order of submission. Dropped if the pool is stopped.
  void Submit(std::function<void()> job);
  // Runs body(0) ... body(count - 1) on the workers that are free and on the caller; returns when
  // all are done. May be called from a job.
  void RunParallel(size_t count, const std::function<void(size_t)>& body);
  // Lets running jobs end, drops waiting ones, joins. Idempotent; called by the owner only.
  void Stop();

  size_t threads() const { return threads_.size(); }

 private:
  void Work();

  Mutex mu_;
  CondVar wake_;
  std::deque<std::function<void()>> jobs_ AZ_GUARDED_BY(mu_);
  bool stopping_ AZ_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // Constant after construction, until Stop.
};

// Calls a function again and again on a thread of its own, until it dies.
class Ticker final {
 public:
  Ticker(std::chrono::milliseconds interval, std::function<void()> tick);
  ~Ticker();  // Waits for a tick that runs.
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

 private:
  void Run(std::chrono::milliseconds interval, const std::function<void()>& tick);

  Mutex mu_;
  CondVar wake_;
  bool stopping_ AZ_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace azimuth::engine
