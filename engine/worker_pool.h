// Workers: who does the background work (builds, merges, maintenance), and who helps requests. A
// seam: the database runs on WorkerPool, which has threads (the only place that makes threads in
// the engine, at lower priority than those that answer requests); the simulation on one that runs
// jobs when it is told to.
//
// A WorkerPool has three crews. Jobs run on its workers, which have a small share of a busy
// machine. What a job does in parallel, by far the most of it, helpers do, which run where nothing
// else does: to the scheduler a processor with nothing but them is idle, so that it wakes a thread
// that answers a request there, and not behind another such thread. Where helpers do not come to
// run, the worker goes on by itself: a busy machine builds, too. A helper that is kept from running
// leaves the work for good; what it had begun, and a lock that it holds, are waited for, once for
// each work. Companions help threads that answer a request, at the same priority as theirs, and
// only those of them do that have nothing to do at that moment: nothing waits for one.
//
// Thread safety: Submit, RunParallel, companions and RunBeside from any thread; the rest by the
// owner.
#pragma once

#include "base/mutex.h"

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace azimuth::engine {

class Workers {
 public:
  virtual ~Workers() = default;
  // Runs `job` on some worker, in order of submission. Dropped after Stop.
  virtual void Submit(std::function<void()> job) = 0;
  // Runs body(0) ... body(count - 1), some at the same time, on other threads or on the caller's;
  // returns when all are done. May be called from a job.
  virtual void RunParallel(size_t count, const std::function<void(size_t)>& body) = 0;
  // Threads that may run beside a caller's.
  virtual size_t companions() const { return 0; }
  // Runs `work` on the caller's thread and at the same time on up to `most` companions, those that
  // are idle; they and the caller have to share out what there is to do. Returns when nobody runs
  // `work` any more; a companion that has not begun it by the time the caller is through never
  // does. What `work` throws anywhere is thrown here.
  virtual void RunBeside(size_t /*most*/, const std::function<void()>& work) { work(); }
  // Calls `tick` again and again until Stop. At most one function for each Workers.
  virtual void Repeat(std::chrono::milliseconds interval, std::function<void()> tick) = 0;
  // Lets running jobs end, drops waiting ones; nothing runs any more when it returns. Idempotent.
  virtual void Stop() = 0;
};

class Ticker;

// Threads that run what they are given, in order. Thread safety: Stop by the owner, the rest from
// any thread.
class Crew final {
 public:
  // Each thread calls `prepare` first.
  Crew(int threads, const std::function<void()>& prepare);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  size_t size() const { return threads_.size(); }
  bool all_idle();  // Of this moment.
  // Dropped after Stop.
  void Submit(std::function<void()> job);
  // Takes the job only if a thread is idle that no waiting job needs; false else.
  bool SubmitIfIdle(std::function<void()> job);
  // Lets running jobs end and drops waiting ones. Idempotent.
  void Stop();

 private:
  void Work();

  Mutex mu_;
  CondVar wake_;
  std::deque<std::function<void()>> jobs_ AZ_GUARDED_BY(mu_);
  size_t idle_ AZ_GUARDED_BY(mu_) = 0;
  bool stopping_ AZ_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // Constant after construction, until Stop.
};

class WorkerPool final : public Workers {
 public:
  // Makes so many workers, as many helpers, and `companions`.
  explicit WorkerPool(int threads, int companions = 0);
  ~WorkerPool() override;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Submit(std::function<void()> job) override;
  void RunParallel(size_t count, const std::function<void(size_t)>& body) override;
  size_t companions() const override { return companion_count_; }
  void RunBeside(size_t most, const std::function<void()>& work) override;
  void Repeat(std::chrono::milliseconds interval, std::function<void()> tick) override;
  void Stop() override;

  size_t threads() const { return workers_.size(); }
  // None has been asked for help that it still gives.
  bool all_companions_idle() { return companions_.all_idle(); }

 private:
  const size_t companion_count_;
  Crew companions_;
  Crew helpers_;
  Crew workers_;
  std::unique_ptr<Ticker> ticker_;
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
