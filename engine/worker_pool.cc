#include "engine/worker_pool.h"

#include <atomic>
#include <memory>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr int kBackgroundNice = 10;

// Work that several threads take numbers from.
struct Parallel {
  Parallel(size_t n, const std::function<void(size_t)>& f) : count(n), body(f) {}

  // Takes numbers until there are none left.
  void Help() {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      body(i);
      MutexLock lock(mu);
      if (++done == count) all_done.NotifyAll();
    }
  }
  void Wait() {
    MutexLock lock(mu);
    while (done < count) all_done.Wait(mu);
  }

  const size_t count;
  const std::function<void(size_t)> body;  // A copy: a late helper may outlive the call.
  std::atomic<size_t> next{0};
  Mutex mu;
  CondVar all_done;
  size_t done AZ_GUARDED_BY(mu) = 0;
};

}  // namespace

WorkerPool::WorkerPool(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

WorkerPool::~WorkerPool() {
  Stop();
}

void WorkerPool::Repeat(std::chrono::milliseconds interval, std::function<void()> tick) {
  ticker_ = std::make_unique<Ticker>(interval, std::move(tick));
}

void WorkerPool::Work() {
  // On Linux a priority belongs to the thread. If it cannot be lowered, work goes on as it is.
  static_cast<void>(
      setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kBackgroundNice));
  while (true) {
    std::function<void()> job;
    {
      MutexLock lock(mu_);
      while (jobs_.empty() && !stopping_) wake_.Wait(mu_);
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

void WorkerPool::Submit(std::function<void()> job) {
  MutexLock lock(mu_);
  if (stopping_) return;
  jobs_.push_back(std::move(job));
  wake_.NotifyOne();
}

void WorkerPool::RunParallel(size_t count, const std::function<void(size_t)>& body) {
  if (count == 0) return;
  const auto work = std::make_shared<Parallel>(count, body);
  {
    MutexLock lock(mu_);
    // In front: a helper that comes after the work is done costs nothing.
    for (size_t i = 1; i < count && i <= threads_.size() && !stopping_; ++i) {
      jobs_.push_front([work] { work->Help(); });
      wake_.NotifyOne();
    }
  }
  work->Help();
  work->Wait();
}

void WorkerPool::Stop() {
  ticker_.reset();
  {
    MutexLock lock(mu_);
    stopping_ = true;
    jobs_.clear();
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

Ticker::Ticker(std::chrono::milliseconds interval, std::function<void()> tick)
    : thread_([this, interval, tick = std::move(tick)] { Run(interval, tick); }) {}

Ticker::~Ticker() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void Ticker::Run(std::chrono::milliseconds interval, const std::function<void()>& tick) {
  while (true) {
    {
      MutexLock lock(mu_);
      const auto next = std::chrono::steady_clock::now() + interval;
      while (!stopping_ && wake_.WaitUntil(mu_, next)) {
      }
      if (stopping_) return;
    }
    tick();
  }
}

}  // namespace azimuth::engine
