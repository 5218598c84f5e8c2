#include "index/graph/frozen_graph.h"

#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::AlignedBytes;
using azimuth::testing::StatusIs;
using testing::BuildGraph;
using testing::Clustered;
using ::testing::HasSubstr;

constexpr size_t kHeaderBytes = 64;

BuiltGraph SomeGraph() {
  return BuildGraph(Clustered(500, 4, 1), Metric::kL2, 4);
}

std::string Frozen(const BuiltGraph& graph) {
  return FreezeGraph(graph, BreadthFirstOrder(graph));
}

std::string WithWord(std::string bytes, size_t offset, uint32_t word) {
  std::memcpy(&bytes[offset], &word, sizeof(word));
  return bytes;
}

TEST(BreadthFirstOrder, IsAPermutationThatBeginsWithTheEntry) {
  const BuiltGraph graph = SomeGraph();
  const std::vector<uint32_t> order = BreadthFirstOrder(graph);
  EXPECT_EQ(order[0], graph.entry_node);
  std::vector<uint32_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<uint32_t> all(graph.node_count);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(sorted, all);
}

TEST(BreadthFirstOrder, TakesNearNodesFirstAndUnreachableOnesLast) {
  BuiltGraph graph;  // 2 -> 4 -> 0; 1 and 3 are reached by nobody.
  graph.m = 1;
  graph.node_count = 5;
  graph.entry_node = 2;
  graph.levels.assign(5, 0);
  graph.level0 = {0, 0, 4, 1, 4, 2, 3, 3, 0, 2};
  EXPECT_EQ(BreadthFirstOrder(graph), (std::vector<uint32_t>{2, 4, 0, 1, 3}));
  EXPECT_TRUE(BreadthFirstOrder(BuiltGraph()).empty());
}

TEST(FrozenGraph, HoldsTheListsOfTheBuiltGraphInTheNewOrder) {
  const BuiltGraph built = SomeGraph();
  const std::vector<uint32_t> order = BreadthFirstOrder(built);
  const AlignedBytes bytes(FreezeGraph(built, order));
  EXPECT_EQ(bytes.span().size() % 64, 0u);
  ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  EXPECT_OK(graph.Verify());
  EXPECT_EQ(graph.node_count(), built.node_count);
  EXPECT_EQ(graph.m(), built.m);
  EXPECT_EQ(graph.max_level(), built.max_level);
  EXPECT_EQ(graph.entry_node(), 0u);
  ASSERT_GT(graph.max_level(), 0u);

  const auto old_ids = [&](std::span<const uint32_t> list) {
    std::vector<uint32_t> ids;
    for (const uint32_t node : list) ids.push_back(order[node]);
    return ids;
  };
  const auto slice = [](const std::vector<uint32_t>& from, size_t first, size_t count) {
    return std::vector<uint32_t>(from.begin() + static_cast<ptrdiff_t>(first),
                                 from.begin() + static_cast<ptrdiff_t>(first + count));
  };
  const size_t degree = graph.degree0();
  for (uint32_t node = 0; node < graph.node_count(); ++node) {
    EXPECT_EQ(old_ids(graph.Level0(node)), slice(built.level0, order[node] * degree, degree));
    size_t list = 0;
    for (const uint32_t before : built.upper_nodes) {
      if (before < order[node]) list += built.levels[before];
    }
    const uint32_t levels = built.levels[order[node]];
    for (uint32_t level = 1; level <= levels; ++level) {
      EXPECT_EQ(old_ids(graph.Upper(node, level)),
                slice(built.upper_lists, (list + level - 1) * built.m, built.m));
    }
    EXPECT_TRUE(graph.Upper(node, levels + 1).empty());
    EXPECT_TRUE(graph.Upper(node, 0).empty());
  }
}

TEST(FrozenGraph, KeepsEmptyGraphsAndSingleNodes) {
  BuiltGraph empty;
  empty.m = 16;
  const AlignedBytes no_nodes(Frozen(empty));
  ASSERT_OK_AND_ASSIGN(const FrozenGraph none, FrozenGraph::Open(no_nodes.span()));
  EXPECT_EQ(none.node_count(), 0u);
  EXPECT_OK(none.Verify());

  const AlignedBytes one_node(Frozen(BuildGraph(Clustered(1, 4, 1))));
  ASSERT_OK_AND_ASSIGN(const FrozenGraph one, FrozenGraph::Open(one_node.span()));
  EXPECT_EQ(one.node_count(), 1u);
  EXPECT_EQ(one.Level0(0)[31], 0u);
  EXPECT_OK(one.Verify());
}

TEST(FrozenGraph, HasNoNodesWithoutBytes) {
  const FrozenGraph graph;
  EXPECT_EQ(graph.node_count(), 0u);
  EXPECT_OK(graph.Verify());
  EXPECT_TRUE(graph.Upper(0, 1).empty());
}

TEST(FrozenGraph, RejectsEveryPrefixAndAnythingThatFollows) {
  const std::string whole = Frozen(BuildGraph(Clustered(40, 4, 1), Metric::kL2, 3));
  for (size_t size = 0; size < whole.size(); ++size) {
    const AlignedBytes bytes(whole.substr(0, size));
    EXPECT_THAT(FrozenGraph::Open(bytes.span()), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
  const AlignedBytes longer(whole + std::string(64, '\0'));
  EXPECT_THAT(FrozenGraph::Open(longer.span()), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(FrozenGraph, RejectsBytesThatAreNotAligned) {
  const AlignedBytes bytes(std::string(4, ' ') + Frozen(SomeGraph()));
  EXPECT_THAT(FrozenGraph::Open(bytes.span().subspan(4)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("address")));
}

TEST(FrozenGraph, NamesTheHeaderFieldThatIsWrong) {
  struct Case {
    size_t offset;
    uint32_t word;
    std::string message;
  };
  const std::string good = Frozen(SomeGraph());
  for (const Case& c :
       {Case{0, 7, "magic"}, Case{4, 0x00010001, "reserved"}, Case{8, 0, "m is 0"},
        Case{8, 4097, "m is 4097"}, Case{8, 5, "bytes"}, Case{12, 501, "bytes"},
        Case{12, 400, "bytes"}, Case{12, 0, "0 nodes"}, Case{12, UINT32_MAX, "bytes"},
        Case{16, 500, "entry node is 500"}, Case{20, 256, "level is 256"}, Case{20, 0, "0 levels"},
        Case{24, 0, "upper levels"}, Case{24, 501, "upper levels"}, Case{28, 0, "upper levels"},
        Case{28, UINT32_MAX, "bytes"}, Case{32, 1, "reserved"}, Case{60, 1u << 31, "reserved"}}) {
    const AlignedBytes bytes(WithWord(good, c.offset, c.word));
    EXPECT_THAT(FrozenGraph::Open(bytes.span()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(c.message)))
        << "offset " << c.offset << " word " << c.word;
  }
}

TEST(FrozenGraph, SaysThatAnotherVersionIsNotReadHere) {
  const AlignedBytes bytes(WithWord(Frozen(SomeGraph()), 4, 2));
  EXPECT_THAT(FrozenGraph::Open(bytes.span()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("version is 2")));
}

TEST(FrozenGraph, FindsANeighborOutOfRangeOnLevelZero) {
  const std::string good = Frozen(SomeGraph());
  const size_t offset = kHeaderBytes + 17 * 8 * 4 + 3 * 4;  // Slot 3 of node 17.
  const AlignedBytes bytes(WithWord(good, offset, 500));
  ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  EXPECT_THAT(graph.Verify(), StatusIs(absl::StatusCode::kDataLoss,
                                       HasSubstr("node 17 of 500 has neighbour 500 on level 0")));
}

TEST(FrozenGraph, FindsEveryCorruptWordOfTheUpperLevels) {
  const std::string good = Frozen(SomeGraph());
  uint32_t upper_count = 0, list_count = 0;
  std::memcpy(&upper_count, &good[24], 4);
  std::memcpy(&list_count, &good[28], 4);
  const auto aligned = [](size_t bytes) { return (bytes + 63) / 64 * 64; };
  const size_t nodes = aligned(kHeaderBytes + 500 * 8 * 4);
  const size_t first = aligned(nodes + upper_count * 4);
  const size_t lists = aligned(first + (upper_count + 1) * 4);
  const auto expect_found = [&](size_t offset, uint32_t word) {
    const AlignedBytes bytes(WithWord(good, offset, word));
    const auto graph = FrozenGraph::Open(bytes.span());
    EXPECT_THAT(graph.ok() ? graph->Verify() : graph.status(),
                StatusIs(absl::StatusCode::kDataLoss))
        << "offset " << offset << " word " << word;
    if (!graph.ok()) return;
    // Also where nobody verified, lists lie inside the bytes.
    for (uint32_t node = 0; node < 500; ++node) {
      for (uint32_t level = 1; level < 5; ++level) {
        for (const uint32_t neighbor : graph->Upper(node, level)) (void)neighbor;
      }
    }
  };
  for (size_t i = 0; i < upper_count; ++i) expect_found(nodes + i * 4, 500);
  for (size_t i = 0; i <= upper_count; ++i) expect_found(first + i * 4, UINT32_MAX);
  for (size_t i = 0; i < size_t{list_count} * 4; ++i) expect_found(lists + i * 4, 500);
}

TEST(FrozenGraph, FindsAnUpperNeighborThatIsNotOnThatLevel) {
  const BuiltGraph built = SomeGraph();
  BuiltGraph bad = built;
  const auto low = static_cast<uint32_t>(std::find(built.levels.begin(), built.levels.end(), 0) -
                                         built.levels.begin());
  bad.upper_lists[0] = low;
  const AlignedBytes bytes(Frozen(bad));
  ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  EXPECT_THAT(graph.Verify(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("where that is not")));
}

TEST(FrozenGraph, FindsAnEntryThatIsNotOnTheHighestLevel) {
  BuiltGraph bad = SomeGraph();
  const std::vector<uint32_t> order = BreadthFirstOrder(bad);
  bad.entry_node = static_cast<uint32_t>(std::find(bad.levels.begin(), bad.levels.end(), 0) -
                                         bad.levels.begin());
  const AlignedBytes bytes(FreezeGraph(bad, order));
  ASSERT_OK_AND_ASSIGN(const FrozenGraph graph, FrozenGraph::Open(bytes.span()));
  EXPECT_THAT(graph.Verify(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("entry node")));
}

}  // namespace
}  // namespace azimuth::index
