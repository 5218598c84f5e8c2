// HotQueue: a completion queue of gRPC, and the threads that serve it and run what comes.
//
// One thread listens at a time; it hears the events and takes the jobs that they give rise to to a
// list, from which all threads of the queue run them. What runs for long goes to a pool (JobPool),
// as those threads are all that listen: in a server with such a queue the threads of synchronous
// services do not. A thread that runs what is very short listens again itself, for to wake another
// one costs more; otherwise a thread that sleeps is woken to listen meanwhile. While all of them
// run, each looks for events between two jobs; and when all are held up by jobs that take longer
// than was expected, the keeper, a thread that does nothing else, listens in their place and hands
// what comes to the pool.
//
// One queue and not one for each thread: gRPC gives all calls of a connection to one queue, and
// several threads in gRPC wake one another at each event.
//
// Ownership: borrows the queue's events and jobs; they live until the queue lets go of them.
// Thread safety: Submit, Hold and Release from any thread, the rest by the owner.
#pragma once

#include "base/mutex.h"
#include "server/rpc/job_pool.h"

#include "absl/status/status.h"
#include "grpcpp/completion_queue.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

namespace azimuth::server {

// What gRPC gives back when something that was asked for has happened: a tag.
class Event {
 public:
  // Never two at a time, of whatever events of a queue. Must be short, and not throw.
  virtual void Happened(bool ok) = 0;

 protected:
  ~Event() = default;
};

// An event that is a member of what hears of it.
template <typename Owner, void (Owner::*kHear)(bool ok)>
class EventOf final : public Event {
 public:
  explicit EventOf(Owner& owner) : owner_(owner) {}
  void Happened(bool ok) override { (owner_.*kHear)(ok); }
  // As gRPC takes it.
  void* tag() { return static_cast<Event*>(this); }

 private:
  Owner& owner_;
};

class HotQueue final {
 public:
  // How long a job will take.
  struct Expectation {
    std::chrono::nanoseconds time{};
    bool may_wait = false;  // For something that others do.
  };
  // Jobs that take longer go to a pool. Every thread of the queue may be with one of this length
  // before somebody listens again.
  static constexpr std::chrono::nanoseconds kShort = std::chrono::milliseconds(1);

  // `waiting_max` jobs that may wait run at a time.
  HotQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue, size_t waiting_max);
  ~HotQueue();  // As Stop.
  HotQueue(const HotQueue&) = delete;
  HotQueue& operator=(const HotQueue&) = delete;

  grpc::ServerCompletionQueue& queue() { return *queue_; }
  // After the server was started, which has the queue. ResourceExhausted if a thread cannot be
  // made.
  absl::Status Start();
  // Runs `job`, soon, elsewhere than in Submit. False if it needs a thread that cannot be made.
  bool Submit(Job& job, const Expectation& expected);
  // The queue is not closed while it is held: whoever may still ask gRPC for an event holds it.
  void Hold();
  void Release();
  // After the shutdown of the server: returns when nobody holds the queue, all jobs have run and
  // all events were heard. Idempotent.
  void Stop();

 private:
  struct Ready {
    Job* job;
    std::chrono::nanoseconds time;
  };
  using Clock = std::chrono::steady_clock;

  void RunThread();
  // Hears of events until there is a job, or, without `wait`, until there is no event.
  void Listen(bool wait) AZ_REQUIRES(mu_);
  // Of the thread that listens; false when gRPC says that no event will come any more.
  bool Hear(bool wait);
  void RunReady() AZ_REQUIRES(mu_);
  void RunKeeper();
  // All threads are held up: listens until one is not.
  void StandIn() AZ_REQUIRES(mu_);
  void HearFor(std::chrono::milliseconds time);
  bool AllRun() const AZ_REQUIRES(mu_) { return running_ == runners_; }
  // Where there is no thread that would.
  void HearTheLast() AZ_REQUIRES(mu_);

  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  JobPool long_jobs_;
  JobPool waiting_jobs_;
  // Of the thread that listens: when it last asked the system for events, and jobs of those that
  // it has heard of.
  Clock::time_point looked_{};
  std::vector<Ready> heard_;
  std::atomic<size_t> sleeping_{0};  // Changes while mu_ is held.
  const size_t runners_;             // Threads but the keeper.
  Mutex mu_;
  CondVar changed_;
  CondVar all_run_;  // For the keeper.
  CondVar released_;
  std::deque<Ready> ready_ AZ_GUARDED_BY(mu_);
  bool listening_ AZ_GUARDED_BY(mu_) = false;
  bool closed_ AZ_GUARDED_BY(mu_) = false;  // gRPC says that no event will come.
  bool stopped_ AZ_GUARDED_BY(mu_) = false;
  bool keeper_sleeps_ AZ_GUARDED_BY(mu_) = false;
  size_t running_ AZ_GUARDED_BY(mu_) = 0;  // Threads with a job.
  uint64_t jobs_run_ AZ_GUARDED_BY(mu_) = 0;
  size_t holds_ AZ_GUARDED_BY(mu_) = 0;
  std::vector<std::thread> threads_;
};

}  // namespace azimuth::server
