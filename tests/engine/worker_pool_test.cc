#include "engine/worker_pool.h"

#include "base/mutex.h"

#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace azimuth::engine {
namespace {

TEST(WorkerPool, RunParallelRunsEveryNumberOnce) {
  WorkerPool pool(3);
  std::vector<std::atomic<int>> runs(1000);
  pool.RunParallel(runs.size(), [&](size_t i) { runs[i].fetch_add(1); });
  for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
}

TEST(WorkerPool, RunParallelFromAJobOfAPoolOfOneDoesNotWaitForItself) {
  WorkerPool pool(1);
  Mutex mu;
  CondVar done;
  int sum = 0;
  bool finished = false;
  pool.Submit([&] {
    std::atomic<int> partial{0};
    pool.RunParallel(10, [&](size_t i) { partial.fetch_add(static_cast<int>(i)); });
    MutexLock lock(mu);
    sum = partial.load();
    finished = true;
    done.NotifyAll();
  });
  MutexLock lock(mu);
  while (!finished) done.Wait(mu);
  EXPECT_EQ(sum, 45);
}

TEST(WorkerPool, TheCallerDoesItAllWhereHelpersDoNotComeToIt) {
  WorkerPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> caller_done{false};
  std::atomic<int> by_caller{0};
  std::atomic<int> by_others{0};
  pool.RunParallel(10, [&](size_t) {
    if (std::this_thread::get_id() == caller) {
      // But what helpers have taken, once they came to it.
      while (by_others < 2) std::this_thread::yield();
      if (by_caller.fetch_add(1) == 7) caller_done = true;
      return;
    }
    by_others.fetch_add(1);
    while (!caller_done) std::this_thread::yield();
  });
  EXPECT_EQ(by_caller, 8);
  EXPECT_EQ(by_others, 2);
}

TEST(WorkerPool, StopDropsWaitingJobsAndLaterOnes) {
  WorkerPool pool(1);
  pool.Stop();
  bool ran = false;
  pool.Submit([&] { ran = true; });
  pool.Stop();
  EXPECT_FALSE(ran);
}

TEST(Ticker, TicksAgainAndAgain) {
  Mutex mu;
  CondVar ticked;
  int ticks = 0;
  const Ticker ticker(std::chrono::milliseconds(1), [&] {
    MutexLock lock(mu);
    ++ticks;
    ticked.NotifyAll();
  });
  MutexLock lock(mu);
  while (ticks < 3) ticked.Wait(mu);
  EXPECT_GE(ticks, 3);
}

}  // namespace
}  // namespace azimuth::engine
