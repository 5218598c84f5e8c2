#include "engine/query/plan.h"

namespace azimuth::engine {
namespace {

// Distances per admitted row of a walk that admits everything; measured 12 to 16 with m = 16.
constexpr double kDistancesPerHop = 16;

}  // namespace

SegmentPlan PlanSegment(const PlanInput& input) {
  if (input.exact || !input.has_graph || input.matches <= input.ef) return {};
  const double walk = kDistancesPerHop * static_cast<double>(input.ef) *
                      static_cast<double>(input.rows) / static_cast<double>(input.matches);
  if (walk >= static_cast<double>(input.matches)) return {};
  SegmentPlan plan;
  plan.by_graph = true;
  plan.distances_max = input.matches;
  return plan;
}

}  // namespace azimuth::engine
