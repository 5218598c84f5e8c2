// Rotation: a random orthogonal map of vectors of any dimension in O(dim log dim), so that what a
// vector is spreads evenly over its dimensions.
//
// Rounds of random signs and a fast Walsh-Hadamard transform of the first or the last 2^k
// dimensions, 2^k being the most that fit. Source: Ailon and Chazelle, "The fast
// Johnson-Lindenstrauss transform", 2009; for other dimensions than powers of two as in the library
// of RaBitQ. Thread safety: immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace azimuth::index {

class Rotation final {
 public:
  Rotation() = default;  // Of no dimensions.
  Rotation(size_t dim, uint64_t seed);

  // Rotates in place. REQUIRES: values.size() is the dimension.
  void Apply(std::span<float> values) const;

 private:
  static constexpr size_t kRounds = 4;
  size_t dim_ = 0;
  size_t block_ = 1;          // The power of two.
  std::vector<float> signs_;  // kRounds x dim: 1 or -1.
};

}  // namespace azimuth::index
