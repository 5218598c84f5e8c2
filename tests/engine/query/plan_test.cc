#include "engine/query/plan.h"

#include "gtest/gtest.h"

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

}  // namespace
}  // namespace azimuth::engine
