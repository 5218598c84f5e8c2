#include "engine/query/plan.h"

#include "gtest/gtest.h"

#include <chrono>

namespace azimuth::engine {
namespace {

TEST(Plan, ScansWithoutAGraphAndWhenAskedToBeExact) {
  EXPECT_FALSE(
      PlanSegment({.rows = 100000, .matches = 100000, .ef = 64, .has_graph = false}).by_graph);
  EXPECT_FALSE(
      PlanSegment({.rows = 100000, .matches = 100000, .ef = 64, .has_graph = true, .exact = true})
          .by_graph);
}

TEST(Plan, WalksWhenMostRowsMatchAndScansWhenFewDo) {
  const auto by_graph = [](uint64_t matches) {
    return PlanSegment({.rows = 100000, .matches = matches, .ef = 64, .has_graph = true}).by_graph;
  };
  EXPECT_TRUE(by_graph(100000));
  EXPECT_TRUE(by_graph(50000));
  EXPECT_FALSE(by_graph(5000));
  EXPECT_FALSE(by_graph(0));
}

TEST(Plan, AWalkMayCostNoMoreThanTheScanOfTheMatches) {
  const SegmentPlan plan =
      PlanSegment({.rows = 100000, .matches = 50000, .ef = 64, .has_graph = true});
  EXPECT_EQ(plan.distances_max, 50000U);
}

TEST(Plan, WalksOfSmallSegmentsAreNarrower) {
  const NarrowWalk small = NarrowFor(64, 10, 4'000, 100'000);
  EXPECT_EQ(small.hits_max, 5U);
  EXPECT_EQ(small.ef, 32U);
  const NarrowWalk many = NarrowFor(2'000, 1'000, 4'000, 100'000);
  EXPECT_EQ(many.hits_max, 61U);
  EXPECT_EQ(many.ef, 122U);
}

TEST(Plan, WalksAreOfFullWidthWhereMuchMayBeFoundOrLittleIsAskedFor) {
  for (const uint64_t rows : {uint64_t{60'000}, uint64_t{100'000}}) {
    const NarrowWalk walk = NarrowFor(64, 10, rows, 100'000);
    EXPECT_EQ(walk.ef, 64U);
    EXPECT_EQ(walk.hits_max, 10U);
  }
  EXPECT_EQ(NarrowFor(64, 1, 10, 100'000).ef, 64U);
  EXPECT_EQ(NarrowFor(10, 10, 10, 100'000).ef, 10U) << "never wider than asked for";
}

TEST(Plan, ABatchIsSpreadInRunsThatAreWorthAThread) {
  using std::chrono::microseconds;
  const BatchPlan many = PlanBatch(100, microseconds(25), 7);
  EXPECT_EQ(many.run, 8U);
  EXPECT_EQ(many.companions, 7U);
  EXPECT_EQ(PlanBatch(100, microseconds(25), 1).companions, 1U);
  EXPECT_EQ(PlanBatch(33, microseconds(25), 7).companions, 3U);
  // One run for the thread of the request, and one for a companion, are the least.
  EXPECT_EQ(PlanBatch(16, microseconds(25), 7).companions, 1U);
  EXPECT_EQ(PlanBatch(15, microseconds(25), 7).companions, 0U);
  // Queries that take long are taken one by one; what takes no time at all is not spread.
  EXPECT_EQ(PlanBatch(5, std::chrono::seconds(1), 7).companions, 4U);
  EXPECT_EQ(PlanBatch(5, std::chrono::seconds(1), 7).run, 1U);
  EXPECT_EQ(PlanBatch(10'000, std::chrono::nanoseconds(0), 7).companions, 0U);
}

TEST(Plan, ABatchWithoutIdleThreadsIsOneRun) {
  const BatchPlan plan = PlanBatch(1000, std::chrono::milliseconds(1), 0);
  EXPECT_EQ(plan.companions, 0U);
  EXPECT_EQ(plan.run, 1000U);
}

}  // namespace
}  // namespace azimuth::engine
