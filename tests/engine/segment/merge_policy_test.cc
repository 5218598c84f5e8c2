#include "engine/segment/merge_policy.h"

#include "gtest/gtest.h"

#include <vector>

namespace azimuth::engine {
namespace {

constexpr MergeLimits kLimits{.segment_rows_max = 1000, .vacuum_rows_min = 10};

MergeCandidate Sealed(uint64_t rows, uint64_t retired = 0) {
  return {SegmentState::kSealed, rows, retired, false};
}
MergeCandidate Closed(uint64_t rows) {
  return {SegmentState::kBuilding, rows, 0, false};
}
// A file without its graph.
MergeCandidate Bare(uint64_t rows) {
  return {SegmentState::kBuilding, rows, 0, true};
}
MergeCandidate Growing(uint64_t rows) {
  return {SegmentState::kGrowing, rows, 0, false};
}

std::optional<MergeChoice> Choose(const std::vector<MergeCandidate>& segments) {
  return ChooseMerge(segments, kLimits);
}

TEST(MergePolicy, NothingToDoForSealedAndGrowingSegments) {
  EXPECT_EQ(Choose({}), std::nullopt);
  EXPECT_EQ(Choose({Growing(50)}), std::nullopt);
  EXPECT_EQ(Choose({Sealed(100), Sealed(50), Growing(5)}), std::nullopt);
}

TEST(MergePolicy, ClosedSegmentsAreTakenTogether) {
  EXPECT_EQ(Choose({Closed(10), Closed(10), Growing(1)}), (MergeChoice{0, 2}));
}

TEST(MergePolicy, FilesWithoutGraphsAreTakenTogetherAfterWhatHoldsUpWrites) {
  EXPECT_EQ(Choose({Bare(300), Bare(300), Bare(500), Sealed(5), Growing(1)}), (MergeChoice{0, 2}));
  EXPECT_EQ(Choose({Sealed(50), Bare(300), Bare(300)}), (MergeChoice{0, 3}));
  EXPECT_EQ(Choose({Bare(300), Closed(10), Closed(10), Growing(1)}), (MergeChoice{1, 3}));
  EXPECT_EQ(Choose({Bare(300), Sealed(5), Closed(10)}), (MergeChoice{1, 3}));
}

TEST(MergePolicy, SealedNeighboursToTheLeftJoinWhileTheyAreNotLarger) {
  EXPECT_EQ(Choose({Sealed(100), Sealed(20), Closed(10), Closed(10)}), (MergeChoice{1, 4}));
  EXPECT_EQ(Choose({Sealed(40), Sealed(20), Closed(10), Closed(10)}), (MergeChoice{0, 4}));
  EXPECT_EQ(Choose({Sealed(21), Closed(20)}), (MergeChoice{1, 2}));
}

TEST(MergePolicy, SealedSegmentsPastTheLimitAreLeftAlone) {
  EXPECT_EQ(Choose({Sealed(501), Closed(501)}), (MergeChoice{1, 2}));
}

TEST(MergePolicy, ASegmentWithManyRetiredRowsIsBuiltAnew) {
  EXPECT_EQ(Choose({Sealed(100, 25), Sealed(100, 26), Growing(1)}), (MergeChoice{1, 2}));
  EXPECT_EQ(Choose({Sealed(9, 9)}), std::nullopt);
}

// Goal: while a collection grows, segments stay few and a row is built a logarithmic number of
// times.
TEST(MergePolicy, KeepsALogarithmicNumberOfSegments) {
  std::vector<MergeCandidate> segments;
  uint64_t rows_built = 0;
  constexpr uint64_t kBatches = 512;
  const MergeLimits limits{.segment_rows_max = 1 << 20, .vacuum_rows_min = 10};
  for (uint64_t i = 0; i < kBatches; ++i) {
    segments.push_back(Closed(1));
    const auto choice = ChooseMerge(segments, limits);
    ASSERT_TRUE(choice.has_value());
    uint64_t rows = 0;
    for (size_t j = choice->begin; j < choice->end; ++j) rows += segments[j].rows;
    segments.erase(segments.begin() + static_cast<std::ptrdiff_t>(choice->begin), segments.end());
    segments.push_back(Sealed(rows));
    rows_built += rows;
    ASSERT_LE(segments.size(), 10U);
  }
  EXPECT_LE(rows_built, kBatches * 11);
}

}  // namespace
}  // namespace azimuth::engine
