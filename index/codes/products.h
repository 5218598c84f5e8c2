// Products: dot products of all rows of one matrix with all rows of another, in tiles that stay in
// registers and caches.
//
// Source: the blocking of Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", ACM TOMS 2008, without packing.
// Thread safety: pure.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace azimuth::index {

// Rows of `columns` floats, 0 at first, each followed by zeros up to a multiple of kPadding.
class Matrix final {
 public:
  static constexpr size_t kPadding = 16;

  Matrix(size_t rows, size_t columns)
      : rows_(rows),
        columns_(columns),
        stride_((columns + kPadding - 1) / kPadding * kPadding),
        values_(rows * stride_, 0) {}

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  size_t stride() const { return stride_; }  // In floats.
  std::span<float> row(size_t i) { return {values_.data() + i * stride_, columns_}; }
  std::span<const float> row(size_t i) const { return {values_.data() + i * stride_, columns_}; }

 private:
  size_t rows_;
  size_t columns_;
  size_t stride_;
  std::vector<float> values_;
};

// Some rows, and of each the first `columns`: all that `matrix` has, or a multiple of
// Matrix::kPadding.
struct MatrixRows {
  const float* data = nullptr;
  size_t stride = 0;
  size_t rows = 0;
  size_t columns = 0;

  static MatrixRows Of(const Matrix& matrix);
  static MatrixRows Of(const Matrix& matrix, size_t first, size_t rows, size_t columns);
};

// out[i * out_stride + j] = the product of row i of `a` and row j of `b`. REQUIRES: as many columns
// of both; `out` is neither.
using ProductsKernel = void (*)(const MatrixRows& a, const MatrixRows& b, float* out,
                                size_t out_stride);

// By the best kernel of this CPU.
void Products(const MatrixRows& a, const MatrixRows& b, float* out, size_t out_stride);

// For tests: all that this CPU runs, best first, scalar last, each with its name.
struct NamedProductsKernel {
  std::string_view target;
  ProductsKernel products = nullptr;
};
std::vector<NamedProductsKernel> AllProductsKernels();

}  // namespace azimuth::index
