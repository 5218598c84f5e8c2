// Exact scans: distances to every admitted row.
//
// Thread safety: pure functions over what is passed in.
#pragma once

#include "base/deadline.h"
#include "index/bitset.h"
#include "index/distance/distance.h"
#include "index/topk.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace azimuth::index {

struct ScanOptions {
  // Which rows are admitted, over positions; null admits all.
  const Bitset* admitted = nullptr;
  // Position of row i; null: i + first_position.
  const uint32_t* row_to_position = nullptr;
  uint32_t first_position = 0;
};

// Pushes admitted rows of `rows` (row i begins at rows + i * stride floats) into `top`, as
// positions. Rows whose distance is not a number (an overflow of both signs) are left out. Returns
// the number of distances computed. Errors: those of `cancel`, asked every few thousand rows.
absl::StatusOr<uint64_t> ScanRows(const DistanceKernels& kernels, const float* query,
                                  const float* rows, size_t stride, size_t dim, size_t count,
                                  const ScanOptions& options, TopK& top, const CancelToken& cancel);

}  // namespace azimuth::index
