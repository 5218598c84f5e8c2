// The kernels of every target of Google Highway, and the choice between them. Highway includes this
// file once per target, each time with another HWY_NAMESPACE.
#include "index/codes/code_distance.h"
#include "index/codes/code_distance_vnni.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/codes/code_distance_kernels.cc"
#include "hwy/foreach_target.h"  // Before highway.h.
// clang-format off
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace azimuth::index {
namespace HWY_NAMESPACE {

// Highway 1.0.3 has no product of bytes, so these are the instructions themselves. Elsewhere the
// compiler makes what it can of the scalar loops. (VNNI: code_distance_vnni.cc.)
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3

// Additions wait for one cycle only.
constexpr size_t kChains = 1;

#if HWY_TARGET <= HWY_AVX3
#include "index/codes/code_vectors512-inl.h"

// Of each two bytes, in 16 bits.
HWY_INLINE Vector Products(Vector codes, Vector query) {
  return _mm512_maddubs_epi16(codes, query);
}
HWY_INLINE Vector AddSums(Vector a, Vector b) {
  return _mm512_add_epi32(a, b);
}
HWY_INLINE Vector AddProductSums(Vector a, Vector b) {
  return _mm512_add_epi16(a, b);
}
HWY_INLINE Vector Widen(Vector products) {
  return _mm512_madd_epi16(products, _mm512_set1_epi16(1));
}
#elif HWY_TARGET <= HWY_AVX2
using Vector = __m256i;
// Four of them do not fit 16 registers; the second one finds the rows in the first-level cache.
constexpr size_t kTileQueries = 1;
HWY_INLINE Vector Zero() {
  return _mm256_setzero_si256();
}
HWY_INLINE Vector Load(const void* bytes) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
}
HWY_INLINE Vector Low(Vector codes) {
  return _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
}
HWY_INLINE Vector High(Vector codes) {
  return _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi8(0x0F));
}
HWY_INLINE Vector Products(Vector codes, Vector query) {
  return _mm256_maddubs_epi16(codes, query);
}
HWY_INLINE Vector AddSums(Vector a, Vector b) {
  return _mm256_add_epi32(a, b);
}
HWY_INLINE Vector AddProductSums(Vector a, Vector b) {
  return _mm256_add_epi16(a, b);
}
HWY_INLINE Vector Widen(Vector products) {
  return _mm256_madd_epi16(products, _mm256_set1_epi16(1));
}
HWY_INLINE __m128i Totals(Vector a, Vector b, Vector c, Vector d) {
  const Vector ab = AddSums(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  const Vector cd = AddSums(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
  const Vector abcd = AddSums(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
  return _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256(abcd, 1));
}
#else
using Vector = __m128i;
constexpr size_t kTileQueries = 1;
HWY_INLINE Vector Zero() {
  return _mm_setzero_si128();
}
HWY_INLINE Vector Load(const void* bytes) {
  return _mm_loadu_si128(static_cast<const __m128i*>(bytes));
}
HWY_INLINE Vector Low(Vector codes) {
  return _mm_and_si128(codes, _mm_set1_epi8(0x0F));
}
HWY_INLINE Vector High(Vector codes) {
  return _mm_and_si128(_mm_srli_epi16(codes, 4), _mm_set1_epi8(0x0F));
}
HWY_INLINE Vector Products(Vector codes, Vector query) {
  return _mm_maddubs_epi16(codes, query);
}
HWY_INLINE Vector AddSums(Vector a, Vector b) {
  return _mm_add_epi32(a, b);
}
HWY_INLINE Vector AddProductSums(Vector a, Vector b) {
  return _mm_add_epi16(a, b);
}
HWY_INLINE Vector Widen(Vector products) {
  return _mm_madd_epi16(products, _mm_set1_epi16(1));
}
HWY_INLINE __m128i Totals(Vector a, Vector b, Vector c, Vector d) {
  const Vector ab = AddSums(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
  const Vector cd = AddSums(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
  return AddSums(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
}
#endif

HWY_INLINE Vector AddProducts(Vector sum, Vector codes, Vector query) {
  return AddSums(sum, Widen(Products(codes, query)));
}
// Four products of 15 and 127 fit 16 bits.
HWY_INLINE void AddHalves(Vector (&sums)[1], Vector low, Vector low_query, Vector high,
                          Vector high_query) {
  const Vector products = AddProductSums(Products(low, low_query), Products(high, high_query));
  sums[0] = AddSums(sums[0], Widen(products));
}
HWY_INLINE Vector Join(const Vector (&sums)[1]) {
  return sums[0];
}

#include "index/codes/code_distance-inl.h"

CodeKernels TargetCodeKernels(CodeBits bits) {
  return KernelsOf(bits);
}

#else

CodeKernels TargetCodeKernels(CodeBits bits) {
  return ScalarCodeKernelsFor(bits);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace azimuth::index
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace azimuth::index {
namespace {

HWY_EXPORT(TargetCodeKernels);

// `target` is one of hwy::SupportedAndGeneratedTargets().
CodeKernels KernelsOfTarget(int64_t target, CodeBits bits) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetCodeKernels)(bits);
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetCodeKernels)[chosen.GetIndex()](bits);
}

}  // namespace

CodeKernels CodeKernelsFor(CodeBits bits) {
  static const CodeKernels of4 = AllCodeKernelsFor(CodeBits::k4).front().kernels;
  static const CodeKernels of8 = AllCodeKernelsFor(CodeBits::k8).front().kernels;
  return bits == CodeBits::k4 ? of4 : of8;
}

std::vector<NamedCodeDistanceKernels> AllCodeKernelsFor(CodeBits bits) {
  std::vector<NamedCodeDistanceKernels> all;
  if (const CodeKernels vnni = VnniCodeKernelsFor(bits); vnni.gather != nullptr) {
    all.push_back({"AVX512_VNNI", vnni});
  }
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back({hwy::TargetName(target), KernelsOfTarget(target, bits)});
  }
  all.push_back({"scalar", ScalarCodeKernelsFor(bits)});
  return all;
}

}  // namespace azimuth::index
#endif  // HWY_ONCE
