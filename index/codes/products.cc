// The kernel for every target of Google Highway, which includes this file once per target, each
// time with another HWY_NAMESPACE.
#include "index/codes/products.h"

#include "base/check.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/codes/products.cc"
#include "hwy/foreach_target.h"  // Before highway.h.
// clang-format off
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace azimuth::index {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A tile is so many rows of `a` by so many of `b`: its sums and one row of each stay in 16
// registers.
constexpr size_t kTileA = 4;
constexpr size_t kTileB = 2;
// So much of so many rows of `b` stays in the second level of caches while all of `a` goes by.
constexpr size_t kPanelColumns = 512;
constexpr size_t kPanelRows = 128;

// Adds to `sums` the products of columns `begin` to `end`, a multiple of Matrix::kPadding apart.
template <class D>
HWY_INLINE void Tile(D d, const float* const (&a)[kTileA], const float* const (&b)[kTileB],
                     size_t begin, size_t end, float (&sums)[kTileA][kTileB]) {
  const size_t lanes = hn::Lanes(d);
  auto s00 = hn::Zero(d), s01 = hn::Zero(d), s10 = hn::Zero(d), s11 = hn::Zero(d);
  auto s20 = hn::Zero(d), s21 = hn::Zero(d), s30 = hn::Zero(d), s31 = hn::Zero(d);
  for (size_t i = begin; i < end; i += lanes) {
    const auto b0 = hn::LoadU(d, b[0] + i);
    const auto b1 = hn::LoadU(d, b[1] + i);
    const auto a0 = hn::LoadU(d, a[0] + i);
    const auto a1 = hn::LoadU(d, a[1] + i);
    const auto a2 = hn::LoadU(d, a[2] + i);
    const auto a3 = hn::LoadU(d, a[3] + i);
    s00 = hn::MulAdd(a0, b0, s00);
    s01 = hn::MulAdd(a0, b1, s01);
    s10 = hn::MulAdd(a1, b0, s10);
    s11 = hn::MulAdd(a1, b1, s11);
    s20 = hn::MulAdd(a2, b0, s20);
    s21 = hn::MulAdd(a2, b1, s21);
    s30 = hn::MulAdd(a3, b0, s30);
    s31 = hn::MulAdd(a3, b1, s31);
  }
  const auto add = [d](auto v, float& sum) { sum += hn::GetLane(hn::SumOfLanes(d, v)); };
  add(s00, sums[0][0]);
  add(s01, sums[0][1]);
  add(s10, sums[1][0]);
  add(s11, sums[1][1]);
  add(s20, sums[2][0]);
  add(s21, sums[2][1]);
  add(s30, sums[3][0]);
  add(s31, sums[3][1]);
}

// The last rows stand for those that a tile would have past the end; nothing of them is written.
void TargetProducts(const MatrixRows& a, const MatrixRows& b, float* out, size_t out_stride) {
  const hn::CappedTag<float, Matrix::kPadding> d;
  const size_t columns = (a.columns + Matrix::kPadding - 1) / Matrix::kPadding * Matrix::kPadding;
  for (size_t i = 0; i < a.rows; ++i) std::fill_n(out + i * out_stride, b.rows, 0.0F);
  for (size_t begin = 0; begin < columns; begin += kPanelColumns) {
    const size_t end = std::min(columns, begin + kPanelColumns);
    for (size_t panel = 0; panel < b.rows; panel += kPanelRows) {
      const size_t panel_end = std::min(b.rows, panel + kPanelRows);
      for (size_t i = 0; i < a.rows; i += kTileA) {
        const float* rows_a[kTileA];
        for (size_t at = 0; at < kTileA; ++at) {
          rows_a[at] = a.data + std::min(i + at, a.rows - 1) * a.stride;
        }
        for (size_t j = panel; j < panel_end; j += kTileB) {
          const float* rows_b[kTileB];
          for (size_t at = 0; at < kTileB; ++at) {
            rows_b[at] = b.data + std::min(j + at, b.rows - 1) * b.stride;
          }
          float sums[kTileA][kTileB] = {};
          Tile(d, rows_a, rows_b, begin, end, sums);
          for (size_t at = 0; at < std::min(kTileA, a.rows - i); ++at) {
            for (size_t to = 0; to < std::min(kTileB, panel_end - j); ++to) {
              out[(i + at) * out_stride + j + to] += sums[at][to];
            }
          }
        }
      }
    }
  }
}

ProductsKernel TargetProductsKernel() {
  return &TargetProducts;
}

}  // namespace HWY_NAMESPACE
}  // namespace azimuth::index
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace azimuth::index {
namespace {

HWY_EXPORT(TargetProductsKernel);

// `target` is one of hwy::SupportedAndGeneratedTargets().
ProductsKernel KernelOfTarget(int64_t target) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetProductsKernel)();
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetProductsKernel)[chosen.GetIndex()]();
}

void ScalarProducts(const MatrixRows& a, const MatrixRows& b, float* out, size_t out_stride) {
  for (size_t i = 0; i < a.rows; ++i) {
    for (size_t j = 0; j < b.rows; ++j) {
      float sum = 0;
      for (size_t at = 0; at < a.columns; ++at) {
        sum += a.data[i * a.stride + at] * b.data[j * b.stride + at];
      }
      out[i * out_stride + j] = sum;
    }
  }
}

}  // namespace

MatrixRows MatrixRows::Of(const Matrix& matrix) {
  return Of(matrix, 0, matrix.rows(), matrix.columns());
}

MatrixRows MatrixRows::Of(const Matrix& matrix, size_t first, size_t rows, size_t columns) {
  AZ_CHECK(first + rows <= matrix.rows());
  AZ_CHECK(columns == matrix.columns() ||
           (columns < matrix.columns() && columns % Matrix::kPadding == 0));
  if (rows == 0) return {nullptr, matrix.stride(), 0, columns};
  return {matrix.row(first).data(), matrix.stride(), rows, columns};
}

void Products(const MatrixRows& a, const MatrixRows& b, float* out, size_t out_stride) {
  static const ProductsKernel kBest = HWY_DYNAMIC_DISPATCH(TargetProductsKernel)();
  AZ_CHECK(a.columns == b.columns);
  kBest(a, b, out, out_stride);
}

std::vector<NamedProductsKernel> AllProductsKernels() {
  std::vector<NamedProductsKernel> all;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back({hwy::TargetName(target), KernelOfTarget(target)});
  }
  all.push_back({"scalar", &ScalarProducts});
  return all;
}

}  // namespace azimuth::index
#endif  // HWY_ONCE
