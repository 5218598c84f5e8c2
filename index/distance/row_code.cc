// The scalar kernels, queries and bounds.
#include "index/distance/row_code.h"

#include "index/distance/distance.h"
#include "index/distance/row_code_scalar.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

constexpr float kEpsilon = std::numeric_limits<float>::epsilon();
constexpr float kInfinite = std::numeric_limits<float>::infinity();
constexpr float kQueryCodeMax = 127;
// Squares of errors below 1e-19 vanish in float; what that can amount to and slack does not cover.
constexpr float kVanishing = 1e-30F;

// A sum of `dim` products in float with four accumulators or more is off by less than this share of
// the sum of magnitudes.
float SumError(size_t dim) {
  return (static_cast<float>(dim) / 4 + 16) * kEpsilon;
}

struct L2 {
  static float Bound(const QueryCode& query, const RowCode& row, float dot) {
    const float squares = query.norm * query.norm + row.norm * row.norm;
    return squares - 2 * dot - query.slack * squares - kVanishing;
  }
};

struct Ip {
  static float Bound(const QueryCode& query, const RowCode& row, float dot) {
    const float squares = query.norm * query.norm + row.norm * row.norm;
    return -dot - query.slack * squares - kVanishing;
  }
};

struct Cosine {
  static float Bound(const QueryCode& query, const RowCode& row, float dot) {
    return 1 + Ip::Bound(query, row, dot) - 4 * kEpsilon;
  }
};

// In blocks, so that the sums stay in the first-level cache.
constexpr size_t kBlockRows = 64;

template <typename Op>
void Bounds(const QueryCode& query, const int32_t* dots, const RowCode* rows, size_t count,
            float* out) {
  const auto sum = static_cast<float>(query.sum);
  for (size_t i = 0; i < count; ++i) {
    const RowCode& row = rows[i];
    const float decoded =
        query.scale * (row.offset * sum + row.scale * static_cast<float>(dots[i]));
    const float off = query.norm * row.error + query.error * (row.norm + row.error);
    out[i] = Op::Bound(query, row, decoded + off);
  }
}

}  // namespace

bool SetRange(float least, float greatest, RowCode& code) {
  const float range = greatest - least;
  code = {};
  // A scale that is not a normal number has no inverse to multiply with.
  if (!(range <= std::numeric_limits<float>::max())) return false;
  code.offset = least;
  code.scale = range / kRowCodeMax;
  if (code.scale < std::numeric_limits<float>::min()) code.scale = 0;
  return true;
}

void SetNorms(float square, float error_square, size_t dim, RowCode& code) {
  const float more = 1 + SumError(dim);
  code.norm = std::sqrt(square) * more;
  // Beside the sums: each decoded element is rounded, to a share of the row's largest ones.
  code.error = std::sqrt(error_square) * more + 4 * kEpsilon * code.norm +
               4 * kEpsilon * std::abs(code.offset) * std::sqrt(static_cast<float>(dim));
  if (!(code.error < kInfinite)) code.error = kInfinite;
}

void ScalarCodeDots(const int8_t* query, const uint8_t* codes, size_t bytes, size_t count,
                    int32_t* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* row = codes + i * bytes;
    int32_t sum = 0;
    for (size_t j = 0; j < bytes; ++j) sum += int32_t{query[j]} * int32_t{row[j]};
    out[i] = sum;
  }
}

RowCode ScalarEncodeRow(std::span<const float> row, uint8_t* code) {
  RowCode result;
  std::memset(code, 0, RowCodeBytes(row.size()));
  const auto [least, greatest] = std::minmax_element(row.begin(), row.end());
  const bool fits = SetRange(*least, *greatest, result);
  const float inverse = result.scale > 0 ? 1 / result.scale : 0;
  double square = 0;
  double error_square = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const float level = std::clamp((row[i] - result.offset) * inverse, 0.0F, kRowCodeMax);
    const float rounded = fits && level >= 0 ? std::nearbyint(level) : 0;  // 0 if not a number.
    code[i] = static_cast<uint8_t>(rounded);
    const double x = row[i];
    const double error = x - (double{result.offset} + double{result.scale} * double{rounded});
    square += x * x;
    error_square += error * error;
  }
  SetNorms(static_cast<float>(square), fits ? static_cast<float>(error_square) : kInfinite,
           row.size(), result);
  return result;
}

void EncodeQuery(std::span<const float> query, QueryCode& out) {
  float largest = 0;
  for (const float x : query) largest = std::max(largest, std::abs(x));
  out.code.assign(RowCodeBytes(query.size()), 0);
  out.scale = largest / kQueryCodeMax;
  const bool fits = out.scale >= std::numeric_limits<float>::min() && AllFinite(query);
  if (!fits) out.scale = 0;
  out.sum = 0;
  double error = 0;
  for (size_t i = 0; i < query.size(); ++i) {
    const float rounded = fits ? std::nearbyint(query[i] / out.scale) : 0;
    out.code[i] = static_cast<int8_t>(rounded);
    out.sum += out.code[i];
    const double left = double{query[i]} - double{out.scale} * double{rounded};
    error += left * left;
  }
  const float more = 1 + 4 * kEpsilon;
  out.norm = static_cast<float>(std::sqrt(SquaredNorm(query))) * more;
  out.error = static_cast<float>(std::sqrt(error)) * more;
  const auto dim = static_cast<float>(query.size());
  // Of the kernel's sum, of the two norms, and of what is decoded.
  out.slack = 4 * SumError(query.size()) + 4 * std::sqrt(dim) * kEpsilon;
}

void LowerBounds(Metric metric, const QueryCode& query, const uint8_t* codes, size_t bytes,
                 const RowCode* rows, size_t count, float* out) {
  static const CodeDots dots = AllCodeKernels().front().dots;
  int32_t sums[kBlockRows];
  for (size_t first = 0; first < count; first += kBlockRows) {
    const size_t block = std::min(kBlockRows, count - first);
    dots(query.code.data(), codes + first * bytes, bytes, block, sums);
    switch (metric) {
      case Metric::kL2:
        Bounds<L2>(query, sums, rows + first, block, out + first);
        break;
      case Metric::kIp:
        Bounds<Ip>(query, sums, rows + first, block, out + first);
        break;
      case Metric::kCosine:
        Bounds<Cosine>(query, sums, rows + first, block, out + first);
        break;
    }
  }
}

RowCode EncodeRow(std::span<const float> row, uint8_t* code) {
  static const auto encode = AllCodeKernels().front().encode;
  return encode(row, code);
}

}  // namespace azimuth::index
