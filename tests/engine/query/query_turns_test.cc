#include "engine/query/query_turns.h"

#include "gtest/gtest.h"

#include <atomic>
#include <thread>
#include <vector>

namespace azimuth::engine {
namespace {

TEST(QueryTurns, GivesEachQueryToOneThread) {
  std::vector<std::atomic<int>> taken(1003);
  QueryTurns turns(3, taken.size(), 7);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (const auto run = turns.Take()) {
        EXPECT_LE(run->end - run->first, 7U);
        for (size_t q = run->first; q < run->end; ++q) ++taken[q];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t q = 0; q < taken.size(); ++q) EXPECT_EQ(taken[q], q < 3 ? 0 : 1) << q;
  EXPECT_TRUE(turns.status().ok());
}

TEST(QueryTurns, EndsWithTheErrorOfTheFirstOfTheRunsThatFailed) {
  QueryTurns turns(0, 100, 10);
  const auto first = turns.Take();
  const auto second = turns.Take();
  const auto third = turns.Take();
  ASSERT_TRUE(first && second && third);
  turns.Fail(*third, absl::DataLossError("third"));
  EXPECT_EQ(turns.Take(), std::nullopt);
  turns.Fail(*first, absl::DataLossError("first"));
  turns.Fail(*second, absl::DataLossError("second"));
  EXPECT_EQ(turns.status(), absl::DataLossError("first"));
}

}  // namespace
}  // namespace azimuth::engine
