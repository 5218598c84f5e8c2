// Graphs for tests, built by one thread and frozen.
#pragma once

#include "base/check.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"
#include "index/graph/search.h"
#include "tests/index/vectors.h"
#include "tests/support/aligned_bytes.h"

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

// A graph that is ready for a walk, with all that a walk needs.
struct Searchable {
  Searchable(const Vectors& vectors, Metric metric)
      : Searchable(vectors, metric, BuildGraph(vectors, metric)) {}
  Searchable(const Vectors& vectors, Metric metric, const BuiltGraph& built)
      : order(BreadthFirstOrder(built)),
        bytes(FreezeGraph(built, order)),
        rows(Reordered(vectors, order)),
        kernels(KernelsFor(metric)) {
    auto opened = FrozenGraph::Open(bytes.span());
    AZ_CHECK(opened.ok());
    graph = *opened;
  }

  NodeVectors nodes() const { return {rows.data.data(), rows.dim, rows.dim}; }

  std::vector<uint32_t> order;  // Also the position of each node.
  azimuth::testing::AlignedBytes bytes;
  Vectors rows;
  DistanceKernels kernels;
  FrozenGraph graph;
};

}  // namespace azimuth::index::testing
