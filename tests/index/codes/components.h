// Samples to find principal components of.
#pragma once

#include "index/codes/principal_components.h"
#include "index/codes/rotation.h"
#include "tests/index/codes/coded.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace azimuth::index::testing {

// Rows that vary by `scales` along as many directions, which are not those of dimensions.
inline Vectors Spread(size_t count, const std::vector<float>& scales, uint64_t seed) {
  const size_t dim = scales.size();
  Vectors rows = NormalVectors(count, dim, seed);
  const Rotation rotation(dim, 77);
  for (size_t i = 0; i < count; ++i) {
    const std::span<float> row = std::span(rows.data).subspan(i * dim, dim);
    for (size_t at = 0; at < dim; ++at) row[at] *= scales[at];
    rotation.Apply(row);
  }
  return rows;
}

inline std::vector<float> Geometric(size_t dim, float ratio) {
  std::vector<float> scales(dim, 1);
  for (size_t i = 1; i < dim; ++i) scales[i] = scales[i - 1] * ratio;
  return scales;
}

inline std::vector<float> MeanOf(const Vectors& rows) {
  std::vector<float> mean(rows.dim, 0);
  for (size_t at = 0; at < rows.dim; ++at) {
    double sum = 0;
    for (size_t i = 0; i < rows.count(); ++i) sum += rows.row(i)[at];
    mean[at] = static_cast<float>(sum / static_cast<double>(rows.count()));
  }
  return mean;
}

inline double ProductOf(const float* a, const float* b, size_t dim) {
  double product = 0;
  for (size_t i = 0; i < dim; ++i) product += double{a[i]} * b[i];
  return product;
}

inline PrincipalComponents Find(const Vectors& rows, size_t count, uint64_t seed = 1) {
  return FindPrincipalComponents(rows.dim, count, rows.rows(), MeanOf(rows), seed);
}

}  // namespace azimuth::index::testing
