#include "engine/segment/merge_policy.h"

#include <algorithm>

namespace azimuth::engine {
namespace {

// Rebuilding pays once a quarter of the rows that a walk meets are dead; who asks to optimize pays
// for less.
constexpr uint64_t kRetiredShareInverse = 4;
constexpr uint64_t kRetiredShareInverseOptimize = 20;
// At rest a segment may be merged with one that is so many times smaller: sizes then fall by more
// than that from left to right, and the rows of a collection that rests again and again after a few
// writes are not all written anew each time.
constexpr uint64_t kAtRestRatio = 8;

uint64_t LiveRows(const MergeCandidate& segment) {
  return segment.rows - segment.retired_rows;
}

// The sealed segments up to `end` that may stand in one with the one before it.
MergeChoice NeighboursBefore(std::span<const MergeCandidate> segments, size_t end,
                             const MergeLimits& limits) {
  MergeChoice choice{end - 1, end};
  uint64_t rows = LiveRows(segments[choice.begin]);
  while (choice.begin > 0) {
    const MergeCandidate& left = segments[choice.begin - 1];
    const bool near = limits.mode == MergeMode::kOptimize || LiveRows(left) <= kAtRestRatio * rows;
    if (left.state != SegmentState::kSealed || !near ||
        LiveRows(left) + rows > limits.segment_rows_max) {
      break;
    }
    rows += LiveRows(left);
    --choice.begin;
  }
  return choice;
}

// The first of the segments that have to be built, of those with or without a file, and what is
// built together with them.
std::optional<MergeChoice> ChooseBuild(std::span<const MergeCandidate> segments, bool has_file,
                                       const MergeLimits& limits) {
  const auto is_one = [&](const MergeCandidate& segment) {
    return segment.state == SegmentState::kBuilding && segment.has_file == has_file;
  };
  const auto first = std::find_if(segments.begin(), segments.end(), is_one);
  if (first == segments.end()) return std::nullopt;
  const auto begin = static_cast<size_t>(first - segments.begin());
  MergeChoice choice{begin, begin};
  uint64_t rows = 0;
  while (
      choice.end < segments.size() && is_one(segments[choice.end]) &&
      (choice.end == begin || rows + LiveRows(segments[choice.end]) <= limits.segment_rows_max)) {
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

}  // namespace

bool WantsVacuum(const MergeCandidate& segment, const MergeLimits& limits) {
  const bool optimize = limits.mode == MergeMode::kOptimize;
  return segment.state == SegmentState::kSealed &&
         segment.rows >= (optimize ? 1 : limits.vacuum_rows_min) &&
         segment.retired_rows * (optimize ? kRetiredShareInverseOptimize : kRetiredShareInverse) >
             segment.rows;
}

std::optional<MergeChoice> ChooseMerge(std::span<const MergeCandidate> segments,
                                       const MergeLimits& limits) {
  for (const bool has_file : {false, true}) {
    if (const auto choice = ChooseBuild(segments, has_file, limits)) return choice;
  }
  for (size_t end = segments.size(); end > 0 && limits.mode != MergeMode::kWriting; --end) {
    if (segments[end - 1].state != SegmentState::kSealed) continue;
    const MergeChoice choice = NeighboursBefore(segments, end, limits);
    if (choice.end - choice.begin > 1) return choice;
  }
  for (size_t i = 0; i < segments.size(); ++i) {
    if (WantsVacuum(segments[i], limits)) {
      return MergeChoice{i, i + 1};
    }
  }
  return std::nullopt;
}

}  // namespace azimuth::engine
