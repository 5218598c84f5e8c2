#include "engine/query/plan.h"

#include <algorithm>
#include <cmath>

namespace azimuth::engine {
namespace {

// Distances per admitted row of a walk that admits everything; measured 12 to 16 with m = 16.
constexpr double kDistancesPerHop = 16;
// A narrower walk may end in a wrong corner of the graph before it has come near.
constexpr uint64_t kNarrowEfMin = 16;
// Of a batch, what one thread takes at a time.
constexpr std::chrono::nanoseconds kRunTime = std::chrono::microseconds(200);

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

BatchPlan PlanBatch(size_t queries, std::chrono::nanoseconds each, size_t idle) {
  const auto nanos = static_cast<size_t>(std::max<int64_t>(each.count(), 1));
  const auto run_nanos = static_cast<size_t>(kRunTime.count());
  const size_t run = std::max<size_t>((run_nanos + nanos - 1) / nanos, 1);
  const size_t runs = queries / run;
  if (runs < 2 || idle == 0) return {.companions = 0, .run = queries};
  return {.companions = std::min(idle, runs - 1), .run = run};
}

}  // namespace azimuth::engine
