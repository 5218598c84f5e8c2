// Which segments are built into one next. Pure: a list in, a choice out.
//
// Closed growing segments are taken together, and after them files that were written without their
// graphs (both: kBuilding), which hold up no writes; smaller or equal sealed ones to their left
// join them, so that sizes fall from left to right at least by half and a collection has a
// logarithmic number of segments, while each row is built about log2(rows / growing_rows_max) times
// at most. A sealed segment whose rows are retired beyond a share is built anew alone. A collection
// at rest is merged further, so that it ends with one or a few segments, and one that is being
// optimized as far as segment_rows_max allows.
//
// Thread safety: pure function.
#pragma once

#include "engine/database.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace azimuth::engine {

struct MergeCandidate {
  SegmentState state = SegmentState::kGrowing;  // kBuilding: has to be built.
  uint64_t rows = 0;
  uint64_t retired_rows = 0;
  bool has_file = false;  // Of kBuilding.
};

enum class MergeMode {
  kWriting,   // Only what writes have left.
  kAtRest,    // No write came for a while: also neighbours of which the left one is not far larger.
  kOptimize,  // Everything that may stand in one segment.
};

struct MergeLimits {
  MergeMode mode = MergeMode::kWriting;
  uint64_t segment_rows_max = 0;  // A merge of several segments never makes more rows.
  uint64_t vacuum_rows_min =
      0;  // Smaller sealed segments are not built anew for their retired rows.
};

// A half-open range of the list, which is in order of row ids.
struct MergeChoice {
  size_t begin = 0;
  size_t end = 0;
  friend bool operator==(const MergeChoice&, const MergeChoice&) = default;
};

// True if a sealed segment's retired rows are worth a rebuild.
bool WantsVacuum(const MergeCandidate& segment, const MergeLimits& limits);

std::optional<MergeChoice> ChooseMerge(std::span<const MergeCandidate> segments,
                                       const MergeLimits& limits);

}  // namespace azimuth::engine
