// CodeFilter: the first stage of an exact scan: leaves those rows of a block to be looked at whose
// codes (distance/row_code.h) do not show that they are too far. What it leaves out is never among
// the nearest, so that the scan stays exact.
//
// Thread safety: one scan at a time.
#pragma once

#include "index/distance/row_code.h"
#include "index/types.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace azimuth::index {

class CodeFilter final {
 public:
  static constexpr uint32_t kBlockRowsMax = 64;
  // Whether codes of rows of `dim` are enough shorter than the rows: at most five eighths, from 32
  // dimensions on.
  static constexpr bool Saves(size_t dim) {
    return (RowCodeBytes(dim) + sizeof(RowCode)) * 8 <= dim * sizeof(float) * 5;
  }

  CodeFilter(Metric metric, std::span<const float> query);

  // Leaves of ids[0..count), numbers of rows in the block, those that may be at most `bound` away;
  // returns how many. `codes` and `rows` are those of the block, row i at codes + i * RowCodeBytes.
  // REQUIRES: ids ascend and are less than kBlockRowsMax.
  uint32_t Keep(const uint8_t* codes, const RowCode* rows, float bound, uint32_t* ids,
                uint32_t count);

 private:
  // False once codes have turned out to tell too few rows apart.
  bool Pays() const;

  const Metric metric_;
  const size_t bytes_;
  QueryCode query_;
  uint64_t seen_ = 0;
  uint64_t kept_ = 0;
};

}  // namespace azimuth::index
