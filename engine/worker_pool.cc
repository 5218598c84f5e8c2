#include "engine/worker_pool.h"

#include <atomic>
#include <exception>
#include <memory>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr int kBackgroundNice = 10;
// A part of a parallel work takes some milliseconds; where none is done for so long, no helper
// runs.
constexpr std::chrono::milliseconds kHelpPatience{50};
// A helper that has less of a processor than a worker would have is of no use.
constexpr int kHelpShareInverse = 10;

// On Linux a priority belongs to the thread. If it cannot be lowered, work goes on as it is.
void LowerPriority() {
  static_cast<void>(
      setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kBackgroundNice));
}

void RunWhereNothingElseDoes() {
  LowerPriority();
  const sched_param none{};
  static_cast<void>(sched_setscheduler(0, SCHED_IDLE, &none));
}

std::chrono::nanoseconds ThreadCpuTime() {
  timespec time{};
  static_cast<void>(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time));
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// Work that a caller does together with whoever comes to it in time.
class Beside {
 public:
  explicit Beside(const std::function<void()>& work) : work_(work) {}

  void RunAsCompanion() {
    {
      MutexLock lock(mu_);
      if (closed_) return;
      ++running_;
    }
    Run();
    MutexLock lock(mu_);
    if (--running_ == 0) none_runs_.NotifyAll();
  }
  // Returns when all have ended, whoever has not begun is kept out.
  void RunAsCaller() {
    Run();
    MutexLock lock(mu_);
    closed_ = true;
    while (running_ > 0) none_runs_.Wait(mu_);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void Run() {
    try {
      work_();
    } catch (...) {
      MutexLock lock(mu_);
      failure_ = std::current_exception();
    }
  }

  const std::function<void()>& work_;  // Of the caller; not touched once it has been kept out of.
  Mutex mu_;
  CondVar none_runs_;
  size_t running_ AZ_GUARDED_BY(mu_) = 0;  // Companions.
  bool closed_ AZ_GUARDED_BY(mu_) = false;
  std::exception_ptr failure_ AZ_GUARDED_BY(mu_);
};

// Work that several threads take numbers from.
class Parallel {
 public:
  Parallel(size_t count, const std::function<void(size_t)>& body) : count_(count), body_(body) {}

  // Takes numbers until there are none left, or the thread is kept from running.
  void Help() {
    for (bool runs = true; runs;) {
      const auto began = std::chrono::steady_clock::now();
      const std::chrono::nanoseconds cpu_began = ThreadCpuTime();
      if (!TakeOne()) return;
      const auto took = std::chrono::steady_clock::now() - began;
      runs = took < kHelpPatience || took < kHelpShareInverse * (ThreadCpuTime() - cpu_began);
    }
  }
  // Returns when all is done, by others where they come to it.
  void Finish() {
    size_t own = 0;
    while (true) {
      const size_t before = done();
      if (before == count_) return;
      if (WaitForMore(before)) continue;
      // Until others do something again.
      do {
        if (!TakeOne()) return WaitForAll();
        ++own;
      } while (done() - before <= own);
      own = 0;
    }
  }

 private:
  bool TakeOne() {
    const size_t i = next_.fetch_add(1);
    if (i >= count_) return false;
    body_(i);
    MutexLock lock(mu_);
    ++done_;
    changed_.NotifyAll();
    return true;
  }
  size_t done() {
    MutexLock lock(mu_);
    return done_;
  }
  // False if nothing was done for a while.
  bool WaitForMore(size_t before) {
    const auto deadline = std::chrono::steady_clock::now() + kHelpPatience;
    MutexLock lock(mu_);
    while (done_ == before) {
      if (!changed_.WaitUntil(mu_, deadline)) return done_ != before;
    }
    return true;
  }
  void WaitForAll() {
    MutexLock lock(mu_);
    while (done_ < count_) changed_.Wait(mu_);
  }

  const size_t count_;
  const std::function<void(size_t)> body_;  // A copy: a late helper may outlive the call.
  std::atomic<size_t> next_{0};
  Mutex mu_;
  CondVar changed_;
  size_t done_ AZ_GUARDED_BY(mu_) = 0;
};

}  // namespace

Crew::Crew(int threads, const std::function<void()>& prepare) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this, prepare] {
      prepare();
      Work();
    });
  }
}

Crew::~Crew() {
  Stop();
}

void Crew::Work() {
  while (true) {
    std::function<void()> job;
    {
      MutexLock lock(mu_);
      ++idle_;
      while (jobs_.empty() && !stopping_) wake_.Wait(mu_);
      --idle_;
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

void Crew::Submit(std::function<void()> job) {
  MutexLock lock(mu_);
  if (stopping_) return;
  jobs_.push_back(std::move(job));
  wake_.NotifyOne();
}

bool Crew::all_idle() {
  MutexLock lock(mu_);
  return jobs_.empty() && idle_ == threads_.size();
}

bool Crew::SubmitIfIdle(std::function<void()> job) {
  MutexLock lock(mu_);
  if (stopping_ || jobs_.size() >= idle_) return false;
  jobs_.push_back(std::move(job));
  wake_.NotifyOne();
  return true;
}

void Crew::Stop() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    jobs_.clear();
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

WorkerPool::WorkerPool(int threads, int companions)
    : companion_count_(static_cast<size_t>(companions)),
      companions_(companions, [] {}),
      helpers_(threads, RunWhereNothingElseDoes),
      workers_(threads, LowerPriority) {}

WorkerPool::~WorkerPool() {
  Stop();
}

void WorkerPool::Repeat(std::chrono::milliseconds interval, std::function<void()> tick) {
  ticker_ = std::make_unique<Ticker>(interval, std::move(tick));
}

void WorkerPool::Submit(std::function<void()> job) {
  workers_.Submit(std::move(job));
}

void WorkerPool::RunParallel(size_t count, const std::function<void(size_t)>& body) {
  const auto work = std::make_shared<Parallel>(count, body);
  // One that comes after the work is done costs nothing.
  for (size_t i = 0; i < count && i < helpers_.size(); ++i) {
    helpers_.Submit([work] { work->Help(); });
  }
  work->Finish();
}

void WorkerPool::RunBeside(size_t most, const std::function<void()>& work) {
  const auto beside = std::make_shared<Beside>(work);
  for (size_t i = 0; i < most; ++i) {
    if (!companions_.SubmitIfIdle([beside] { beside->RunAsCompanion(); })) break;
  }
  beside->RunAsCaller();
}

void WorkerPool::Stop() {
  ticker_.reset();
  companions_.Stop();
  workers_.Stop();  // While there are helpers for the jobs that run.
  helpers_.Stop();
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
