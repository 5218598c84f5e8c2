// The principal components of a sample of rows: the directions along which it varies most.
//
// Source: Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011,
// algorithm 4.4 (subspace iteration).
// Thread safety: pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace azimuth::index {

// Orthonormal rows of `dim` floats each, those along which the sample varies most first.
struct PrincipalComponents {
  size_t dim = 0;
  std::vector<float> rows;
  std::vector<double> variances;  // Of the sample along each; descending but for near ones.
  double variance = 0;            // Of the sample in all.

  size_t count() const { return variances.size(); }
};

// The first `count` of `sample` relative to `center`, near enough: of directions along which it
// varies nearly alike it may be others. REQUIRES: 1 <= count <= dim; all rows are finite.
PrincipalComponents FindPrincipalComponents(size_t dim, size_t count,
                                            std::span<const float* const> sample,
                                            std::span<const float> center, uint64_t seed);

}  // namespace azimuth::index
