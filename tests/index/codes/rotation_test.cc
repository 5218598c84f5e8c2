#include "index/codes/rotation.h"

#include "tests/index/codes/coded.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace azimuth::index {
namespace {

using testing::NormalVectors;
using testing::Vectors;

std::vector<size_t> Dims() {
  std::vector<size_t> dims;
  for (size_t dim = 1; dim <= 300; ++dim) dims.push_back(dim);
  for (const size_t dim : {784, 1536, 4097}) dims.push_back(dim);
  return dims;
}

double Product(const float* a, const float* b, size_t dim) {
  double sum = 0;
  for (size_t i = 0; i < dim; ++i) sum += double{a[i]} * b[i];
  return sum;
}

TEST(Rotation, KeepsNormsAndProducts) {
  for (const size_t dim : Dims()) {
    const Rotation rotation(dim, 7);
    const Vectors before = NormalVectors(4, dim, 1);
    Vectors after = before;
    for (size_t i = 0; i < 4; ++i) rotation.Apply({after.data.data() + i * dim, dim});
    for (size_t i = 0; i < 4; ++i) {
      for (size_t j = i; j < 4; ++j) {
        const double size = std::sqrt(Product(before.row(i), before.row(i), dim) *
                                      Product(before.row(j), before.row(j), dim));
        EXPECT_NEAR(Product(after.row(i), after.row(j), dim),
                    Product(before.row(i), before.row(j), dim), 2e-6 * size)
            << "dim " << dim;
      }
    }
  }
}

TEST(Rotation, IsThatOfItsSeed) {
  for (const size_t dim : {size_t{16}, size_t{100}, size_t{784}}) {
    const Vectors row = NormalVectors(1, dim, 3);
    const auto rotated = [&](uint64_t seed) {
      std::vector<float> values = row.data;
      Rotation(dim, seed).Apply(values);
      return values;
    };
    EXPECT_EQ(rotated(5), rotated(5));
    EXPECT_NE(rotated(5), rotated(6));
  }
}

// However little of a vector is in how few dimensions.
TEST(Rotation, SpreadsWhatIsInOneDimensionOverAll) {
  for (size_t dim = 64; dim <= 300; ++dim) {
    const Rotation rotation(dim, 11);
    std::vector<float> mean(dim, 0);
    for (size_t i = 0; i < dim; ++i) {
      std::vector<float> values(dim, 0);
      values[i] = 1;
      rotation.Apply(values);
      float largest = 0;
      for (size_t j = 0; j < dim; ++j) {
        largest = std::max(largest, std::abs(values[j]));
        mean[j] += values[j] * values[j];
      }
      EXPECT_LE(largest, 8 / std::sqrt(static_cast<float>(dim))) << "dim " << dim << ", of " << i;
    }
    // It is orthogonal, so each dimension gets as much as one had.
    for (const float square : mean) EXPECT_NEAR(square, 1, 1e-4) << "dim " << dim;
  }
}

TEST(Rotation, LeavesZeroAndTurnsOneDimensionAtMost) {
  std::vector<float> zeros(65, 0);
  Rotation(65, 1).Apply(zeros);
  for (const float value : zeros) EXPECT_EQ(value, 0);
  std::vector<float> one = {3};
  Rotation(1, 1).Apply(one);
  EXPECT_EQ(std::abs(one[0]), 3);
}

}  // namespace
}  // namespace azimuth::index
