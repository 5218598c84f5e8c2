// The queue without calls: alarms of gRPC are the events.
#include "server/rpc/hot_queue.h"

#include "tests/support/matchers.h"

#include "grpcpp/alarm.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <utility>

namespace azimuth::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

constexpr HotQueue::Expectation kShortJob = {.time = std::chrono::microseconds(20)};
constexpr HotQueue::Expectation kLongJob = {.time = milliseconds(20)};

class Does final : public Job {
 public:
  explicit Does(std::function<void()> what) : what_(std::move(what)) {}
  void Run() override { what_(); }

 private:
  const std::function<void()> what_;
};

class Hears final : public Event {
 public:
  explicit Hears(std::function<void(bool)> what) : what_(std::move(what)) {}
  void Happened(bool ok) override { what_(ok); }
  void* tag() { return static_cast<Event*>(this); }

 private:
  const std::function<void(bool)> what_;
};

std::unique_ptr<HotQueue> MakeQueue() {
  grpc::ServerBuilder builder;
  return std::make_unique<HotQueue>(builder.AddCompletionQueue(), 4);
}

TEST(HotQueue, HearsOfEventsAndRunsTheJobsThatTheyGive) {
  constexpr int kEvents = 300;
  std::atomic<int> runs{0};
  std::promise<void> all;
  std::deque<Does> jobs;
  std::deque<Hears> events;
  std::deque<grpc::Alarm> alarms(kEvents);
  const auto queue = MakeQueue();
  ASSERT_OK(queue->Start());
  for (int i = 0; i < kEvents; ++i) {
    jobs.emplace_back([&] {
      if (++runs == kEvents) all.set_value();
    });
    events.emplace_back([&, i](bool ok) {
      EXPECT_TRUE(ok);
      queue->Submit(jobs[i],
                    {.time = i % 3 == 0 ? kLongJob.time : kShortJob.time, .may_wait = i % 5 == 0});
    });
  }
  for (int i = 0; i < kEvents; ++i)
    alarms[i].Set(&queue->queue(), system_clock::now(), events[i].tag());
  EXPECT_EQ(all.get_future().wait_for(seconds(30)), std::future_status::ready);
  queue->Stop();
  EXPECT_EQ(runs.load(), kEvents);
}

TEST(HotQueue, JobsFromElsewhereRun) {
  const auto queue = MakeQueue();
  ASSERT_OK(queue->Start());
  for (int i = 0; i < 200; ++i) {
    std::promise<void> ran;
    Does job([&] { ran.set_value(); });
    ASSERT_TRUE(queue->Submit(job, kShortJob));
    ASSERT_EQ(ran.get_future().wait_for(seconds(30)), std::future_status::ready) << i;
  }
}

TEST(HotQueue, IsHeardWhileAllItsThreadsAreHeldUp) {
  constexpr int kStuck = 20;  // More than there are threads.
  std::latch release(1);
  std::atomic<int> runs{0};
  std::deque<Does> stuck;
  for (int i = 0; i < kStuck; ++i) {
    stuck.emplace_back([&] {
      release.wait();
      ++runs;
    });
  }
  std::promise<void> heard;
  Hears event([&](bool) { heard.set_value(); });
  grpc::Alarm alarm;
  const auto queue = MakeQueue();
  ASSERT_OK(queue->Start());
  // They were expected to be short.
  for (Does& job : stuck) ASSERT_TRUE(queue->Submit(job, kShortJob));
  alarm.Set(&queue->queue(), system_clock::now() + milliseconds(50), event.tag());
  EXPECT_EQ(heard.get_future().wait_for(seconds(30)), std::future_status::ready);
  release.count_down();
  std::promise<void> after;
  Does job([&] { after.set_value(); });
  ASSERT_TRUE(queue->Submit(job, kShortJob));
  EXPECT_EQ(after.get_future().wait_for(seconds(30)), std::future_status::ready);
  queue->Stop();
  EXPECT_EQ(runs.load(), kStuck);
}

TEST(HotQueue, StopsWhenNobodyHoldsIt) {
  const auto queue = MakeQueue();
  ASSERT_OK(queue->Start());
  queue->Hold();
  std::atomic<bool> heard{false};
  Hears event([&](bool) {
    heard.store(true);
    queue->Release();
  });
  grpc::Alarm alarm;
  alarm.Set(&queue->queue(), system_clock::now() + milliseconds(100), event.tag());
  queue->Stop();
  EXPECT_TRUE(heard.load());
}

TEST(HotQueue, StopsWithoutAStart) {
  const auto queue = MakeQueue();
  queue->Hold();
  Hears event([&](bool) { queue->Release(); });
  grpc::Alarm alarm;
  alarm.Set(&queue->queue(), system_clock::now(), event.tag());
  queue->Stop();
}

}  // namespace
}  // namespace azimuth::server
