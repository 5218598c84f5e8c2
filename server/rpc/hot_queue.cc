#include "server/rpc/hot_queue.h"

#include "base/status.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace azimuth::server {
namespace {

// A thread that runs a job of at least this length has another one listen meanwhile. To wake one
// for each call costs more than calls that come meanwhile lose.
constexpr std::chrono::nanoseconds kWorthWaking = std::chrono::microseconds(400);
// While all threads have jobs, one looks for events so often.
constexpr std::chrono::nanoseconds kLookAgain = std::chrono::microseconds(200);
// The keeper stands in when all threads run and none has ended a job for so long.
constexpr std::chrono::milliseconds kHeldUp{10};
constexpr std::chrono::milliseconds kStandInFor{5};
// gRPC has asked the system for events if to get one took so long.
constexpr std::chrono::nanoseconds kSurelyAsked = std::chrono::microseconds(10);
// Events that are heard before jobs run.
constexpr int kEventsMax = 256;

// The queue that this thread listens to.
thread_local const HotQueue* listens_to = nullptr;

size_t Cores() {
  return std::max(1U, std::thread::hardware_concurrency());
}

// One listens while another one runs.
size_t QueueThreads() {
  return std::clamp<size_t>(Cores(), 2, 8);
}

// Enough that one very long job does not hold up the others.
size_t LongThreads() {
  return std::clamp<size_t>(2 * Cores(), 4, 32);
}

}  // namespace

HotQueue::HotQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue, size_t waiting_max)
    : queue_(std::move(queue)),
      long_jobs_(1, LongThreads()),
      waiting_jobs_(0, waiting_max),
      runners_(QueueThreads()) {}

HotQueue::~HotQueue() {
  Stop();
}

absl::Status HotQueue::Start() {
  try {
    for (size_t i = 0; i < runners_; ++i) threads_.emplace_back([this] { RunThread(); });
    threads_.emplace_back([this] { RunKeeper(); });
  } catch (const std::system_error& error) {
    return ResourceExhausted("cannot make a thread for searches: %s", error.what());
  }
  if (long_jobs_.Start()) return absl::OkStatus();
  return absl::ResourceExhaustedError("cannot make a thread for long searches");
}

bool HotQueue::Submit(Job& job, const Expectation& expected) {
  if (expected.may_wait) return waiting_jobs_.Submit(job);
  if (expected.time > kShort) return long_jobs_.Submit(job);
  if (listens_to == this) {
    heard_.push_back({&job, expected.time});
    return true;
  }
  MutexLock lock(mu_);
  ready_.push_back({&job, expected.time});
  if (sleeping_ > 0) changed_.NotifyOne();
  return true;
}

void HotQueue::RunThread() {
  MutexLock lock(mu_);
  while (true) {
    if (!ready_.empty()) {
      RunReady();
    } else if (!listening_) {
      if (closed_) break;
      Listen(/*wait=*/true);
    } else {
      ++sleeping_;
      changed_.Wait(mu_);
      --sleeping_;
    }
  }
  changed_.NotifyAll();
  all_run_.NotifyAll();
}

void HotQueue::RunReady() {
  const Ready next = ready_.front();
  ready_.pop_front();
  // Another thread has more jobs to run, or should listen.
  const bool others = !ready_.empty() || (!listening_ && next.time >= kWorthWaking);
  if (others && sleeping_ > 0) changed_.NotifyOne();
  ++running_;
  if (keeper_sleeps_ && AllRun()) all_run_.NotifyAll();
  mu_.Unlock();
  next.job->Run();
  mu_.Lock();
  --running_;
  ++jobs_run_;
  if (!ready_.empty() && !listening_ && Clock::now() - looked_ >= kLookAgain) {
    Listen(/*wait=*/false);
  }
}

void HotQueue::Listen(bool wait) {
  listening_ = true;
  mu_.Unlock();
  listens_to = this;
  const bool open = Hear(wait);
  listens_to = nullptr;
  mu_.Lock();
  listening_ = false;
  if (!open) closed_ = true;
  ready_.insert(ready_.end(), heard_.begin(), heard_.end());
  heard_.clear();
}

bool HotQueue::Hear(bool wait) {
  void* tag = nullptr;
  bool ok = false;
  Clock::time_point now = Clock::now();
  for (int events = 0; events < kEventsMax; ++events) {
    if (wait && heard_.empty()) {
      if (!queue_->Next(&tag, &ok)) return false;
      const Clock::time_point before = std::exchange(now, Clock::now());
      if (now - before >= kSurelyAsked) looked_ = now;
    } else {
      // A thread that sleeps may be needed, too, for what comes with a job so short that it is not
      // woken for it. And gRPC asks the system only when it has no more events.
      const bool look = !wait || now - looked_ >= kLookAgain ||
                        (sleeping_ > 0 && heard_.back().time < kWorthWaking);
      if (!look) return true;
      const auto next = queue_->AsyncNext(&tag, &ok, gpr_inf_past(GPR_CLOCK_MONOTONIC));
      if (next != grpc::CompletionQueue::GOT_EVENT) {
        looked_ = Clock::now();
        return next != grpc::CompletionQueue::SHUTDOWN;
      }
    }
    static_cast<Event*>(tag)->Happened(ok);
  }
  return true;
}

void HotQueue::RunKeeper() {
  MutexLock lock(mu_);
  while (!closed_) {
    if (!AllRun()) {
      keeper_sleeps_ = true;
      all_run_.Wait(mu_);
      keeper_sleeps_ = false;
      continue;
    }
    const uint64_t before = jobs_run_;
    const auto end = Clock::now() + kHeldUp;
    while (!closed_ && all_run_.WaitUntil(mu_, end)) {
    }
    if (AllRun() && jobs_run_ == before && !listening_) StandIn();
  }
}

void HotQueue::StandIn() {
  listening_ = true;
  while (AllRun()) {
    // What is ready would wait for as long as what runs.
    while (!ready_.empty() && long_jobs_.Submit(*ready_.front().job)) ready_.pop_front();
    mu_.Unlock();
    listens_to = this;
    HearFor(kStandInFor);
    listens_to = nullptr;
    mu_.Lock();
    ready_.insert(ready_.end(), heard_.begin(), heard_.end());
    heard_.clear();
  }
  listening_ = false;
  changed_.NotifyOne();
}

void HotQueue::HearFor(std::chrono::milliseconds time) {
  void* tag = nullptr;
  bool ok = false;
  gpr_timespec end =
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(time.count(), GPR_TIMESPAN));
  for (int events = 0; events < kEventsMax; ++events) {
    if (queue_->AsyncNext(&tag, &ok, end) != grpc::CompletionQueue::GOT_EVENT) return;
    static_cast<Event*>(tag)->Happened(ok);
    end = gpr_inf_past(GPR_CLOCK_MONOTONIC);  // What else there is already.
  }
}

void HotQueue::Hold() {
  MutexLock lock(mu_);
  ++holds_;
}

void HotQueue::Release() {
  MutexLock lock(mu_);
  if (--holds_ == 0) released_.NotifyAll();
}

void HotQueue::HearTheLast() {
  void* tag = nullptr;
  for (bool ok = false; holds_ > 0;) {
    mu_.Unlock();
    if (queue_->Next(&tag, &ok)) static_cast<Event*>(tag)->Happened(ok);
    mu_.Lock();
  }
}

void HotQueue::Stop() {
  {
    MutexLock lock(mu_);
    if (stopped_) return;
    stopped_ = true;
    if (threads_.empty()) HearTheLast();
    while (holds_ > 0) released_.Wait(mu_);
  }
  queue_->Shutdown();
  for (std::thread& thread : threads_) thread.join();
  long_jobs_.Stop();
  waiting_jobs_.Stop();
}

}  // namespace azimuth::server
