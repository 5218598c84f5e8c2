#include "index/graph/hnsw_builder.h"

#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::BuildGraph;
using testing::Clustered;
using testing::ExpectWellFormed;
using testing::FourThreads;
using ::testing::HasSubstr;
using testing::OneThread;
using testing::Vectors;

HnswBuildOptions OptionsFor(const Vectors& vectors) {
  HnswBuildOptions options;
  options.dim = static_cast<uint32_t>(vectors.dim);
  return options;
}

TEST(BuildHnsw, GivesAnEmptyGraphForNoVectors) {
  HnswBuildOptions options;
  options.dim = 4;
  ASSERT_OK_AND_ASSIGN(const BuiltGraph graph, BuildHnsw({}, options, OneThread, CancelToken()));
  EXPECT_EQ(graph.node_count, 0u);
  EXPECT_EQ(graph.m, options.m);
  EXPECT_TRUE(graph.level0.empty());
}

TEST(BuildHnsw, GivesOneNodeWithoutNeighborsForOneVector) {
  const BuiltGraph graph = BuildGraph(Clustered(1, 4, 1));
  ExpectWellFormed(graph);
  EXPECT_EQ(graph.level0, std::vector<uint32_t>(32, 0));
}

TEST(BuildHnsw, GivesAWellFormedGraphFromOneThreadAndFromFour) {
  const Vectors vectors = Clustered(1500, 8, 1);
  for (const uint32_t m : {2, 5, 16}) {
    ExpectWellFormed(BuildGraph(vectors, Metric::kL2, m));
    ExpectWellFormed(BuildGraph(vectors, Metric::kIp, m, FourThreads));
  }
}

TEST(BuildHnsw, GivesTheSameGraphForTheSameSeedFromOneThread) {
  const Vectors vectors = Clustered(1000, 8, 1);
  const BuiltGraph a = BuildGraph(vectors);
  const BuiltGraph b = BuildGraph(vectors);
  EXPECT_EQ(a.levels, b.levels);
  EXPECT_EQ(a.level0, b.level0);
  EXPECT_EQ(a.upper_nodes, b.upper_nodes);
  EXPECT_EQ(a.upper_lists, b.upper_lists);
  EXPECT_EQ(a.entry_node, b.entry_node);
}

TEST(BuildHnsw, DrawsTheSameLevelsFromFourThreadsAndOthersFromAnotherSeed) {
  const Vectors vectors = Clustered(1000, 8, 1);
  HnswBuildOptions options = OptionsFor(vectors);
  const BuiltGraph one = BuildGraph(vectors);
  ASSERT_OK_AND_ASSIGN(const BuiltGraph four,
                       BuildHnsw(vectors.rows(), options, FourThreads, CancelToken()));
  EXPECT_EQ(one.levels, four.levels);
  options.seed = 2;
  ASSERT_OK_AND_ASSIGN(const BuiltGraph other,
                       BuildHnsw(vectors.rows(), options, OneThread, CancelToken()));
  EXPECT_NE(one.levels, other.levels);
}

TEST(BuildHnsw, PutsOneNodeInMOnEachHigherLevel) {
  constexpr size_t kCount = 8000;
  const Vectors vectors = Clustered(kCount, 2, 1);
  for (const uint32_t m : {4, 16}) {
    HnswBuildOptions options = OptionsFor(vectors);
    options.m = m;
    options.ef_construction = m;  // Levels do not depend on it.
    ASSERT_OK_AND_ASSIGN(const BuiltGraph graph,
                         BuildHnsw(vectors.rows(), options, OneThread, CancelToken()));
    const double expected = static_cast<double>(kCount) / m;
    // Five standard deviations of a binomial count.
    EXPECT_NEAR(static_cast<double>(graph.upper_nodes.size()), expected, 5 * std::sqrt(expected));
    const auto two = static_cast<double>(
        std::count_if(graph.levels.begin(), graph.levels.end(), [](uint8_t l) { return l >= 2; }));
    EXPECT_NEAR(two, expected / m, 5 * std::sqrt(expected / m));
  }
}

TEST(BuildHnsw, TakesVectorsThatAreAllTheSame) {
  const Vectors equal{4, std::vector<float>(4 * 1000, 1.0f)};
  ExpectWellFormed(BuildGraph(equal));
}

TEST(BuildHnsw, RejectsOptionsOutOfRange) {
  const Vectors vectors = Clustered(10, 4, 1);
  const auto build = [&](auto change) {
    HnswBuildOptions options = OptionsFor(vectors);
    change(options);
    return BuildHnsw(vectors.rows(), options, OneThread, CancelToken()).status();
  };
  const auto invalid = [](const char* text) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
  };
  EXPECT_THAT(build([](HnswBuildOptions& o) { o.dim = 0; }), invalid("dim is 0"));
  EXPECT_THAT(build([](HnswBuildOptions& o) { o.m = 1; }), invalid("m is 1"));
  EXPECT_THAT(build([](HnswBuildOptions& o) { o.m = 513; }), invalid("m is 513"));
  EXPECT_THAT(build([](HnswBuildOptions& o) { o.ef_construction = 0; }),
              invalid("ef_construction is 0"));
}

TEST(BuildHnsw, StopsBetweenInsertionsWhenCancelled) {
  const Vectors vectors = Clustered(2000, 4, 1);
  for (const int stop_at : {1, 100, 1000}) {
    std::atomic<int> asked = 0;
    const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return ++asked >= stop_at; });
    EXPECT_THAT(BuildHnsw(vectors.rows(), OptionsFor(vectors), FourThreads, cancel),
                StatusIs(absl::StatusCode::kCancelled));
    // At most the other three threads were past the flag when it was set.
    EXPECT_LE(asked, stop_at + 3);
  }
}

TEST(BuildHnsw, StopsWhenTheDeadlineHasPassed) {
  const Vectors vectors = Clustered(10, 4, 1);
  const CancelToken cancel(CancelToken::TimePoint::min(), nullptr);
  EXPECT_THAT(BuildHnsw(vectors.rows(), OptionsFor(vectors), OneThread, cancel),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

}  // namespace
}  // namespace azimuth::index
