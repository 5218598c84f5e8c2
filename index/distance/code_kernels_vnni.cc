// The kernel of row codes with AVX-512 VNNI. Not a target of Highway: what 1.0.3 calls AVX3_DL is
// compiled for other instructions than it asks the CPU for.
#include "index/distance/row_code_scalar.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace azimuth::index {
namespace {

#define AZ_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

AZ_VNNI inline __m512i AddProducts(__m512i sum, const uint8_t* row, __m512i query) {
  return _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row), query);
}

// Four sums, one in each lane.
AZ_VNNI inline __m128i Totals(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i abcd =
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half =
      _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// Four rows at a time: each part of the query is loaded once for them, and no sum waits.
AZ_VNNI void Dots(const int8_t* query, const uint8_t* codes, size_t bytes, size_t count,
                  int32_t* out) {
  constexpr size_t kLanes = 64;
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const uint8_t* row = codes + i * bytes;
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                       _mm512_setzero_si512()};
    for (size_t j = 0; j < bytes; j += kLanes) {
      const __m512i part = _mm512_loadu_si512(query + j);
      sums[0] = AddProducts(sums[0], row + j, part);
      sums[1] = AddProducts(sums[1], row + bytes + j, part);
      sums[2] = AddProducts(sums[2], row + 2 * bytes + j, part);
      sums[3] = AddProducts(sums[3], row + 3 * bytes + j, part);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     Totals(sums[0], sums[1], sums[2], sums[3]));
  }
  for (; i < count; ++i) {
    const uint8_t* row = codes + i * bytes;
    __m512i even = _mm512_setzero_si512();  // Two sums, which do not wait for each other.
    __m512i odd = _mm512_setzero_si512();
    size_t j = 0;
    for (; j + 2 * kLanes <= bytes; j += 2 * kLanes) {
      even = AddProducts(even, row + j, _mm512_loadu_si512(query + j));
      odd = AddProducts(odd, row + j + kLanes, _mm512_loadu_si512(query + j + kLanes));
    }
    if (j < bytes) even = AddProducts(even, row + j, _mm512_loadu_si512(query + j));
    out[i] = _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd));
  }
}

}  // namespace

CodeDots VnniCodeDots() {
  const bool has = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl");
  return has ? &Dots : nullptr;
}

}  // namespace azimuth::index
#else
namespace azimuth::index {

CodeDots VnniCodeDots() {
  return nullptr;
}

}  // namespace azimuth::index
#endif
