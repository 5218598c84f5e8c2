// Graphs for tests: built by one thread, checked, frozen.
#pragma once

#include "base/check.h"
#include "index/graph/calibration_queries.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"
#include "index/graph/search.h"
#include "tests/index/vectors.h"
#include "tests/support/aligned_bytes.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::index::testing {

inline BuiltGraph BuildGraph(const Vectors& vectors, Metric metric = Metric::kL2, uint32_t m = 16,
                             const ParallelFor& parallel = OneThread) {
  HnswBuildOptions options;
  options.metric = metric;
  options.dim = static_cast<uint32_t>(vectors.dim);
  options.m = m;
  auto graph = BuildHnsw(vectors.rows(), options, parallel, CancelToken());
  AZ_CHECK(graph.ok());
  return std::move(graph).value();
}

// Sizes fit together and every id is in range; a list names no node twice, and unused slots
// come last and repeat the node.
inline void ExpectWellFormed(const BuiltGraph& graph) {
  const size_t degree = 2 * size_t{graph.m};
  ASSERT_EQ(graph.levels.size(), graph.node_count);
  ASSERT_EQ(graph.level0.size(), graph.node_count * degree);
  ASSERT_LT(graph.entry_node, graph.node_count);
  EXPECT_EQ(graph.levels[graph.entry_node], graph.max_level);
  EXPECT_EQ(*std::max_element(graph.levels.begin(), graph.levels.end()), graph.max_level);
  size_t lists = 0;
  std::vector<uint32_t> upper;
  for (uint32_t node = 0; node < graph.node_count; ++node) {
    lists += graph.levels[node];
    if (graph.levels[node] > 0) upper.push_back(node);
    bool unused = false;
    std::set<uint32_t> linked;
    for (size_t slot = 0; slot < degree; ++slot) {
      const uint32_t neighbor = graph.level0[node * degree + slot];
      ASSERT_LT(neighbor, graph.node_count);
      unused |= neighbor == node;
      EXPECT_EQ(unused, neighbor == node) << "node " << node << " slot " << slot;
      EXPECT_TRUE(unused || linked.insert(neighbor).second) << "node " << node << " twice";
    }
  }
  EXPECT_EQ(graph.upper_nodes, upper);
  ASSERT_EQ(graph.upper_lists.size(), lists * graph.m);
  size_t list = 0;
  for (const uint32_t node : graph.upper_nodes) {
    for (uint32_t level = 1; level <= graph.levels[node]; ++level, ++list) {
      for (size_t slot = 0; slot < graph.m; ++slot) {
        const uint32_t neighbor = graph.upper_lists[list * graph.m + slot];
        ASSERT_LT(neighbor, graph.node_count);
        EXPECT_GE(graph.levels[neighbor], level);
      }
    }
  }
}

// A graph, and what was held out of it until it was there without them.
struct BuiltWithout {
  BuiltGraph graph;
  HeldOut held_out;
};

inline BuiltWithout BuildWithout(const Vectors& vectors, Metric metric, uint32_t wanted,
                                 const ParallelFor& parallel = OneThread) {
  HnswBuildOptions options;
  options.metric = metric;
  options.dim = static_cast<uint32_t>(vectors.dim);
  BuiltWithout built;
  built.held_out.wanted = wanted;
  auto graph = BuildHnsw(vectors.rows(), options, parallel, CancelToken(), &built.held_out);
  AZ_CHECK(graph.ok());
  built.graph = std::move(graph).value();
  return built;
}

// A graph that is ready for a walk, with all that a walk needs, and for being measured.
struct Searchable {
  Searchable(const Vectors& vectors, Metric metric)
      : Searchable(vectors, metric,
                   BuildWithout(vectors, metric, CalibrationQueryCount(vectors.count()))) {}
  Searchable(const Vectors& vectors, Metric metric, const BuiltGraph& built)
      : Searchable(vectors, metric, BuiltWithout{built, {.before = built}}) {}
  Searchable(const Vectors& vectors, Metric metric, const BuiltWithout& built)
      : order(BreadthFirstOrder(built.graph)),
        bytes(FreezeGraph(built.graph, order)),
        bytes_before(FreezeGraph(built.held_out.before, order)),
        rows(Reordered(vectors, order)),
        kernels(KernelsFor(metric)) {
    auto opened = FrozenGraph::Open(bytes.span());
    AZ_CHECK(opened.ok());
    graph = *opened;
    opened = FrozenGraph::Open(bytes_before.span());
    AZ_CHECK(opened.ok());
    before = *opened;
    for (uint32_t node = 0; node < order.size(); ++node) {
      if (std::ranges::binary_search(built.held_out.numbers, order[node])) held_out.push_back(node);
    }
  }

  NodeVectors nodes() const { return {rows.data.data(), rows.dim, rows.dim}; }

  std::vector<uint32_t> order;  // Also the position of each node.
  azimuth::testing::AlignedBytes bytes;
  azimuth::testing::AlignedBytes bytes_before;
  Vectors rows;
  DistanceKernels kernels;
  FrozenGraph graph;
  FrozenGraph before;              // Without the nodes that are held out, which stand alone.
  std::vector<uint32_t> held_out;  // Ascending.
};

}  // namespace azimuth::index::testing
