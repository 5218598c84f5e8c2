// JobPool: threads for calls that would keep a thread of the queue for too long.
//
// Threads are made when jobs come that no idle one takes, and end when they were idle for a while.
// Thread safety: Submit from any thread; Start and Stop by the owner.
#pragma once

#include "base/mutex.h"

#include <cstddef>
#include <deque>
#include <list>
#include <thread>

namespace azimuth::server {

// Something to run once; it stays its owner's. Must not throw.
class Job {
 public:
  virtual void Run() = 0;

 protected:
  ~Job() = default;
};

class JobPool final {
 public:
  JobPool(size_t kept, size_t threads_max);
  ~JobPool();
  JobPool(const JobPool&) = delete;
  JobPool& operator=(const JobPool&) = delete;

  // Makes `kept` threads, which stay. False if one cannot be made.
  bool Start();
  // Runs `job` on a thread of the pool, in order of submission. False if there is no thread and
  // none can be made; then `job` was not taken.
  bool Submit(Job& job);
  // Returns when all jobs have run. Idempotent; nothing is submitted after it.
  void Stop();

 private:
  using Threads = std::list<std::thread>;

  bool Grow() AZ_REQUIRES(mu_);
  void RunThread(Threads::iterator self);
  void JoinEnded() AZ_REQUIRES(mu_);

  const size_t kept_;
  const size_t threads_max_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Job*> jobs_ AZ_GUARDED_BY(mu_);
  size_t idle_ AZ_GUARDED_BY(mu_) = 0;
  bool stopping_ AZ_GUARDED_BY(mu_) = false;
  Threads threads_ AZ_GUARDED_BY(mu_);
  Threads ended_ AZ_GUARDED_BY(mu_);  // Still to be joined.
};

}  // namespace azimuth::server
