// Searches over segments of different sizes: what a large one gives bounds the work in small ones.
#include "engine/query/search.h"

#include "tests/engine/manual_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using testing::MakeRecord;
using testing::ManualDatabaseTest;
using testing::OpenOrDie;
using testing::SmallSchema;

constexpr size_t kDim = 8;
constexpr int64_t kLargeRows = 8'000;
constexpr int64_t kSmallRows = 800;
constexpr int64_t kTailRows = 300;
constexpr uint32_t kLimit = 40;

SearchSpec Spec() {
  SearchSpec spec;
  spec.limit = kLimit;
  spec.ef = 48;
  return spec;
}

using Point = std::vector<float>;

class SearchSegmentsTest : public ManualDatabaseTest {
 protected:
  SearchSegmentsTest() {
    options_.growing_rows_max = 10'000;
    db_.reset();
    db_ = OpenOrDie(options_);
    EXPECT_OK(db_->CreateCollection("c", SmallSchema(kDim), false, CancelToken()));
  }

  Point RandomPoint(float center) {
    std::uniform_real_distribution<float> spread(center - 0.5F, center + 0.5F);
    Point point(kDim);
    for (float& value : point) value = spread(random_);
    return point;
  }
  // Adds rows around the point (center, center, ...), with the next keys.
  void Add(int64_t rows, float center) {
    std::vector<Point> points;
    for (int64_t i = 0; i < rows; ++i) points.push_back(RandomPoint(center));
    std::vector<RecordInput> records;
    for (const Point& point : points) {
      records.push_back(MakeRecord(keys_, keys_, point));
      ++keys_;
    }
    ASSERT_OK(db_->Insert("c", std::move(records), CancelToken()));
  }
  // A large segment, a small one, and rows without a graph.
  void AddSegments(float large, float small, float tail) {
    ASSERT_NO_FATAL_FAILURE(Add(kLargeRows, large));
    Settle();
    ASSERT_NO_FATAL_FAILURE(Add(kSmallRows, small));
    Settle();
    ASSERT_NO_FATAL_FAILURE(Add(kTailRows, tail));
    ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("c"));
    ASSERT_EQ(stats.segments.size(), 3U);
  }
  SearchResult Search(const Point& query, const SearchSpec& spec) {
    auto found = db_->Search("c", query, spec, CancelToken());
    EXPECT_OK(found);
    if (found.ok()) return *std::move(found);
    SearchResult none;
    none.queries.resize(1);
    return none;
  }
  // The share of the true nearest that searches find, over queries around a point.
  double Recall(float center) {
    constexpr int kQueries = 100;
    SearchSpec exact = Spec();
    exact.ef.reset();
    exact.exact = true;
    size_t hits = 0;
    for (int i = 0; i < kQueries; ++i) {
      const Point query = RandomPoint(center);
      std::set<Key> nearest;
      const SearchResult scanned = Search(query, exact);
      for (const SearchHit& hit : scanned.queries[0].hits) nearest.insert(hit.record.key);
      EXPECT_EQ(nearest.size(), kLimit);
      const SearchResult found = Search(query, Spec());
      const QueryHits& walked = found.queries[0];
      EXPECT_EQ(walked.hits.size(), kLimit);
      EXPECT_EQ(walked.work.segments_by_graph, 2U);
      EXPECT_EQ(walked.work.segments_by_scan, 1U);
      EXPECT_TRUE(std::is_sorted(
          walked.hits.begin(), walked.hits.end(),
          [](const SearchHit& a, const SearchHit& b) { return a.distance < b.distance; }));
      for (const SearchHit& hit : walked.hits) hits += nearest.count(hit.record.key);
    }
    return static_cast<double>(hits) / (kQueries * kLimit);
  }

  std::mt19937_64 random_{7};  // NOLINT(cert-msc51-cpp): the same rows in each run.
  int64_t keys_ = 0;
};

TEST_F(SearchSegmentsTest, FindTheNearestOfRowsThatStandInSegmentsByChance) {
  ASSERT_NO_FATAL_FAILURE(AddSegments(0, 0, 0));
  EXPECT_GE(Recall(0), 0.97);
}

TEST_F(SearchSegmentsTest, FindTheNearestWhereASmallSegmentHasThemAll) {
  ASSERT_NO_FATAL_FAILURE(AddSegments(0, 3, 0));
  EXPECT_GE(Recall(3), 0.97);
}

TEST_F(SearchSegmentsTest, FindTheNearestWhereRowsWithoutAGraphHaveThemAll) {
  ASSERT_NO_FATAL_FAILURE(AddSegments(0, 0, 3));
  EXPECT_GE(Recall(3), 0.97);
}

TEST_F(SearchSegmentsTest, GiveAsManyHitsAsAreAskedForWhereAFilterLeavesOneSegment) {
  ASSERT_NO_FATAL_FAILURE(AddSegments(0, 0, 0));
  for (const std::string filter : {"n >= 8000 and n < 8800", "n >= 7996", "n >= 8800"}) {
    SearchSpec spec = Spec();
    spec.filter.text = filter;
    const SearchResult found = Search(RandomPoint(0), spec);
    EXPECT_EQ(found.queries[0].hits.size(), kLimit) << filter;
  }
}

TEST_F(SearchSegmentsTest, CostLessInASmallSegmentThanAloneUnlessItHasTheNearest) {
  ASSERT_NO_FATAL_FAILURE(AddSegments(0, 0, 0));
  const Point query = RandomPoint(0);
  const auto cost = [&](const std::string& filter) {
    SearchSpec spec = Spec();
    spec.filter.text = filter;
    return Search(query, spec).queries[0].work.distances_computed;
  };
  EXPECT_LT(cost(""), cost("n < 8000") + cost("n >= 8000 and n < 8800") + cost("n >= 8800"));
}

}  // namespace
}  // namespace azimuth::engine
