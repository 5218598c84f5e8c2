#include "index/graph/graph_repair.h"

#include "base/status.h"
#include "index/topk.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::AlignedBytes;
using azimuth::testing::StatusIs;
using testing::BruteForce;
using testing::BuildGraph;
using testing::Clustered;
using testing::ExpectWellFormed;
using testing::FourThreads;
using ::testing::HasSubstr;
using testing::OneThread;
using testing::Searchable;
using testing::Vectors;

constexpr uint32_t kGone = GraphSeed::kGone;

// Vectors and a graph over them, of which a next one is made.
struct Generation {
  Generation(Vectors of, const BuiltGraph& built, Metric by = Metric::kL2)
      : vectors(std::move(of)), metric(by), m(built.m), searchable(vectors, by, built) {}
  explicit Generation(Vectors of) : Generation(of, BuildGraph(of)) {}

  Vectors vectors;
  Metric metric;
  uint32_t m;
  Searchable searchable;
};

// What a merge makes of it: `keep[i]` says whether row i stays; `added` come after those that do.
struct Next {
  Next(const Generation& from, const std::vector<bool>& keep, const Vectors& added)
      : vectors{from.vectors.dim, {}} {
    std::vector<uint32_t> new_of_old(from.vectors.count(), kGone);
    for (size_t i = 0; i < keep.size(); ++i) {
      if (!keep[i]) continue;
      new_of_old[i] = static_cast<uint32_t>(vectors.count());
      vectors.data.insert(vectors.data.end(), from.vectors.row(i),
                          from.vectors.row(i) + vectors.dim);
    }
    vectors.data.insert(vectors.data.end(), added.data.begin(), added.data.end());
    for (const uint32_t row : from.searchable.order) new_node.push_back(new_of_old[row]);
  }

  Vectors vectors;
  std::vector<uint32_t> new_node;
};

HnswBuildOptions OptionsFor(const Generation& from) {
  HnswBuildOptions options;
  options.metric = from.metric;
  options.dim = static_cast<uint32_t>(from.vectors.dim);
  options.m = from.m;
  return options;
}

absl::StatusOr<BuiltGraph> Extend(const Generation& from, const Next& next,
                                  const ParallelFor& parallel = OneThread,
                                  const CancelToken& cancel = CancelToken()) {
  return ExtendHnsw(next.vectors.rows(), OptionsFor(from), {&from.searchable.graph, next.new_node},
                    parallel, cancel);
}

std::vector<bool> KeepAll(const Generation& from, bool keep = true) {
  return std::vector<bool>(from.vectors.count(), keep);
}

// Keeps all but `percent` of the rows, which are drawn from `seed`.
std::vector<bool> KeepAllBut(const Generation& from, size_t percent, uint64_t seed) {
  std::vector<size_t> rows(from.vectors.count());
  std::iota(rows.begin(), rows.end(), 0);
  std::shuffle(rows.begin(), rows.end(), std::mt19937_64(seed));
  std::vector<bool> keep = KeepAll(from);
  for (size_t i = 0; i < rows.size() * percent / 100; ++i) keep[rows[i]] = false;
  return keep;
}

Vectors None(size_t dim) {
  return {dim, {}};
}

double MeanDegree(const BuiltGraph& graph) {
  const size_t slots = 2 * size_t{graph.m};
  size_t links = 0;
  for (size_t i = 0; i < graph.level0.size(); ++i) links += graph.level0[i] != i / slots ? 1 : 0;
  return static_cast<double>(links) / graph.node_count;
}

// The share of the nodes that the entry leads to on level 0 alone.
double Reached(const BuiltGraph& graph) {
  const size_t slots = 2 * size_t{graph.m};
  std::vector<bool> seen(graph.node_count, false);
  std::vector<uint32_t> reached = {graph.entry_node};
  seen[graph.entry_node] = true;
  for (size_t next = 0; next < reached.size(); ++next) {
    for (size_t slot = 0; slot < slots; ++slot) {
      const uint32_t neighbor = graph.level0[reached[next] * slots + slot];
      if (!seen[neighbor]) reached.push_back(neighbor);
      seen[neighbor] = true;
    }
  }
  return static_cast<double>(reached.size()) / graph.node_count;
}

double RecallAt10(const Generation& of, size_t ef) {
  constexpr size_t kQueries = 200;
  const Vectors queries = Clustered(kQueries, of.vectors.dim, 77);
  GraphScratch scratch;
  size_t found = 0;
  for (size_t q = 0; q < kQueries; ++q) {
    const std::vector<Neighbor> truth = BruteForce(of.vectors, of.metric, queries.row(q), 10);
    TopK top;
    top.Reset(10, nullptr);
    GraphSearchOptions options;
    options.ef = ef;
    options.node_to_position = of.searchable.order.data();
    EXPECT_OK(SearchGraph(of.searchable.graph, of.searchable.nodes(), of.searchable.kernels,
                          queries.row(q), options, top, scratch, CancelToken()));
    for (const Neighbor& neighbor : top.Sorted()) {
      found += std::any_of(truth.begin(), truth.end(),
                           [&](const Neighbor& t) { return t.position == neighbor.position; });
    }
  }
  return static_cast<double>(found) / (10 * kQueries);
}

TEST(ExtendHnsw, GivesAWellFormedGraphThatReachesAllFromOneThreadAndFromFour) {
  for (const uint32_t m : {5, 16}) {
    for (const Metric metric : {Metric::kL2, Metric::kIp}) {
      const Vectors vectors = Clustered(1500, 8, 1);
      const Generation from(vectors, BuildGraph(vectors, metric, m), metric);
      const Next next(from, KeepAllBut(from, 20, 2), Clustered(300, 8, 3));
      for (const auto& parallel : {ParallelFor(OneThread), ParallelFor(FourThreads)}) {
        ASSERT_OK_AND_ASSIGN(const BuiltGraph graph, Extend(from, next, parallel));
        ASSERT_EQ(graph.node_count, next.vectors.count());
        ExpectWellFormed(graph);
        // Nodes of a small inner product with all others have few ways in, in a new graph too.
        const double fresh = Reached(BuildGraph(next.vectors, metric, m));
        EXPECT_GE(Reached(graph), metric == Metric::kL2 ? 0.999 : fresh - 0.01) << m;
      }
    }
  }
}

TEST(ExtendHnsw, TakesMTwoAndVectorsThatAreAllTheSame) {
  const Vectors equal{4, std::vector<float>(4 * 600, 1.0F)};
  const Generation same(equal);
  ASSERT_OK_AND_ASSIGN(BuiltGraph graph, Extend(same, Next(same, KeepAllBut(same, 20, 1), equal)));
  ExpectWellFormed(graph);

  const Vectors vectors = Clustered(1000, 8, 1);
  const Generation thin(vectors, BuildGraph(vectors, Metric::kL2, 2));
  const Next next(thin, KeepAllBut(thin, 20, 1), Clustered(100, 8, 3));
  ASSERT_OK_AND_ASSIGN(graph, Extend(thin, next));
  ExpectWellFormed(graph);
}

// Goal: repeated reuse does not rot. Method: 50 generations that each replace 2 % of the rows, as
// many as there are; then the same search in a graph built anew over the last rows.
TEST(ExtendHnsw, FindsAsMuchAsANewGraphAfterFiftyGenerations) {
  constexpr size_t kRows = 5000;
  constexpr size_t kDim = 16;
  auto now = std::make_unique<Generation>(Clustered(kRows, kDim, 1));
  const double degree = MeanDegree(BuildGraph(now->vectors));
  BuiltGraph graph;
  for (uint64_t generation = 1; generation <= 50; ++generation) {
    const Next next(*now, KeepAllBut(*now, 2, generation),
                    Clustered(kRows / 50, kDim, 1000 + generation));
    ASSERT_EQ(next.vectors.count(), kRows);
    ASSERT_OK_AND_ASSIGN(graph, Extend(*now, next));
    now = std::make_unique<Generation>(next.vectors, graph);
  }
  ExpectWellFormed(graph);
  EXPECT_GE(Reached(graph), 0.999);
  EXPECT_NEAR(MeanDegree(graph), degree, 0.1 * degree);
  const Generation fresh(now->vectors);
  EXPECT_GE(RecallAt10(*now, 16), RecallAt10(fresh, 16) - 0.01);
  EXPECT_GE(RecallAt10(*now, 32), RecallAt10(fresh, 32) - 0.01);
}

TEST(ExtendHnsw, FindsAsMuchAsANewGraphAfterALossOfAFifth) {
  const Generation from(Clustered(3000, 16, 1));
  const Next next(from, KeepAllBut(from, 20, 2), Clustered(600, 16, 3));
  ASSERT_OK_AND_ASSIGN(const BuiltGraph graph, Extend(from, next, FourThreads));
  EXPECT_GE(RecallAt10(Generation(next.vectors, graph), 16),
            RecallAt10(Generation(next.vectors), 16) - 0.01);
}

TEST(ExtendHnsw, KeepsTheLinksOfAGraphThatLosesNothing) {
  const Vectors vectors = Clustered(800, 8, 1);
  const BuiltGraph built = BuildGraph(vectors);
  const Generation from(vectors, built);
  ASSERT_OK_AND_ASSIGN(const BuiltGraph graph, Extend(from, Next(from, KeepAll(from), None(8))));
  EXPECT_EQ(graph.entry_node, built.entry_node);
  EXPECT_EQ(graph.max_level, built.max_level);
  EXPECT_EQ(graph.levels, built.levels);
  EXPECT_EQ(graph.level0, built.level0);
  EXPECT_EQ(graph.upper_nodes, built.upper_nodes);
  EXPECT_EQ(graph.upper_lists, built.upper_lists);
}

TEST(ExtendHnsw, BuildsAnewIfNothingIsLeft) {
  const Generation from(Clustered(800, 8, 1));
  const Vectors added = Clustered(700, 8, 2);
  const BuiltGraph fresh = BuildGraph(added);
  ASSERT_OK_AND_ASSIGN(const BuiltGraph graph,
                       Extend(from, Next(from, KeepAll(from, false), added)));
  EXPECT_EQ(graph.level0, fresh.level0);
  EXPECT_EQ(graph.levels, fresh.levels);

  BuiltGraph none;
  none.m = 16;
  const Generation empty(None(8), none);
  ASSERT_OK_AND_ASSIGN(const BuiltGraph of_empty, Extend(empty, Next(empty, {}, added)));
  EXPECT_EQ(of_empty.level0, fresh.level0);
}

TEST(ExtendHnsw, GivesAnEmptyGraphIfNothingIsLeftAndNothingComes) {
  const Generation from(Clustered(50, 8, 1));
  ASSERT_OK_AND_ASSIGN(const BuiltGraph graph,
                       Extend(from, Next(from, KeepAll(from, false), None(8))));
  EXPECT_EQ(graph.node_count, 0U);
  EXPECT_EQ(graph.m, 16U);
}

TEST(ExtendHnsw, GoesOnFromOneNodeThatIsLeft) {
  const Generation from(Clustered(800, 8, 1));
  std::vector<bool> keep = KeepAll(from, false);
  keep[400] = true;
  ASSERT_OK_AND_ASSIGN(BuiltGraph graph, Extend(from, Next(from, keep, None(8))));
  ExpectWellFormed(graph);
  EXPECT_EQ(graph.node_count, 1U);

  const Next next(from, keep, Clustered(1000, 8, 2));
  ASSERT_OK_AND_ASSIGN(graph, Extend(from, next, FourThreads));
  ExpectWellFormed(graph);
  EXPECT_GE(Reached(graph), 0.999);
  EXPECT_GE(RecallAt10(Generation(next.vectors, graph), 64), 0.98);
}

TEST(ExtendHnsw, FindsANewEntryWhenTheOldOneIsGone) {
  const Vectors vectors = Clustered(1000, 8, 1);
  const BuiltGraph built = BuildGraph(vectors);
  const Generation from(vectors, built);
  std::vector<bool> keep = KeepAll(from);
  keep[built.entry_node] = false;
  const Next entry_gone(from, keep, None(8));
  ASSERT_OK_AND_ASSIGN(BuiltGraph graph, Extend(from, entry_gone));
  ExpectWellFormed(graph);  // The entry is on the highest level that any node has.
  EXPECT_GE(RecallAt10(Generation(entry_gone.vectors, graph), 64), 0.98);

  // All of the upper levels gone: what comes in may bring new ones.
  for (const uint32_t node : built.upper_nodes) keep[node] = false;
  const Next flat(from, keep, None(8));
  ASSERT_OK_AND_ASSIGN(graph, Extend(from, flat));
  ExpectWellFormed(graph);
  EXPECT_GE(RecallAt10(Generation(flat.vectors, graph), 64), 0.98);
  const Next more(from, keep, Clustered(500, 8, 2));
  ASSERT_OK_AND_ASSIGN(graph, Extend(from, more));
  ExpectWellFormed(graph);
  EXPECT_GT(graph.max_level, 0U);
  EXPECT_GE(RecallAt10(Generation(more.vectors, graph), 64), 0.98);
}

TEST(ExtendHnsw, RejectsASeedThatDoesNotFit) {
  const Generation from(Clustered(100, 8, 1));
  const Next next(from, KeepAll(from), None(8));
  const auto extend = [&](uint32_t m, const std::vector<uint32_t>& new_node) {
    HnswBuildOptions options = OptionsFor(from);
    options.m = m;
    return ExtendHnsw(next.vectors.rows(), options, {&from.searchable.graph, new_node}, OneThread,
                      CancelToken())
        .status();
  };
  const auto invalid = [](const char* text) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
  };
  EXPECT_OK(extend(16, next.new_node));
  EXPECT_THAT(extend(8, next.new_node), invalid("m is 8, but the graph to extend has 16"));
  std::vector<uint32_t> bad = next.new_node;
  bad.pop_back();
  EXPECT_THAT(extend(16, bad), invalid("99 new numbers for 100 nodes"));
  bad = next.new_node;
  bad[7] = 100;
  EXPECT_THAT(extend(16, bad), invalid("node 7 becomes vector 100 of 100"));
  bad = next.new_node;
  bad[7] = bad[8];
  EXPECT_THAT(extend(16, bad), invalid("two nodes become vector"));
}

TEST(ExtendHnsw, StopsInTheRepairAndBetweenInsertionsWhenCancelled) {
  const Generation from(Clustered(2000, 4, 1));
  const Next next(from, KeepAllBut(from, 10, 1), Clustered(400, 4, 2));
  for (const int stop_at : {1, 3, 100}) {
    std::atomic<int> asked = 0;
    const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return ++asked >= stop_at; });
    EXPECT_THAT(Extend(from, next, FourThreads, cancel), StatusIs(absl::StatusCode::kCancelled));
    EXPECT_LE(asked, stop_at + 3);  // The other three threads may be past the flag.
  }
}

// Nodes at 0, 1, 2, ... on a line, m 2, level 0 only.
BuiltGraph LineGraph(const std::vector<std::vector<uint32_t>>& links) {
  BuiltGraph graph;
  graph.m = 2;
  graph.node_count = static_cast<uint32_t>(links.size());
  graph.levels.assign(links.size(), 0);
  for (uint32_t node = 0; node < graph.node_count; ++node) {
    graph.level0.insert(graph.level0.end(), links[node].begin(), links[node].end());
    graph.level0.resize((node + 1) * size_t{4}, node);
  }
  return graph;
}

absl::StatusOr<RepairedGraph> RepairLine(const std::vector<std::vector<uint32_t>>& links,
                                         const std::vector<uint32_t>& gone) {
  const BuiltGraph built = LineGraph(links);
  std::vector<uint32_t> order(links.size());
  std::iota(order.begin(), order.end(), 0);
  const AlignedBytes bytes(FreezeGraph(built, order));
  AZ_ASSIGN_OR_RETURN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  std::vector<uint32_t> new_node = order;
  for (const uint32_t node : gone) new_node[node] = kGone;
  std::vector<float> line(links.size());
  std::iota(line.begin(), line.end(), 0.0F);
  std::vector<const float*> vectors;
  for (const float& x : line) vectors.push_back(&x);
  return RepairGraph(vectors, 1, KernelsFor(Metric::kL2), {&graph, new_node}, OneThread,
                     CancelToken());
}

TEST(RepairGraph, LinksThroughGoneNodesAndBack) {
  // 0 - 1 - 2 - 3 - 4 without 1 and 2.
  ASSERT_OK_AND_ASSIGN(const RepairedGraph repaired,
                       RepairLine({{1}, {0, 2}, {1, 3}, {2, 4}, {3}}, {1, 2}));
  EXPECT_EQ(repaired.numbers, (std::vector<uint32_t>{0, 3, 4}));
  EXPECT_EQ(repaired.graph.entry_node, 0U);
  EXPECT_EQ(repaired.graph.level0, (std::vector<uint32_t>{1, 0, 0, 0,     // 0 -> 3
                                                          2, 0, 1, 1,     // 3 -> 4, 0
                                                          1, 2, 2, 2}));  // 4 -> 3
}

TEST(RepairGraph, LeavesOutANodeThatNothingIsLeftAround) {
  // 0 knew only 1 and 2, and those only each other and 0.
  ASSERT_OK_AND_ASSIGN(const RepairedGraph repaired,
                       RepairLine({{1, 2}, {0, 2}, {0, 1}, {0, 4, 5}, {3, 5}, {3, 4}}, {1, 2}));
  EXPECT_EQ(repaired.numbers, (std::vector<uint32_t>{3, 4, 5}));
  EXPECT_EQ(repaired.graph.entry_node, 0U);
  EXPECT_EQ(repaired.graph.level0, (std::vector<uint32_t>{1, 2, 0, 0, 0, 2, 1, 1, 0, 1, 2, 2}));
}

TEST(RepairGraph, LeavesOutWhatCannotBeReachedAnyMore) {
  // Only 1, which goes, led from the entry to 3 and 4; it led back to nothing else.
  ASSERT_OK_AND_ASSIGN(const RepairedGraph repaired,
                       RepairLine({{2}, {0}, {0}, {4, 0}, {3, 0}}, {1}));
  EXPECT_EQ(repaired.numbers, (std::vector<uint32_t>{0, 2}));
}

}  // namespace
}  // namespace azimuth::index
