#include "engine/segment/merge_policy.h"

namespace azimuth::engine {
namespace {

// Rebuilding pays once a quarter of the rows that a walk meets are dead.
constexpr uint64_t kRetiredShareInverse = 4;

uint64_t LiveRows(const MergeCandidate& segment) {
  return segment.rows - segment.retired_rows;
}

}  // namespace

bool WantsVacuum(const MergeCandidate& segment, const MergeLimits& limits) {
  return segment.state == SegmentState::kSealed && segment.rows >= limits.vacuum_rows_min &&
         segment.retired_rows * kRetiredShareInverse > segment.rows;
}

std::optional<MergeChoice> ChooseMerge(std::span<const MergeCandidate> segments,
                                       const MergeLimits& limits) {
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].state != SegmentState::kBuilding) continue;
    MergeChoice choice{i, i};
    uint64_t rows = 0;
    while (choice.end < segments.size() && segments[choice.end].state == SegmentState::kBuilding &&
           (choice.end == i || rows + LiveRows(segments[choice.end]) <= limits.segment_rows_max)) {
      rows += LiveRows(segments[choice.end++]);
    }
    while (choice.begin > 0) {
      const MergeCandidate& left = segments[choice.begin - 1];
      if (left.state != SegmentState::kSealed || LiveRows(left) > rows ||
          LiveRows(left) + rows > limits.segment_rows_max) {
        break;
      }
      rows += LiveRows(left);
      --choice.begin;
    }
    return choice;
  }
  for (size_t i = 0; i < segments.size(); ++i) {
    if (WantsVacuum(segments[i], limits)) {
      return MergeChoice{i, i + 1};
    }
  }
  return std::nullopt;
}

}  // namespace azimuth::engine
