// Graphs of any bytes: Open says no; or Verify says no and a walk stays inside the bytes; or Verify
// says yes and a walk succeeds.
//
// Input: the first byte says whether the rest is a graph as it is, or a list of changes (offset
// u16, byte) to a graph that was frozen well; headers are checked too well to be guessed often.
#include "index/graph/frozen_graph.h"
#include "index/graph/search.h"
#include "tests/support/aligned_bytes.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace azimuth::index;  // NOLINT(google-build-using-namespace): one file, one layer.

constexpr uint32_t kNodes = 24;
constexpr size_t kDim = 2;

// A ring of nodes, of which every fourth is on level 1 and two are on level 2.
std::string SomeGraph() {
  BuiltGraph graph;
  graph.m = 2;
  graph.node_count = kNodes;
  graph.entry_node = 8;
  graph.max_level = 2;
  for (uint32_t node = 0; node < kNodes; ++node) {
    const uint32_t level = node % 8 == 0 && node > 0 ? 2 : node % 4 == 0 ? 1 : 0;
    graph.levels.push_back(static_cast<uint8_t>(level));
    for (const uint32_t step : {1u, kNodes - 1, 5u, 0u}) {
      graph.level0.push_back((node + step) % kNodes);
    }
    if (level == 0) continue;
    graph.upper_nodes.push_back(node);
    graph.upper_lists.push_back((node + 4) % kNodes);
    graph.upper_lists.push_back((node + kNodes - 4) % kNodes);
    if (level < 2) continue;
    graph.upper_lists.push_back(24 - node);
    graph.upper_lists.push_back(node);
  }
  return FreezeGraph(graph, BreadthFirstOrder(graph));
}

std::string Graph(std::string_view input) {
  if (input.empty() || input[0] == 0) return std::string(input.substr(input.empty() ? 0 : 1));
  std::string graph = SomeGraph();
  for (size_t i = 1; i + 3 <= input.size(); i += 3) {
    const size_t offset = static_cast<uint8_t>(input[i]) |
                          static_cast<size_t>(static_cast<uint8_t>(input[i + 1])) << 8;
    graph[offset % graph.size()] = input[i + 2];
  }
  return graph;
}

void Check(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const azimuth::testing::AlignedBytes bytes(Graph({reinterpret_cast<const char*>(data), size}));
  const auto graph = FrozenGraph::Open(bytes.span());
  if (!graph.ok()) return 0;
  const bool verified = graph->Verify().ok();

  // A graph of few bytes has few nodes, so this is small.
  std::vector<float> vectors(graph->node_count() * kDim);
  for (size_t i = 0; i < vectors.size(); ++i) vectors[i] = static_cast<float>(i * 7 % 11);
  const float query[kDim] = {3, 4};
  TopK top;
  top.Reset(5, nullptr);
  GraphScratch scratch;
  GraphSearchOptions options;
  options.ef = 5;
  const auto result = SearchGraph(*graph, {vectors.data(), kDim, kDim}, KernelsFor(Metric::kL2),
                                  query, options, top, scratch, azimuth::CancelToken());
  if (verified) {
    Check(result.ok());
    Check(graph->node_count() == 0 || top.size() > 0);
  }
  for (const Neighbor& neighbor : top.Sorted()) Check(neighbor.position < graph->node_count());
  return 0;
}
