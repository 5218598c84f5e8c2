// The kernels with AVX-512 VNNI. Not a target of Highway: what 1.0.3 calls AVX3_DL is compiled for
// other instructions than it asks the CPU for.
#include "index/codes/code_distance_vnni.h"

#include "hwy/base.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#if HWY_ARCH_X86
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512vnni")
namespace azimuth::index {
namespace {

#include "index/codes/code_vectors512-inl.h"

// A product waits four cycles for the sum that it is added to.
constexpr size_t kChains = 2;

HWY_INLINE Vector AddProducts(Vector sum, Vector codes, Vector query) {
  return _mm512_dpbusd_epi32(sum, codes, query);
}
template <size_t kSums>
HWY_INLINE void AddHalves(Vector (&sums)[kSums], Vector low, Vector low_query, Vector high,
                          Vector high_query) {
  sums[0] = AddProducts(sums[0], low, low_query);
  sums[kSums - 1] = AddProducts(sums[kSums - 1], high, high_query);
}
HWY_INLINE Vector Join(const Vector (&sums)[1]) {
  return sums[0];
}
HWY_INLINE Vector Join(const Vector (&sums)[2]) {
  return _mm512_add_epi32(sums[0], sums[1]);
}

#include "index/codes/code_distance-inl.h"

}  // namespace
}  // namespace azimuth::index
HWY_POP_ATTRIBUTES

namespace azimuth::index {

CodeKernels VnniCodeKernelsFor(CodeBits bits) {
  const bool has = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl");
  return has ? KernelsOf(bits) : CodeKernels{};
}

}  // namespace azimuth::index
#else
namespace azimuth::index {

CodeKernels VnniCodeKernelsFor(CodeBits) {
  return {};
}

}  // namespace azimuth::index
#endif
