// Walks over distances that a test sets, and by pool and by heaps alike.
#include "index/graph/walk.h"

#include "tests/index/graph/graphs.h"
#include "tests/index/graph/tables.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::Clustered;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Searchable;
using testing::SmallGraph;
using testing::Table;
using testing::Vectors;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kCount = 400;
constexpr size_t kDim = 16;
constexpr size_t kQueries = 50;

enum class Means { kPool, kHeaps };

// The graph of kCount vectors, walked by pool, or by heaps since a filter admits all.
class WalkTest : public ::testing::TestWithParam<Means> {
 protected:
  static void SetUpTestSuite() {
    searchable_ = std::make_unique<Searchable>(Clustered(kCount, kDim, 1), Metric::kL2);
    queries_ = std::make_unique<Vectors>(Clustered(kQueries, kDim, 2));
  }
  static void TearDownTestSuite() {
    queries_.reset();
    searchable_.reset();
  }

  // `ef` with which the graph is walked by GetParam().
  WalkOptions Options(size_t ef, size_t count = kCount, Means means = GetParam()) {
    WalkOptions options;
    options.ef = ef;
    if (means == Means::kHeaps) {
      all_ = Bitset(count);
      for (size_t i = 0; i < count; ++i) all_.Set(i);
      options.admitted = &all_;
    }
    return options;
  }
  std::vector<float> DistancesOf(const float* query) const {
    std::vector<float> distances;
    for (size_t i = 0; i < kCount; ++i) {
      distances.push_back(searchable_->kernels.pair(query, searchable_->rows.row(i), kDim));
    }
    return distances;
  }
  // What a walk of `graph` finds.
  std::vector<GraphScratch::Candidate> Found(const FrozenGraph& graph, const NodeDistances& table,
                                             const WalkOptions& options) {
    const auto result = WalkGraph(graph, table, options, scratch_, CancelToken());
    EXPECT_OK(result);
    const auto found = scratch_.found();
    EXPECT_LE(found.size(), std::max<size_t>(options.ef, 1));
    std::set<uint32_t> nodes;
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_TRUE(i == 0 || found[i - 1].distance <= found[i].distance);
      EXPECT_LT(found[i].node, graph.node_count());
      EXPECT_TRUE(nodes.insert(found[i].node).second) << "twice";
    }
    return {found.begin(), found.end()};
  }
  static std::vector<uint32_t> NodesOf(const std::vector<GraphScratch::Candidate>& found) {
    std::vector<uint32_t> nodes;
    for (const GraphScratch::Candidate& candidate : found) nodes.push_back(candidate.node);
    return nodes;
  }

  static std::unique_ptr<Searchable> searchable_;
  static std::unique_ptr<Vectors> queries_;
  GraphScratch scratch_;
  Bitset all_{0};
};

std::unique_ptr<Searchable> WalkTest::searchable_;
std::unique_ptr<Vectors> WalkTest::queries_;

INSTANTIATE_TEST_SUITE_P(Means, WalkTest, ::testing::Values(Means::kPool, Means::kHeaps),
                         [](const auto& of) {
                           return of.param == Means::kPool ? "Pool" : "Heaps";
                         });

TEST_P(WalkTest, FindsAllInOrderWhereTheWidthCoversAll) {
  for (size_t q = 0; q < kQueries; ++q) {
    Table table(DistancesOf(queries_->row(q)));
    std::vector<uint32_t> expected(kCount);
    for (uint32_t i = 0; i < kCount; ++i) expected[i] = i;
    std::sort(expected.begin(), expected.end(),
              [&](uint32_t a, uint32_t b) { return table.distances()[a] < table.distances()[b]; });
    for (const size_t ef : {kCount, size_t{512}, size_t{513}, size_t{100000}}) {
      const auto found = Found(searchable_->graph, table, Options(ef));
      EXPECT_EQ(NodesOf(found), expected) << "ef " << ef;
      for (const auto& candidate : found) {
        EXPECT_EQ(candidate.distance, table.distances()[candidate.node]);
      }
    }
  }
}

TEST_P(WalkTest, FindsMostOfTheNearestWithANarrowWidth) {
  for (const size_t ef : {1, 2, 3, 10, 64}) {
    size_t hits = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      Table table(DistancesOf(queries_->row(q)));
      const auto found = Found(searchable_->graph, table, Options(ef));
      EXPECT_EQ(found.size(), ef);
      std::vector<float> sorted = table.distances();
      std::sort(sorted.begin(), sorted.end());
      for (const auto& candidate : found) hits += candidate.distance <= sorted[ef - 1] ? 1 : 0;
    }
    EXPECT_GE(static_cast<double>(hits),
              (ef < 10 ? 0.8 : 0.95) * static_cast<double>(kQueries * ef))
        << "ef " << ef;
  }
}

// Not with all nodes of a graph that is worth a walk.
TEST_P(WalkTest, MeasuresFewNodesWithANarrowWidth) {
  Table table(DistancesOf(queries_->row(0)));
  Found(searchable_->graph, table, Options(1));
  size_t measured = 0;
  for (uint32_t node = 0; node < kCount; ++node) measured += table.measured(node) ? 1 : 0;
  EXPECT_LT(measured, kCount / 2);
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult result,
                       WalkGraph(searchable_->graph, table, Options(1), scratch_, CancelToken()));
  EXPECT_GE(result.distances_computed, measured);
}

TEST_P(WalkTest, TakesAWidthOf0AsOneOf1) {
  Table table(DistancesOf(queries_->row(0)));
  const auto one = Found(searchable_->graph, table, Options(1));
  EXPECT_EQ(NodesOf(Found(searchable_->graph, table, Options(0))), NodesOf(one));
}

TEST_P(WalkTest, FindsTheSameWhateverTheScratchWasUsedFor) {
  Table table(DistancesOf(queries_->row(0)));
  const auto narrow = NodesOf(Found(searchable_->graph, table, Options(20)));
  const auto wide = NodesOf(Found(searchable_->graph, table, Options(300)));
  const SmallGraph small({{1}, {0}});
  Table two({1, 2});
  for (int round = 0; round < 3; ++round) {
    for (const Means means : {Means::kPool, Means::kHeaps}) {
      Found(searchable_->graph, table, Options(50, kCount, means));
    }
    EXPECT_EQ(NodesOf(Found(searchable_->graph, table, Options(300))), wide);
    EXPECT_THAT(NodesOf(Found(small.graph, two, Options(9, 2))), ElementsAre(0, 1));
    EXPECT_EQ(NodesOf(Found(searchable_->graph, table, Options(20))), narrow);
  }
}

TEST_P(WalkTest, LeavesOutWhatIsNotANumber) {
  for (size_t q = 0; q < 10; ++q) {
    Table table(DistancesOf(queries_->row(q)));
    for (size_t node = 0; node < kCount; node += 3) table.distances()[node] = kNan;
    const auto found = Found(searchable_->graph, table, Options(300));
    EXPECT_GE(found.size(), 200u);
    for (const auto& candidate : found) EXPECT_NE(candidate.node % 3, 0u);
    std::fill(table.distances().begin(), table.distances().end(), kNan);
    EXPECT_TRUE(Found(searchable_->graph, table, Options(300)).empty());
  }
}

// The entry node is where a walk begins, and no more.
TEST_P(WalkTest, LeavesOutAnEntryNodeThatIsNotANumber) {
  const SmallGraph chain({{1}, {0, 2}, {1}});
  Table table({kNan, 5, 1});
  EXPECT_THAT(NodesOf(Found(chain.graph, table, Options(10, 3))), ElementsAre(2, 1));
  EXPECT_THAT(NodesOf(Found(chain.graph, table, Options(1, 3))), ElementsAre(2));
  // What is infinite is a number.
  table.distances()[0] = kInfinity;
  EXPECT_THAT(NodesOf(Found(chain.graph, table, Options(10, 3))), ElementsAre(2, 1, 0));
}

TEST_P(WalkTest, TakesInfiniteDistancesAsTheFarthest) {
  Table table(DistancesOf(queries_->row(0)));
  for (size_t node = 0; node < kCount; node += 2) table.distances()[node] = kInfinity;
  table.distances()[5] = -kInfinity;
  const auto found = Found(searchable_->graph, table, Options(kCount));
  ASSERT_EQ(found.size(), kCount);
  EXPECT_EQ(found[0].node, 5u);
  EXPECT_EQ(found[kCount / 2].distance, kInfinity);
}

TEST_P(WalkTest, EndsAmongTies) {
  Table table(std::vector<float>(kCount, 1));
  EXPECT_EQ(Found(searchable_->graph, table, Options(kCount)).size(), kCount);
  EXPECT_EQ(Found(searchable_->graph, table, Options(7)).size(), 7u);
  // Two values only: all of the nearer one come first.
  for (size_t node = 0; node < kCount; node += 5) table.distances()[node] = 0;
  const auto found = Found(searchable_->graph, table, Options(kCount));
  ASSERT_EQ(found.size(), kCount);
  for (size_t i = 0; i < kCount; ++i) EXPECT_EQ(found[i].distance, i < kCount / 5 ? 0 : 1);
}

TEST_P(WalkTest, GivesUpAfterDistancesMax) {
  Table table(DistancesOf(queries_->row(0)));
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult whole,
                       WalkGraph(searchable_->graph, table, Options(100), scratch_, CancelToken()));
  EXPECT_FALSE(whole.abandoned);
  EXPECT_GT(whole.distances_computed, 100u);
  for (const uint64_t most : {uint64_t{0}, uint64_t{1}, uint64_t{20}, uint64_t{99}}) {
    WalkOptions options = Options(100);
    options.distances_max = most;
    ASSERT_OK_AND_ASSIGN(const GraphSearchResult result,
                         WalkGraph(searchable_->graph, table, options, scratch_, CancelToken()));
    EXPECT_TRUE(result.abandoned) << most;
    EXPECT_TRUE(scratch_.found().empty());
    // What was measured together comes on top.
    EXPECT_LE(result.distances_computed, most + 2 * searchable_->graph.degree0());
  }
  WalkOptions options = Options(100);
  options.distances_max = whole.distances_computed + 1;
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult enough,
                       WalkGraph(searchable_->graph, table, options, scratch_, CancelToken()));
  EXPECT_FALSE(enough.abandoned);
  EXPECT_EQ(enough.distances_computed, whole.distances_computed);
  EXPECT_EQ(scratch_.found().size(), 100u);
}

TEST_P(WalkTest, OfNoNodesFindsNothing) {
  Table table(DistancesOf(queries_->row(0)));
  Found(searchable_->graph, table, Options(10));
  EXPECT_TRUE(Found(FrozenGraph(), table, Options(10, 0)).empty());
}

TEST_P(WalkTest, StopsWhenCancelled) {
  Table table(DistancesOf(queries_->row(0)));
  const CancelToken cancelled(CancelToken::TimePoint::max(), [] { return true; });
  EXPECT_THAT(WalkGraph(searchable_->graph, table, Options(10), scratch_, cancelled),
              StatusIs(absl::StatusCode::kCancelled));
  int asked = 0;
  const CancelToken second(CancelToken::TimePoint::max(), [&] { return ++asked == 2; });
  EXPECT_THAT(WalkGraph(searchable_->graph, table, Options(kCount), scratch_, second),
              StatusIs(absl::StatusCode::kCancelled));
}

// --- Upper levels
// ---------------------------------------------------------------------------------

// Nodes 0, 1 and 2 on level 1: 0 is linked to both, these to no other.
std::string ThreeOnLevel1() {
  BuiltGraph built;
  built.m = 2;
  built.node_count = 3;
  built.max_level = 1;
  built.levels = {1, 1, 1};
  built.level0 = {0, 0, 0, 0, 2, 1, 1, 1, 1, 2, 2, 2};
  built.upper_nodes = {0, 1, 2};
  built.upper_lists = {1, 2, 1, 1, 2, 2};
  return FreezeGraph(built, std::vector<uint32_t>{0, 1, 2});
}

TEST_P(WalkTest, DescendsToTheNearestOfLevel1) {
  const azimuth::testing::AlignedBytes bytes(ThreeOnLevel1());
  ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  ASSERT_OK(graph.Verify());
  EXPECT_THAT(NodesOf(Found(graph, Table({5, 0, 3}), Options(10, 3))), ElementsAre(1, 2));
  EXPECT_THAT(NodesOf(Found(graph, Table({5, 3, 0}), Options(10, 3))), ElementsAre(2, 1));
}

TEST_P(WalkTest, ReportsAnyNeighborOutOfRangeOnUpperLevels) {
  const std::string good = ThreeOnLevel1();
  for (const uint32_t outside : {3U, 1000U, UINT32_MAX}) {
    std::string bad = good;
    std::memcpy(&bad[bad.size() - 64], &outside, 4);
    const azimuth::testing::AlignedBytes bytes(bad);
    ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
    EXPECT_THAT(WalkGraph(graph, Table({5, 0, 3}), Options(10, 3), scratch_, CancelToken()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("on level 1")))
        << outside;
  }
}

TEST_P(WalkTest, ReportsAnyNeighborOutOfRangeOnLevel0) {
  for (const uint32_t outside : {3U, 1000U, UINT32_MAX}) {
    std::string bad = ThreeOnLevel1();
    std::memcpy(&bad[64 + 4 * 4], &outside, 4);  // The first of node 1.
    const azimuth::testing::AlignedBytes bytes(bad);
    ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
    EXPECT_THAT(WalkGraph(graph, Table({5, 0, 3}), Options(10, 3), scratch_, CancelToken()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("on level 0")))
        << outside;
  }
}

}  // namespace
}  // namespace azimuth::index
