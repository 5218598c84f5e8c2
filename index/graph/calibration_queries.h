// Queries to calibrate a graph with: rows that are held out of it, and their true neighbours among
// the others.
//
// Thread safety: pure.
#pragma once

#include "base/deadline.h"
#include "index/codes/coded_vectors.h"
#include "index/graph/hnsw_builder.h"
#include "index/types.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace azimuth::index {

struct CalibrationQuery {
  uint32_t node = 0;
  std::vector<Neighbor> nearest;  // Ascending, by node; at most 100.
};

// How many of `rows` rows to hold out (HeldOut::wanted): one of 55, at least 32 and at most 500,
// but no more than a quarter.
uint32_t CalibrationQueryCount(size_t rows);

// Of the nodes `held_out`, those whose numbers are finite. `codes` (which may be null) tell which
// rows are worth measuring by the vectors, where they tell them well. `vectors` are in node order,
// `dim` floats each. Errors: those of `cancel`.
absl::StatusOr<std::vector<CalibrationQuery>> FindCalibrationQueries(
    std::span<const uint32_t> held_out, const CodedVectors* codes,
    std::span<const float* const> vectors, Metric metric, size_t dim, const ParallelFor& parallel,
    const CancelToken& cancel);

}  // namespace azimuth::index
