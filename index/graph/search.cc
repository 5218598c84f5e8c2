#include "index/graph/search.h"

#include "base/status.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace azimuth::index {
namespace {

uint32_t PositionOf(const GraphSearchOptions& options, uint32_t node) {
  return options.node_to_position != nullptr ? options.node_to_position[node] : node;
}

}  // namespace

absl::StatusOr<GraphSearchResult> SearchGraph(const FrozenGraph& graph, const NodeVectors& vectors,
                                              const DistanceKernels& kernels, const float* query,
                                              const GraphSearchOptions& options, TopK& top,
                                              GraphScratch& scratch, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(
      const GraphSearchResult result,
      WalkGraph(graph, VectorDistances(vectors, kernels, query), options, scratch, cancel));
  for (const GraphScratch::Candidate& candidate : scratch.found()) {
    top.Push({candidate.distance, PositionOf(options, candidate.node)});
  }
  return result;
}

absl::StatusOr<GraphSearchResult> SearchGraphByCodes(
    const FrozenGraph& graph, const NodeDistances& codes, const NodeDistances& vectors,
    const GraphSearchOptions& options, const RescoreOptions& rescore, TopK& top,
    GraphScratch& scratch, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(GraphSearchResult result, WalkGraph(graph, codes, options, scratch, cancel));
  const std::span<const GraphScratch::Candidate> found = scratch.found();
  const size_t most = std::min(found.size(), rescore.most);
  uint32_t nodes[kRescoreStepMax];
  float distances[kRescoreStepMax];
  for (size_t begin = 0; begin < most;) {
    const size_t end = RescoreEnd(begin, rescore.least, most);
    size_t count = 0;
    for (size_t i = begin; i < end; ++i) {
      // Those that follow are farther still.
      if (i >= rescore.least && found[i].distance - rescore.slack > top.bound()) break;
      nodes[count++] = found[i].node;
    }
    vectors.Compute(nodes, count, distances);
    for (size_t i = 0; i < count; ++i) {
      if (!std::isnan(distances[i])) top.Push({distances[i], PositionOf(options, nodes[i])});
    }
    result.distances_computed += count;
    if (count < end - begin) break;
    begin = end;
  }
  return result;
}

}  // namespace azimuth::index
