#include "index/graph/search.h"

#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::BruteForce;
using testing::BuildGraph;
using testing::Clustered;
using ::testing::HasSubstr;
using testing::Searchable;
using testing::Vectors;

constexpr size_t kCount = 5000;
constexpr size_t kDim = 32;
constexpr size_t kQueries = 100;

class GraphSearchTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    vectors_ = std::make_unique<Vectors>(Clustered(kCount, kDim, 1));
    queries_ = std::make_unique<Vectors>(Clustered(kQueries, kDim, 2));
    searchable_ = std::make_unique<Searchable>(*vectors_, Metric::kL2);
  }
  static void TearDownTestSuite() {
    searchable_.reset();
    queries_.reset();
    vectors_.reset();
  }

  // The options of a search whose results are positions of *vectors_.
  static GraphSearchOptions WithEf(size_t ef) {
    GraphSearchOptions options;
    options.ef = ef;
    options.node_to_position = searchable_->order.data();
    return options;
  }

  absl::StatusOr<GraphSearchResult> Search(const Searchable& searchable, const float* query,
                                           const GraphSearchOptions& options, size_t k,
                                           const CancelToken& cancel = CancelToken()) {
    top_.Reset(k, nullptr);
    return SearchGraph(searchable.graph, searchable.nodes(), searchable.kernels, query, options,
                       top_, scratch_, cancel);
  }

  // Share of the k nearest admitted rows that a search with `options` finds.
  double Recall(const Searchable& searchable, const GraphSearchOptions& options, size_t k) {
    size_t found = 0, expected = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      EXPECT_OK(Search(searchable, queries_->row(q), options, k));
      for (const Neighbor& near :
           BruteForce(*vectors_, Metric::kL2, queries_->row(q), k, options.admitted)) {
        ++expected;
        found += std::any_of(top_.Sorted().begin(), top_.Sorted().end(),
                             [&](const Neighbor& n) { return n.position == near.position; });
      }
    }
    return static_cast<double>(found) / static_cast<double>(expected);
  }

  static std::unique_ptr<Vectors> vectors_;
  static std::unique_ptr<Vectors> queries_;
  static std::unique_ptr<Searchable> searchable_;
  TopK top_;
  GraphScratch scratch_;
};

std::unique_ptr<Vectors> GraphSearchTest::vectors_;
std::unique_ptr<Vectors> GraphSearchTest::queries_;
std::unique_ptr<Searchable> GraphSearchTest::searchable_;

Bitset RandomBits(size_t percent) {
  std::mt19937_64 random(3);
  Bitset bits(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    if (random() % 100 < percent) bits.Set(i);
  }
  return bits;
}

TEST_F(GraphSearchTest, FindsMoreNeighborsWithAWiderWalk) {
  const double narrow = Recall(*searchable_, WithEf(10), 10);
  const double wide = Recall(*searchable_, WithEf(100), 10);
  EXPECT_GE(wide, 0.95);
  EXPECT_GT(narrow, 0.5);
  EXPECT_LT(narrow, wide);
}

TEST_F(GraphSearchTest, FindsAsMuchInAGraphThatFourThreadsBuilt) {
  const BuiltGraph built = BuildGraph(*vectors_, Metric::kL2, 16, testing::FourThreads);
  const Searchable parallel(*vectors_, Metric::kL2, built);
  GraphSearchOptions options = WithEf(100);
  options.node_to_position = parallel.order.data();
  EXPECT_GE(Recall(parallel, options, 10), 0.95);
}

TEST_F(GraphSearchTest, FindsExactNeighborsWhenEfCoversAllRows) {
  for (size_t q = 0; q < kQueries; ++q) {
    ASSERT_OK_AND_ASSIGN(const GraphSearchResult result,
                         Search(*searchable_, queries_->row(q), WithEf(kCount), 100));
    EXPECT_FALSE(result.abandoned);
    const auto expected = BruteForce(*vectors_, Metric::kL2, queries_->row(q), 100);
    ASSERT_EQ(top_.Sorted().size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      // Equal up to the rounding of two kernels.
      EXPECT_NEAR(top_.Sorted()[i].distance, expected[i].distance, 1e-3);
    }
  }
}

TEST_F(GraphSearchTest, WorksForEveryMetric) {
  for (const Metric metric : {Metric::kIp, Metric::kCosine}) {
    Vectors vectors = Clustered(2000, 16, 1);
    Vectors queries = Clustered(50, 16, 2);
    for (Vectors* all : {&vectors, &queries}) {
      for (size_t i = 0; metric == Metric::kCosine && i < all->count(); ++i) {
        NormalizeL2({all->data.data() + i * 16, 16});
      }
    }
    const Searchable searchable(vectors, metric);
    GraphSearchOptions options = WithEf(100);
    options.node_to_position = searchable.order.data();
    size_t found = 0;
    for (size_t q = 0; q < queries.count(); ++q) {
      ASSERT_OK(Search(searchable, queries.row(q), options, 10));
      const auto expected = BruteForce(vectors, metric, queries.row(q), 10);
      for (const Neighbor& neighbor : top_.Sorted()) {
        found += neighbor.distance <= expected.back().distance + 1e-4f ? 1 : 0;
      }
    }
    EXPECT_GE(found, 475u) << MetricName(metric);
  }
}

TEST_F(GraphSearchTest, ReturnsOnlyAdmittedRowsAndFindsTheNearestOfThem) {
  for (const size_t percent : {2, 20, 80}) {
    const Bitset admitted = RandomBits(percent);
    GraphSearchOptions options = WithEf(100);
    options.admitted = &admitted;
    for (size_t q = 0; q < kQueries; ++q) {
      ASSERT_OK(Search(*searchable_, queries_->row(q), options, 10));
      EXPECT_EQ(top_.size(), 10u);
      for (const Neighbor& neighbor : top_.Sorted()) EXPECT_TRUE(admitted.Test(neighbor.position));
    }
    EXPECT_GE(Recall(*searchable_, options, 10), 0.95) << percent << " %";
  }
}

TEST_F(GraphSearchTest, FindsNothingWhenNothingIsAdmitted) {
  const Bitset none(kCount);
  const Bitset too_short(0);
  for (const Bitset* admitted : {&none, &too_short}) {
    GraphSearchOptions options = WithEf(10);
    options.admitted = admitted;
    ASSERT_OK_AND_ASSIGN(const GraphSearchResult result,
                         Search(*searchable_, queries_->row(0), options, 10));
    EXPECT_EQ(top_.size(), 0u);
    EXPECT_FALSE(result.abandoned);
  }
}

TEST_F(GraphSearchTest, PushesNodeNumbersWithoutATableOfPositions) {
  GraphSearchOptions options;
  options.ef = 50;
  ASSERT_OK(Search(*searchable_, searchable_->rows.row(123), options, 1));
  ASSERT_EQ(top_.Sorted().size(), 1u);
  EXPECT_EQ(top_.Sorted()[0].position, 123u);
  EXPECT_EQ(top_.Sorted()[0].distance, 0);
}

TEST_F(GraphSearchTest, GivesUpAfterDistancesMaxAndPushesNothing) {
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult whole,
                       Search(*searchable_, queries_->row(0), WithEf(100), 10));
  ASSERT_FALSE(whole.abandoned);
  ASSERT_GT(whole.distances_computed, 200u);
  for (const uint64_t limit : {uint64_t{0}, uint64_t{1}, uint64_t{50}, uint64_t{200}}) {
    GraphSearchOptions options = WithEf(100);
    options.distances_max = limit;
    ASSERT_OK_AND_ASSIGN(const GraphSearchResult result,
                         Search(*searchable_, queries_->row(0), options, 10));
    EXPECT_TRUE(result.abandoned);
    EXPECT_EQ(top_.size(), 0u);
    // The neighbours of two nodes at most, which are measured together, come on top.
    EXPECT_LT(result.distances_computed, limit + 2 * searchable_->graph.degree0() + 1);
  }
  GraphSearchOptions enough = WithEf(100);
  enough.distances_max = whole.distances_computed + 1;
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult result,
                       Search(*searchable_, queries_->row(0), enough, 10));
  EXPECT_FALSE(result.abandoned);
}

TEST_F(GraphSearchTest, FindsTheSameAgainWithTheSameScratch) {
  std::vector<std::vector<uint32_t>> rounds[2];
  for (auto& round : rounds) {
    for (size_t q = 0; q < kQueries; ++q) {
      ASSERT_OK(Search(*searchable_, queries_->row(q), WithEf(40), 10));
      std::vector<uint32_t>& positions = round.emplace_back();
      for (const Neighbor& neighbor : top_.Sorted()) positions.push_back(neighbor.position);
    }
  }
  EXPECT_EQ(rounds[0], rounds[1]);
}

TEST_F(GraphSearchTest, SharesItsScratchBetweenGraphsOfDifferentSizes) {
  const Vectors few = Clustered(70, kDim, 5);
  const Searchable small(few, Metric::kL2);
  for (int round = 0; round < 3; ++round) {
    GraphSearchOptions options;
    options.ef = 70;
    ASSERT_OK(Search(small, few.row(0), options, 70));
    EXPECT_EQ(top_.size(), 70u);
    ASSERT_OK(Search(*searchable_, queries_->row(0), WithEf(kCount), 10));
    EXPECT_EQ(top_.size(), 10u);
  }
}

TEST_F(GraphSearchTest, SearchesEmptyGraphsAndSingleNodes) {
  const std::vector<float> query(kDim, 0.0f);
  const Searchable one(Clustered(1, kDim, 5), Metric::kL2);
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult single, Search(one, query.data(), {}, 10));
  EXPECT_EQ(top_.size(), 1u);
  EXPECT_EQ(single.distances_computed, 1u);

  BuiltGraph none;
  none.m = 16;
  const Searchable empty(Vectors{kDim, {}}, Metric::kL2, none);
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult nothing, Search(empty, query.data(), {}, 10));
  EXPECT_EQ(top_.size(), 0u);
  EXPECT_EQ(nothing.distances_computed, 0u);
}

TEST_F(GraphSearchTest, StopsWhenCancelled) {
  int asked = 0;
  const CancelToken second(CancelToken::TimePoint::max(), [&] { return ++asked == 2; });
  EXPECT_THAT(Search(*searchable_, queries_->row(0), WithEf(kCount), 10, second),
              StatusIs(absl::StatusCode::kCancelled));
  const CancelToken late(CancelToken::TimePoint::min(), nullptr);
  EXPECT_THAT(Search(*searchable_, queries_->row(0), WithEf(10), 10, late),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(top_.size(), 0u);
}

TEST_F(GraphSearchTest, ReportsANeighborOutOfRange) {
  const std::span<const std::byte> good = searchable_->bytes.span();
  std::string bad(reinterpret_cast<const char*>(good.data()), good.size());
  const uint32_t outside = kCount;
  std::memcpy(&bad[64 + 5 * 4], &outside, 4);  // Slot 5 of node 0, the entry.
  const azimuth::testing::AlignedBytes bytes(bad);
  ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  top_.Reset(10, nullptr);
  EXPECT_THAT(SearchGraph(graph, searchable_->nodes(), searchable_->kernels, queries_->row(0),
                          WithEf(kCount), top_, scratch_, CancelToken()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("neighbour 5000 on level 0")));
}

TEST_F(GraphSearchTest, ReportsANeighborOutOfRangeOnUpperLevels) {
  BuiltGraph built;  // Two nodes on level 1, linked to each other.
  built.m = 2;
  built.node_count = 2;
  built.max_level = 1;
  built.levels = {1, 1};
  built.level0 = {1, 0, 0, 0, 0, 1, 1, 1};
  built.upper_nodes = {0, 1};
  built.upper_lists = {1, 0, 0, 1};
  std::string bad = FreezeGraph(built, std::vector<uint32_t>{0, 1});
  const uint32_t outside = 2;
  std::memcpy(&bad[bad.size() - 64], &outside, 4);
  const azimuth::testing::AlignedBytes bytes(bad);
  ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  top_.Reset(1, nullptr);
  EXPECT_THAT(SearchGraph(graph, {vectors_->row(0), kDim, kDim}, searchable_->kernels,
                          queries_->row(0), {}, top_, scratch_, CancelToken()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("neighbour 2 on level 1")));
}

}  // namespace
}  // namespace azimuth::index
