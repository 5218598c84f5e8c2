// The kernels of row codes for every target of Google Highway. Highway includes this file once per
// target, each time with another HWY_NAMESPACE.
#include "index/distance/row_code.h"
#include "index/distance/row_code_scalar.h"

#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/distance/code_kernels.cc"
#include "hwy/foreach_target.h"  // Before highway.h.
// clang-format off
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace azimuth::index {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Highway 1.0.3 has no product of bytes, so these are the instructions themselves. Elsewhere the
// compiler makes what it can of the plain loop. (VNNI: code_kernels_vnni.cc.)
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define AZ_CODE_LANES 64
using Sum = __m512i;
HWY_INLINE Sum ZeroSum() {
  return _mm512_setzero_si512();
}
HWY_INLINE Sum AddProducts(Sum sum, const uint8_t* row, const int8_t* query) {
  const __m512i a = _mm512_loadu_si512(row);
  const __m512i b = _mm512_loadu_si512(query);
  const __m512i pairs = _mm512_maddubs_epi16(a, b);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
HWY_INLINE int32_t Total(Sum sum) {
  return _mm512_reduce_add_epi32(sum);
}
#elif HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
#define AZ_CODE_LANES 32
using Sum = __m256i;
HWY_INLINE Sum ZeroSum() {
  return _mm256_setzero_si256();
}
HWY_INLINE Sum AddProducts(Sum sum, const uint8_t* row, const int8_t* query) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
  const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query));
  const __m256i pairs = _mm256_maddubs_epi16(a, b);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
HWY_INLINE int32_t Total(Sum sum) {
  const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  const __m128i quarter = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32(quarter, 0xB1)));
}
#elif HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
#define AZ_CODE_LANES 16
using Sum = __m128i;
HWY_INLINE Sum ZeroSum() {
  return _mm_setzero_si128();
}
HWY_INLINE Sum AddProducts(Sum sum, const uint8_t* row, const int8_t* query) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(query));
  const __m128i pairs = _mm_maddubs_epi16(a, b);
  return _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}
HWY_INLINE int32_t Total(Sum sum) {
  const __m128i half = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1)));
}
#endif

#ifdef AZ_CODE_LANES
// Two rows at a time: their sums do not wait for each other.
void Dots(const int8_t* query, const uint8_t* codes, size_t bytes, size_t count, int32_t* out) {
  size_t i = 0;
  for (; i + 2 <= count; i += 2) {
    const uint8_t* row0 = codes + i * bytes;
    const uint8_t* row1 = row0 + bytes;
    Sum sum0 = ZeroSum();
    Sum sum1 = ZeroSum();
    for (size_t j = 0; j < bytes; j += AZ_CODE_LANES) {
      sum0 = AddProducts(sum0, row0 + j, query + j);
      sum1 = AddProducts(sum1, row1 + j, query + j);
    }
    out[i] = Total(sum0);
    out[i + 1] = Total(sum1);
  }
  if (i == count) return;
  Sum sum = ZeroSum();
  for (size_t j = 0; j < bytes; j += AZ_CODE_LANES) {
    sum = AddProducts(sum, codes + i * bytes + j, query + j);
  }
  out[i] = Total(sum);
}
#undef AZ_CODE_LANES
#else
void Dots(const int8_t* query, const uint8_t* codes, size_t bytes, size_t count, int32_t* out) {
  ScalarCodeDots(query, codes, bytes, count, out);
}
#endif

RowCode Encode(std::span<const float> row, uint8_t* code) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const size_t lanes = hn::Lanes(d);
  const size_t dim = row.size();
  const size_t whole = dim / lanes * lanes;
  // Sums need four accumulators (SetNorms).
  if (lanes < 4 || whole == 0) return ScalarEncodeRow(row, code);
  auto least = hn::LoadU(d, row.data());
  auto greatest = least;
  for (size_t i = lanes; i < whole; i += lanes) {
    const auto x = hn::LoadU(d, row.data() + i);
    least = hn::Min(least, x);
    greatest = hn::Max(greatest, x);
  }
  float low = hn::GetLane(hn::MinOfLanes(d, least));
  float high = hn::GetLane(hn::MaxOfLanes(d, greatest));
  for (size_t i = whole; i < dim; ++i) {
    low = row[i] < low ? row[i] : low;
    high = row[i] > high ? row[i] : high;
  }
  RowCode result;
  // What overflows is rare, and the scalar kernel knows what to do.
  if (!SetRange(low, high, result)) return ScalarEncodeRow(row, code);
  std::memset(code + dim, 0, RowCodeBytes(dim) - dim);
  const float inverse = result.scale > 0 ? 1 / result.scale : 0;
  const auto offset = hn::Set(d, result.offset);
  const auto scale = hn::Set(d, result.scale);
  const auto inverses = hn::Set(d, inverse);
  auto squares = hn::Zero(d);
  auto errors = hn::Zero(d);
  for (size_t i = 0; i < whole; i += lanes) {
    const auto x = hn::LoadU(d, row.data() + i);
    const auto level = hn::Min(hn::Mul(hn::Sub(x, offset), inverses), hn::Set(d, kRowCodeMax));
    const auto rounded = hn::NearestInt(level);
    hn::StoreU(hn::DemoteTo(d8, rounded), d8, code + i);
    const auto error = hn::Sub(x, hn::MulAdd(scale, hn::ConvertTo(d, rounded), offset));
    squares = hn::MulAdd(x, x, squares);
    errors = hn::MulAdd(error, error, errors);
  }
  float square = hn::GetLane(hn::SumOfLanes(d, squares));
  float error_square = hn::GetLane(hn::SumOfLanes(d, errors));
  for (size_t i = whole; i < dim; ++i) {
    const float level = (row[i] - result.offset) * inverse;
    code[i] = static_cast<uint8_t>((level < kRowCodeMax ? level : kRowCodeMax) + 0.5F);
    const float error = row[i] - (result.offset + result.scale * static_cast<float>(code[i]));
    square += row[i] * row[i];
    error_square += error * error;
  }
  SetNorms(square, error_square, dim, result);
  return result;
}

NamedCodeKernels TargetCodeKernels() {
  return {{}, &Dots, &Encode};
}

}  // namespace HWY_NAMESPACE
}  // namespace azimuth::index
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace azimuth::index {
namespace {

HWY_EXPORT(TargetCodeKernels);

// `target` is one of hwy::SupportedAndGeneratedTargets().
NamedCodeKernels KernelsOfTarget(int64_t target) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetCodeKernels)();
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetCodeKernels)[chosen.GetIndex()]();
}

}  // namespace

std::vector<NamedCodeKernels> AllCodeKernels() {
  std::vector<NamedCodeKernels> all;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back(KernelsOfTarget(target));
    all.back().target = hwy::TargetName(target);
  }
  if (const CodeDots dots = VnniCodeDots(); dots != nullptr) {
    all.insert(all.begin(), {"AVX512_VNNI", dots, all.front().encode});
  }
  all.push_back({"scalar", &ScalarCodeDots, &ScalarEncodeRow});
  return all;
}

}  // namespace azimuth::index
#endif  // HWY_ONCE
