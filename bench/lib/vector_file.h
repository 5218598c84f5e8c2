// Vectors of a benchmark in memory: read from .npy, .fvecs, or a file of bare float32.
#pragma once

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace azimuth::bench {

// `rows` vectors of `dim` float32, row after row.
struct Vectors {
  size_t rows = 0;
  uint32_t dim = 0;
  std::vector<float> values;

  const float* row(size_t i) const { return values.data() + i * dim; }
};

// The first `rows_max` rows of a file. Its name says what it is: ".npy" (two dimensions, '<f4', C
// order), ".fvecs" (each row after its dimension as int32), or else bare little-endian float32 of
// dimension `dim`, which is read for that form only. InvalidArgument names the file and what is
// wrong with it; a file without rows is wrong too.
absl::StatusOr<Vectors> ReadVectors(const std::string& path, uint32_t dim = 0,
                                    size_t rows_max = SIZE_MAX);

}  // namespace azimuth::bench
