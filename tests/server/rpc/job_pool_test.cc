#include "server/rpc/job_pool.h"

#include "gtest/gtest.h"

#include <atomic>
#include <deque>
#include <functional>
#include <latch>
#include <utility>

namespace azimuth::server {
namespace {

class Does final : public Job {
 public:
  explicit Does(std::function<void()> what) : what_(std::move(what)) {}
  void Run() override { what_(); }

 private:
  const std::function<void()> what_;
};

TEST(JobPool, RunsAllJobsBeforeItStops) {
  std::atomic<int> runs{0};
  std::deque<Does> jobs;
  for (int i = 0; i < 100; ++i) jobs.emplace_back([&] { ++runs; });
  JobPool pool(1, 3);
  EXPECT_TRUE(pool.Start());
  for (Does& job : jobs) EXPECT_TRUE(pool.Submit(job));
  pool.Stop();
  EXPECT_EQ(runs.load(), 100);
  pool.Stop();
}

TEST(JobPool, HasAsManyThreadsAsJobsThatWaitForOneAnother) {
  std::latch all(4);
  std::deque<Does> jobs;
  for (int i = 0; i < 4; ++i) jobs.emplace_back([&] { all.arrive_and_wait(); });
  JobPool pool(0, 4);
  for (Does& job : jobs) EXPECT_TRUE(pool.Submit(job));
  pool.Stop();
}

TEST(JobPool, RunsNoMoreThanItsMostAtATime) {
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  std::deque<Does> jobs;
  for (int i = 0; i < 200; ++i) {
    jobs.emplace_back([&] {
      const int now = ++running;
      for (int seen = most.load(); seen < now && !most.compare_exchange_weak(seen, now);) {
      }
      --running;
    });
  }
  JobPool pool(1, 2);
  EXPECT_TRUE(pool.Start());
  for (Does& job : jobs) EXPECT_TRUE(pool.Submit(job));
  pool.Stop();
  EXPECT_LE(most.load(), 2);
}

}  // namespace
}  // namespace azimuth::server
