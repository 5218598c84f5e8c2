// PairCodes: distances between rows from codes of both, for builds: a quarter of the bytes to read,
// and products of bytes. What a build decides by them is which neighbours are near; searches
// measure with the rows themselves.
//
// Rows are taken relative to the mean of a sample and coded as in distance/row_code.h. Distances
// are those of the decoded rows. Where codes, or the roundings of what is computed of them, are too
// coarse for how near rows lie to each other there are none: Make says so.
//
// Source: as row_code.h (LVQ), of which builds over codes are a part.
// Thread safety: immutable; Encode and Distance from any number of threads.
#pragma once

#include "index/distance/row_code.h"
#include "index/types.h"

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace azimuth::index {

class PairCodes final {
 public:
  // Of `vectors`, which are borrowed during the call: dim floats each. None if dim is small, if a
  // row is so large that distances of codes may overflow, or if codes would not tell neighbours
  // apart.
  static std::optional<PairCodes> Make(Metric metric, size_t dim,
                                       std::span<const float* const> vectors);

  // Of a coded row, which needs no alignment; it is measured faster where what follows the head
  // begins at a multiple of 64.
  static constexpr size_t head_bytes() { return sizeof(Head); }
  size_t bytes() const { return sizeof(Head) + code_bytes_; }
  // Writes bytes() to `out` and returns a bound of the error, a norm. `scratch` is any memory to
  // reuse.
  float Encode(const float* row, std::vector<float>& scratch, void* out) const;
  // Distance of two coded rows under the metric, but for the error of both; never NaN. Infinite
  // where it cannot be computed, as for a row that is larger than those of Make may be.
  float Distance(const void* a, const void* b) const;

 private:
  // Before the code. The decoded row, relative to the mean, is offset + scale * code.
  struct Head {
    float offset;
    float scale;
    float sum;  // scale * sum of the code.
    float own;  // l2: the square of the decoded row's norm; else its product with the mean.
  };

  PairCodes(Metric metric, size_t dim)
      : metric_(metric),
        dim_(dim),
        code_bytes_(RowCodeBytes(dim)),
        dots_(AllCodeKernels().front().dots) {}
  bool TellsApart(std::span<const float* const> vectors) const;

  Metric metric_;
  size_t dim_;
  size_t code_bytes_;
  CodeDots dots_;
  std::vector<float> mean_;
  float mean_square_ = 0;
};

}  // namespace azimuth::index
