#include "server/rpc/job_pool.h"

#include <chrono>
#include <iterator>
#include <system_error>

namespace azimuth::server {
namespace {

constexpr std::chrono::seconds kIdleMost{10};

}  // namespace

JobPool::JobPool(size_t kept, size_t threads_max) : kept_(kept), threads_max_(threads_max) {}

JobPool::~JobPool() {
  Stop();
}

bool JobPool::Start() {
  MutexLock lock(mu_);
  while (threads_.size() < kept_) {
    if (!Grow()) return false;
  }
  return true;
}

bool JobPool::Grow() {
  threads_.emplace_back();
  const auto self = std::prev(threads_.end());
  try {
    *self = std::thread([this, self] { RunThread(self); });
  } catch (const std::system_error&) {
    threads_.erase(self);
    return false;
  }
  return true;
}

bool JobPool::Submit(Job& job) {
  MutexLock lock(mu_);
  JoinEnded();
  if (jobs_.size() >= idle_ && threads_.size() < threads_max_ && !Grow() && threads_.empty()) {
    return false;
  }
  jobs_.push_back(&job);
  changed_.NotifyOne();
  return true;
}

void JobPool::RunThread(Threads::iterator self) {
  MutexLock lock(mu_);
  while (true) {
    if (!jobs_.empty()) {
      Job* job = jobs_.front();
      jobs_.pop_front();
      mu_.Unlock();
      job->Run();
      mu_.Lock();
      continue;
    }
    if (stopping_) return;
    ++idle_;
    const bool woken = changed_.WaitUntil(mu_, std::chrono::steady_clock::now() + kIdleMost);
    --idle_;
    if (!woken && jobs_.empty() && !stopping_ && threads_.size() > kept_) {
      ended_.splice(ended_.end(), threads_, self);
      return;
    }
  }
}

void JobPool::JoinEnded() {
  // They hold the mutex no more: they gave it back when they entered `ended_`, or are about to.
  Threads ended;
  ended.swap(ended_);
  if (ended.empty()) return;
  mu_.Unlock();
  for (std::thread& thread : ended) thread.join();
  mu_.Lock();
}

void JobPool::Stop() {
  Threads threads;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
    threads.swap(threads_);
    threads.splice(threads.end(), ended_);
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace azimuth::server
