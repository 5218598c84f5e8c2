// Distances and graphs that a test sets by hand.
#pragma once

#include "base/check.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"
#include "index/graph/node_distances.h"
#include "tests/support/aligned_bytes.h"

#include "gtest/gtest.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace azimuth::index::testing {

// Distances of a table.
class Table final : public NodeDistances {
 public:
  explicit Table(std::vector<float> distances) : distances_(std::move(distances)) {}
  void Compute(const uint32_t* nodes, size_t count, float* out) const override {
    for (size_t i = 0; i < count; ++i) {
      ASSERT_LT(nodes[i], distances_.size());
      out[i] = distances_[nodes[i]];
      measured_.insert(nodes[i]);
    }
  }
  std::vector<float>& distances() { return distances_; }
  const std::vector<float>& distances() const { return distances_; }
  bool measured(uint32_t node) const { return measured_.count(node) > 0; }

 private:
  std::vector<float> distances_;
  mutable std::set<uint32_t> measured_;
};

// A graph without upper levels: the neighbours of each node.
struct SmallGraph {
  explicit SmallGraph(const std::vector<std::vector<uint32_t>>& neighbors) {
    BuiltGraph built;
    built.m = 2;
    built.node_count = static_cast<uint32_t>(neighbors.size());
    built.levels.assign(neighbors.size(), 0);
    std::vector<uint32_t> order;
    for (uint32_t node = 0; node < neighbors.size(); ++node) {
      for (size_t slot = 0; slot < 4; ++slot) {
        const bool used = slot < neighbors[node].size();
        built.level0.push_back(used ? neighbors[node][slot] : node);
      }
      order.push_back(node);
    }
    bytes = std::make_unique<azimuth::testing::AlignedBytes>(FreezeGraph(built, order));
    auto opened = FrozenGraph::Open(bytes->span());
    AZ_CHECK(opened.ok());
    graph = *opened;
  }
  std::unique_ptr<azimuth::testing::AlignedBytes> bytes;
  FrozenGraph graph;
};

}  // namespace azimuth::index::testing
