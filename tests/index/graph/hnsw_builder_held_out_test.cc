// Graphs of which some vectors are held out until last: the graph before, and the one in the end.
#include "index/graph/hnsw_builder.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::BruteForce;
using testing::BuildWithout;
using testing::BuiltWithout;
using testing::Clustered;
using testing::ExpectWellFormed;
using testing::FourThreads;
using testing::OneThread;
using testing::Searchable;
using testing::Vectors;

HnswBuildOptions OptionsFor(const Vectors& vectors, uint64_t seed = 1) {
  HnswBuildOptions options;
  options.dim = static_cast<uint32_t>(vectors.dim);
  options.seed = seed;
  return options;
}

// Numbers are some of `count`; theirs stand alone in the graph before, and all others do not know
// of them.
void ExpectHeldOut(const HeldOut& held_out, size_t count) {
  ASSERT_EQ(held_out.numbers.size(), std::min<size_t>(held_out.wanted, count - 1));
  EXPECT_TRUE(std::ranges::is_sorted(held_out.numbers));
  const std::set<uint32_t> held(held_out.numbers.begin(), held_out.numbers.end());
  EXPECT_EQ(held.size(), held_out.numbers.size());
  const BuiltGraph& before = held_out.before;
  ASSERT_EQ(before.node_count, count);
  ExpectWellFormed(before);
  EXPECT_FALSE(held.contains(before.entry_node));
  const size_t degree = 2 * size_t{before.m};
  for (uint32_t node = 0; node < count; ++node) {
    if (held.contains(node)) {
      EXPECT_EQ(before.levels[node], 0);
    }
    bool linked = false;
    for (size_t slot = 0; slot < degree; ++slot) {
      const uint32_t neighbor = before.level0[node * degree + slot];
      linked |= neighbor != node;
      EXPECT_TRUE(neighbor == node || !held.contains(neighbor)) << node << " to " << neighbor;
    }
    EXPECT_EQ(linked, !held.contains(node) && count - held.size() > 1) << node;
  }
  for (const uint32_t node : before.upper_nodes) EXPECT_FALSE(held.contains(node));
  for (const uint32_t neighbor : before.upper_lists) EXPECT_FALSE(held.contains(neighbor));
}

std::vector<uint32_t> Walked(const FrozenGraph& graph, const Searchable& searchable,
                             const float* query, size_t ef) {
  GraphScratch scratch;
  const VectorDistances distances(searchable.nodes(), searchable.kernels, query);
  EXPECT_OK(WalkGraph(graph, distances, {.ef = ef}, scratch, CancelToken()));
  std::vector<uint32_t> found;
  for (const GraphScratch::Candidate& candidate : scratch.found()) found.push_back(candidate.node);
  return found;
}

// Walks of the graph before find all others and none of those that are held out; in the end all
// are found.
void ExpectFound(const Searchable& searchable) {
  const size_t count = searchable.rows.count();
  ASSERT_OK(searchable.graph.Verify());
  ASSERT_OK(searchable.before.Verify());
  size_t alone = 0;
  for (uint32_t node = 0; node < count; ++node) {
    const float* const row = searchable.rows.row(node);
    const std::vector<uint32_t> found = Walked(searchable.graph, searchable, row, 64);
    ASSERT_FALSE(found.empty());
    alone += found[0] == node ? 0 : 1;
    const bool held = std::ranges::binary_search(searchable.held_out, node);
    const std::vector<uint32_t> before = Walked(searchable.before, searchable, row, 64);
    ASSERT_FALSE(before.empty());
    EXPECT_EQ(before[0] == node, !held) << node;
    for (const uint32_t other : before) {
      EXPECT_FALSE(std::ranges::binary_search(searchable.held_out, other));
    }
  }
  EXPECT_EQ(alone, 0U);
  const std::vector<uint32_t> all =
      Walked(searchable.before, searchable, searchable.rows.row(0), count);
  EXPECT_EQ(all.size(), count - searchable.held_out.size());
}

TEST(HeldOut, StandAloneBeforeAndAreFoundInTheEnd) {
  for (const size_t count : {1, 2, 3, 30, 600}) {
    const Vectors vectors = Clustered(count, 8, 1);
    for (const uint32_t wanted : {0U, 1U, 2U, 29U, 150U, 599U, 600U, UINT32_MAX}) {
      for (const ParallelFor& parallel : {ParallelFor(OneThread), ParallelFor(FourThreads)}) {
        const BuiltWithout built = BuildWithout(vectors, Metric::kL2, wanted, parallel);
        SCOPED_TRACE(std::to_string(count) + " without " + std::to_string(wanted));
        ExpectWellFormed(built.graph);
        ASSERT_EQ(built.graph.node_count, count);
        ExpectHeldOut(built.held_out, count);
        ExpectFound(Searchable(vectors, Metric::kL2, built));
      }
    }
  }
}

TEST(HeldOut, OfNoVectors) {
  HeldOut held_out{.wanted = 5, .numbers = {1, 2}, .before = {}};
  HnswBuildOptions options;
  options.dim = 4;
  ASSERT_OK_AND_ASSIGN(const BuiltGraph graph,
                       BuildHnsw({}, options, OneThread, CancelToken(), &held_out));
  EXPECT_EQ(graph.node_count, 0U);
  EXPECT_TRUE(held_out.numbers.empty());
  EXPECT_EQ(held_out.before.node_count, 0U);
  EXPECT_EQ(held_out.before.m, options.m);
}

TEST(HeldOut, AreDrawnBySeed) {
  const Vectors vectors = Clustered(600, 8, 1);
  const BuiltWithout one = BuildWithout(vectors, Metric::kL2, 100);
  const BuiltWithout same = BuildWithout(vectors, Metric::kL2, 100);
  EXPECT_EQ(same.held_out.numbers, one.held_out.numbers);
  EXPECT_EQ(same.held_out.before.level0, one.held_out.before.level0);
  EXPECT_EQ(same.graph.level0, one.graph.level0);
  EXPECT_EQ(same.graph.upper_lists, one.graph.upper_lists);
  // Whoever builds.
  EXPECT_EQ(BuildWithout(vectors, Metric::kL2, 100, FourThreads).held_out.numbers,
            one.held_out.numbers);
  HeldOut other{.wanted = 100};
  ASSERT_OK(BuildHnsw(vectors.rows(), OptionsFor(vectors, 2), OneThread, CancelToken(), &other));
  EXPECT_NE(other.numbers, one.held_out.numbers);
  // From all over: of each half not much more than half.
  const auto first =
      std::ranges::count_if(one.held_out.numbers, [](uint32_t i) { return i < 300; });
  EXPECT_NEAR(static_cast<double>(first), 50, 25);
}

// Levels are of all vectors, so that the last ones are as likely on high levels as others.
TEST(HeldOut, HaveTheLevelsThatTheyWouldHave) {
  const Vectors vectors = Clustered(600, 8, 1);
  const BuiltWithout built = BuildWithout(vectors, Metric::kL2, 300);
  EXPECT_EQ(built.graph.levels, testing::BuildGraph(vectors).levels);
}

// The graph to extend knows rows that are held out of the new one.
TEST(HeldOut, AreTakenOutOfAGraphThatIsExtended) {
  constexpr size_t kOld = 500;
  const Vectors vectors = Clustered(700, 8, 1);
  Vectors old{8, {vectors.data.begin(), vectors.data.begin() + kOld * 8}};
  const Searchable from(old, Metric::kL2, testing::BuildGraph(old));
  for (const bool some_gone : {false, true}) {
    std::vector<uint32_t> new_node;
    for (uint32_t node = 0; node < kOld; ++node) {
      new_node.push_back(some_gone && node % 10 == 0 ? GraphSeed::kGone : from.order[node]);
    }
    for (const uint32_t wanted : {0U, 1U, 150U, 650U}) {
      BuiltWithout built;
      built.held_out.wanted = wanted;
      ASSERT_OK_AND_ASSIGN(built.graph,
                           ExtendHnsw(vectors.rows(), OptionsFor(vectors), {&from.graph, new_node},
                                      OneThread, CancelToken(), &built.held_out));
      SCOPED_TRACE(wanted);
      ASSERT_EQ(built.graph.node_count, 700U);
      ExpectWellFormed(built.graph);
      ExpectHeldOut(built.held_out, 700);
      ExpectFound(Searchable(vectors, Metric::kL2, built));
      if (wanted < 100) continue;
      const auto& numbers = built.held_out.numbers;
      EXPECT_TRUE(std::ranges::any_of(numbers, [](uint32_t i) { return i < kOld; }));
      EXPECT_TRUE(std::ranges::any_of(numbers, [](uint32_t i) { return i >= kOld; }));
    }
  }
}

TEST(HeldOut, StopsWhenCancelled) {
  const Vectors vectors = Clustered(1000, 8, 1);
  for (const int stop_at : {1, 500, 900}) {
    int asked = 0;
    const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return ++asked >= stop_at; });
    HeldOut held_out{.wanted = 200};
    EXPECT_THAT(BuildHnsw(vectors.rows(), OptionsFor(vectors), OneThread, cancel, &held_out),
                StatusIs(absl::StatusCode::kCancelled));
  }
}

}  // namespace
}  // namespace azimuth::index
