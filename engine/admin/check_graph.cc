#include "engine/admin/check_graph.h"

#include "base/status.h"
#include "engine/segment/metric.h"
#include "index/bitset.h"
#include "index/distance/distance.h"
#include "index/topk.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

// True if a walk for the vector of `position` finds it, or others that are as near.
absl::StatusOr<bool> WalkFindsItself(const Segment& segment, const VectorFieldDef& field,
                                     size_t vector_slot, uint32_t position, const float* vector,
                                     const WalkEffort& effort, index::GraphScratch& scratch,
                                     const CancelToken& cancel) {
  index::TopK top;
  top.Reset(effort.ef, nullptr);
  AZ_RETURN_IF_ERROR(segment
                         .Walk(vector_slot, vector, effort, std::numeric_limits<uint64_t>::max(),
                               nullptr, top, scratch, cancel)
                         .status());
  const uint32_t self = 0;
  float own = 0;
  index::KernelsFor(ToIndexMetric(field.metric))
      .gather(vector, vector, field.dim, field.dim, &self, 1, &own);
  // More than ef duplicates.
  if (top.full() && top.bound() <= own) return true;
  const auto& found = top.Sorted();
  return std::any_of(found.begin(), found.end(), [&](const index::Neighbor& neighbor) {
    return neighbor.position == position || neighbor.distance == own;
  });
}

// By codes or, where these hardly tell near rows apart, by the vectors: it is the graph that is
// looked at.
absl::StatusOr<bool> FindsItself(const Segment& segment, const VectorFieldDef& field,
                                 size_t vector_slot, uint32_t position, const float* vector,
                                 size_t ef, index::GraphScratch& scratch,
                                 const CancelToken& cancel) {
  for (const bool by_vectors : {false, true}) {
    AZ_ASSIGN_OR_RETURN(const bool finds,
                        WalkFindsItself(segment, field, vector_slot, position, vector,
                                        {.ef = ef, .by_vectors = by_vectors}, scratch, cancel));
    if (finds) return true;
  }
  return false;
}

struct Recall {
  size_t asked = 0;
  size_t found = 0;
  size_t ef = 0;  // Of the widest walk.
  bool right() const {
    const auto missed = static_cast<double>(asked - found);
    return missed <= std::max(kMissesMax, (1 - kSelfRecallMin) * static_cast<double>(asked));
  }
};

absl::StatusOr<Recall> SelfRecall(const CheckContext& context, const Segment& segment,
                                  const VectorFieldDef& field, size_t vector_slot) {
  const SegmentGraph graph = segment.Graph(vector_slot);
  const uint32_t nodes = graph.graph->node_count();
  std::vector<uint32_t> positions;
  const uint32_t step = std::max<uint32_t>(1, nodes / kRecallSample);
  for (uint32_t i = 0; i < nodes && positions.size() < kRecallSample; i += step) {
    positions.push_back(graph.node_positions[i]);
  }
  const auto vectors = segment.ExportVectors(vector_slot, positions);
  std::vector<size_t> missed(positions.size());
  std::iota(missed.begin(), missed.end(), size_t{0});
  constexpr size_t kWider = 8;
  const size_t widest = std::clamp(nodes / kSelfEfShareInverse, kSelfEfMin, kSelfEfMax);
  index::GraphScratch scratch;
  Recall recall{.asked = positions.size()};
  for (size_t ef = kSelfEfMin; recall.ef < widest && !recall.right(); ef *= kWider) {
    recall.ef = std::min(ef, widest);
    std::vector<size_t> still;
    for (const size_t i : missed) {
      AZ_ASSIGN_OR_RETURN(const bool finds,
                          FindsItself(segment, field, vector_slot, positions[i], vectors[i],
                                      recall.ef, scratch, context.cancel));
      if (!finds) still.push_back(i);
    }
    missed = std::move(still);
    recall.found = recall.asked - missed.size();
  }
  return recall;
}

}  // namespace

absl::StatusOr<uint32_t> CountUnreachable(const index::FrozenGraph& graph,
                                          const CancelToken& cancel) {
  constexpr uint32_t kStep = 4096;
  const uint32_t count = graph.node_count();
  if (count == 0) return 0;
  index::Bitset reached(count);
  std::vector<uint32_t> frontier = {graph.entry_node()};
  reached.Set(graph.entry_node());
  uint32_t reached_count = 1;
  uint32_t looked_at = 0;
  while (!frontier.empty()) {
    const uint32_t node = frontier.back();
    frontier.pop_back();
    if (++looked_at % kStep == 0) AZ_RETURN_IF_ERROR(cancel.Check());
    for (const uint32_t neighbor : graph.Level0(node)) {
      if (reached.Test(neighbor)) continue;
      reached.Set(neighbor);
      ++reached_count;
      frontier.push_back(neighbor);
    }
  }
  return count - reached_count;
}

absl::StatusOr<bool> CheckSegmentGraph(CheckContext& context, const CheckedCollection& collection,
                                       const Segment& segment, size_t vector_slot) {
  const VectorFieldDef& field = collection.schema.vectors[vector_slot];
  const SegmentGraph graph = segment.Graph(vector_slot);
  const uint32_t nodes = graph.graph->node_count();
  const std::string place = absl::StrFormat(
      "%s, graph of field %s", collection.SegmentPlace(segment.id()), Quoted(field.name));
  AZ_ASSIGN_OR_RETURN(const uint32_t unreachable, CountUnreachable(*graph.graph, context.cancel));
  context.report.graph_nodes += nodes;
  context.report.unreachable_nodes += unreachable;
  bool right = true;
  if (IsUnreachable(unreachable, nodes)) {
    right = false;
    context.findings.Derived(
        "graph.unreachable", place,
        absl::StrFormat("%d of %d nodes cannot be reached", unreachable, nodes));
  }
  AZ_RETURN_IF_ERROR(context.cancel.Check());
  if (field.metric == Metric::kIp) return right;
  AZ_ASSIGN_OR_RETURN(const Recall recall, SelfRecall(context, segment, field, vector_slot));
  if (!recall.right()) {
    right = false;
    context.findings.Derived(
        "graph.self_recall", place,
        absl::StrFormat("%d of %d vectors that were searched for were found, by walks of ef %d",
                        recall.found, recall.asked, recall.ef));
  }
  return right;
}

}  // namespace azimuth::engine
