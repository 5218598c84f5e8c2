// Projection: a linear map of vectors to fewer dimensions, in which codes are shorter: the
// principal components of rows, then rotated at random, so that what a row is spreads evenly over
// them.
//
// The map itself is coarse (7 bits an element, a scale for each dimension of what comes out), and
// so is a vector while it is mapped (8 bits): products of bytes, by the kernels of codes. Both
// sides of a distance go through the same map, which is as good as orthonormal.
//
// Source: codes of fewer dimensions for the walk and full vectors for the rest: Tepper et al.,
// "LeanVec: searching vectors faster by making them fit", TMLR 2024.
// Thread safety: immutable.
#pragma once

#include "index/aligned_bytes.h"
#include "index/codes/code_distance.h"
#include "index/codes/principal_components.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace azimuth::index {

class Projection final {
 public:
  Projection() = default;  // To no dimensions.
  // To the first `count` of `components`, rotated among themselves.
  Projection(const PrincipalComponents& components, size_t count, uint64_t seed);
  // From the bytes of Save. Errors: DataLoss, which names what is wrong.
  static absl::StatusOr<Projection> Open(size_t dim, std::span<const std::byte> bytes);
  std::string Save() const;

  // Of what comes out.
  size_t count() const { return count_; }
  // Maps `values`, dim floats, which stay as they are, to `out`, count() of them; NaN if a value is
  // infinite. `memory` is any to reuse.
  void Apply(float* values, std::vector<int8_t>& memory, float* out) const;

 private:
  void SetRows(size_t dim, size_t count);
  CodeRows rows() const;

  size_t dim_ = 0;
  size_t count_ = 0;
  // Rows of codes of 8 bits; shared, since a quantizer is copied.
  std::shared_ptr<AlignedBytes> codes_;
  std::shared_ptr<std::vector<CodeFactors>> factors_;
};

}  // namespace azimuth::index
