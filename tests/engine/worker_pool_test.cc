#include "engine/worker_pool.h"

#include "base/mutex.h"

#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <new>
#include <set>
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

// Runs `meet` times at once; false if they do not come together in time.
class Meeting {
 public:
  explicit Meeting(int meet) : missing_(meet) {}
  bool Come() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    MutexLock lock(mu_);
    --missing_;
    all_.NotifyAll();
    while (missing_ > 0) {
      if (!all_.WaitUntil(mu_, deadline)) return missing_ <= 0;
    }
    return true;
  }

 private:
  Mutex mu_;
  CondVar all_;
  int missing_ AZ_GUARDED_BY(mu_);
};

TEST(WorkerPool, RunBesideRunsOnTheCallersThreadAndOnIdleCompanions) {
  WorkerPool pool(1, 2);
  EXPECT_EQ(pool.companions(), 2U);
  for (int round = 0; round < 50; ++round) {
    // Companions of the round before may be on their way back.
    Mutex mu;
    std::set<std::thread::id> threads;
    pool.RunBeside(2, [&] {
      MutexLock lock(mu);
      threads.insert(std::this_thread::get_id());
    });
    EXPECT_EQ(threads.count(std::this_thread::get_id()), 1U);
    EXPECT_LE(threads.size(), 3U);
  }
  WorkerPool fresh(1, 2);
  while (!fresh.all_companions_idle()) std::this_thread::yield();
  Meeting meeting(3);
  std::atomic<int> met{0};
  fresh.RunBeside(2, [&] { met += meeting.Come() ? 1 : 0; });
  EXPECT_EQ(met, 3);
}

TEST(WorkerPool, RunBesideAsksForNoMoreThanItIsTold) {
  WorkerPool pool(1, 3);
  while (!pool.all_companions_idle()) std::this_thread::yield();
  Meeting meeting(2);
  std::atomic<int> runs{0};
  pool.RunBeside(1, [&] {
    EXPECT_TRUE(meeting.Come());
    ++runs;
  });
  EXPECT_EQ(runs, 2);
}

TEST(WorkerPool, RunBesideDoesNotWaitForCompanionsOfOthers) {
  WorkerPool pool(1, 1);
  while (!pool.all_companions_idle()) std::this_thread::yield();
  Meeting begun(2);
  Meeting done(2);
  std::atomic<int> runs{0};
  pool.RunBeside(1, [&] {
    // Both threads are here; the work of another caller has none but its own.
    EXPECT_TRUE(begun.Come());
    if (runs++ == 0) {
      int alone = 0;
      pool.RunBeside(1, [&] { ++alone; });
      EXPECT_EQ(alone, 1);
    }
    EXPECT_TRUE(done.Come());
  });
  EXPECT_EQ(runs, 2);
}

TEST(WorkerPool, RunBesideThrowsWhatItsWorkThrows) {
  WorkerPool pool(1, 1);
  while (!pool.all_companions_idle()) std::this_thread::yield();
  const std::thread::id caller = std::this_thread::get_id();
  for (const bool of_caller : {true, false}) {
    Meeting meeting(2);
    std::atomic<int> ended{0};
    const auto work = [&] {
      EXPECT_TRUE(meeting.Come());
      if ((std::this_thread::get_id() == caller) == of_caller) throw std::bad_alloc();
      ++ended;
    };
    EXPECT_THROW(pool.RunBeside(1, work), std::bad_alloc);
    EXPECT_EQ(ended, 1);
    while (!pool.all_companions_idle()) std::this_thread::yield();
  }
}

TEST(WorkerPool, RunBesideWithoutCompanionsRunsOnce) {
  WorkerPool pool(1);
  int runs = 0;
  pool.RunBeside(5, [&] { ++runs; });
  pool.Stop();
  pool.RunBeside(5, [&] { ++runs; });
  EXPECT_EQ(runs, 2);
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
