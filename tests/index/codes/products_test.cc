// Products of rows: that every kernel agrees with sums in double, whatever is left of a tile or a
// panel, and writes nothing else.
#include "index/codes/products.h"

#include "gtest/gtest.h"

#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

constexpr float kUntouched = 12345;

Matrix Random(size_t rows, size_t columns, uint64_t seed) {
  Matrix matrix(rows, columns);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < rows; ++i) {
    for (float& value : matrix.row(i)) value = normal(random);
  }
  return matrix;
}

void ExpectProducts(ProductsKernel products, const MatrixRows& a, const MatrixRows& b) {
  const size_t stride = b.rows + 3;
  std::vector<float> out((a.rows + 1) * stride, kUntouched);
  products(a, b, out.data(), stride);
  for (size_t i = 0; i <= a.rows; ++i) {
    for (size_t j = 0; j < stride; ++j) {
      if (i == a.rows || j >= b.rows) {
        ASSERT_EQ(out[i * stride + j], kUntouched) << i << " " << j;
        continue;
      }
      double expected = 0;
      double size = 0;
      for (size_t at = 0; at < a.columns; ++at) {
        const double term = double{a.data[i * a.stride + at]} * b.data[j * b.stride + at];
        expected += term;
        size += std::abs(term);
      }
      ASSERT_NEAR(out[i * stride + j], expected, 1e-5 * size) << i << " " << j;
    }
  }
}

TEST(Products, OfAllSizesAreTheSums) {
  for (const NamedProductsKernel& kernel : AllProductsKernels()) {
    for (const size_t columns : {1, 15, 16, 17, 100, 512, 513, 1040}) {
      for (const size_t rows_a : {1, 3, 4, 5, 8}) {
        for (const size_t rows_b : {1, 2, 3, 7, 128, 131}) {
          SCOPED_TRACE(std::string(kernel.target) + " " + std::to_string(rows_a) + " x " +
                       std::to_string(rows_b) + " of " + std::to_string(columns));
          const Matrix a = Random(rows_a, columns, 1);
          const Matrix b = Random(rows_b, columns, 2);
          ExpectProducts(kernel.products, MatrixRows::Of(a), MatrixRows::Of(b));
        }
      }
    }
  }
}

TEST(Products, OfSomeRowsAndTheFirstColumnsLookAtNoOthers) {
  const Matrix a = Random(20, 100, 3);
  const Matrix b = Random(9, 64, 4);
  for (const NamedProductsKernel& kernel : AllProductsKernels()) {
    SCOPED_TRACE(kernel.target);
    ExpectProducts(kernel.products, MatrixRows::Of(a, 5, 6, 48), MatrixRows::Of(b, 2, 7, 48));
  }
}

TEST(Products, OfNoRowsOrNoColumnsAreNoneOrZeros) {
  const Matrix a = Random(5, 32, 5);
  for (const NamedProductsKernel& kernel : AllProductsKernels()) {
    SCOPED_TRACE(kernel.target);
    ExpectProducts(kernel.products, MatrixRows::Of(a, 0, 0, 32), MatrixRows::Of(a));
    ExpectProducts(kernel.products, MatrixRows::Of(a), MatrixRows::Of(a, 0, 0, 32));
    ExpectProducts(kernel.products, MatrixRows::Of(a, 0, 5, 0), MatrixRows::Of(a, 0, 3, 0));
  }
}

TEST(Products, AKernelIsThereForEveryTarget) {
  EXPECT_GE(AllProductsKernels().size(), 2U);
  EXPECT_EQ(AllProductsKernels().back().target, "scalar");
}

}  // namespace
}  // namespace azimuth::index
