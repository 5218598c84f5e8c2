// How one segment is searched: by scan or by graph. Pure.
//
// A scan costs one distance for each match. A walk of width ef over n rows of which m match has to
// meet about ef x n / m rows before it knows ef that match, and computes some kDistancesPerHop
// distances for each. The guard bounds the whole at about twice the better plan: a walk that has
// cost as much as the scan would have is abandoned for it. Thread safety: pure function.
#pragma once

#include <cstdint>

namespace azimuth::engine {

struct SegmentPlan {
  bool by_graph = false;
  uint64_t distances_max = UINT64_MAX;  // By graph: give up beyond this.
};

struct PlanInput {
  uint64_t rows = 0;     // Of the segment.
  uint64_t matches = 0;  // Rows that are admitted.
  uint64_t ef = 0;
  bool has_graph = false;
  bool exact = false;
};

SegmentPlan PlanSegment(const PlanInput& input);

}  // namespace azimuth::engine
