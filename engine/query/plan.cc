#include "engine/query/plan.h"

#include <algorithm>
#include <cmath>

namespace azimuth::engine {
namespace {

// Distances per admitted row of a walk that admits everything; measured 12 to 16 with m = 16.
constexpr double kDistancesPerHop = 16;
// A narrower walk may end in a wrong corner of the graph before it has come near.
constexpr uint64_t kNarrowEfMin = 16;

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

NarrowWalk NarrowFor(uint64_t ef, uint64_t limit, uint64_t rows, uint64_t rows_all) {
  const double expected =
      static_cast<double>(limit) * static_cast<double>(rows) / static_cast<double>(rows_all);
  // Their number is about Poisson's: three deviations more, and two for the small ones.
  const auto hits = static_cast<uint64_t>(std::ceil(expected + 3 * std::sqrt(expected))) + 2;
  if (hits >= limit) return {ef, limit};
  return {std::min(ef, std::max(kNarrowEfMin, (ef * hits + limit - 1) / limit)), hits};
}

}  // namespace azimuth::engine
