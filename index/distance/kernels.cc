// The kernels of every target of Google Highway, and the choice between them. Highway includes this
// file once per target, each time with another HWY_NAMESPACE.
#include "index/distance/distance.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/distance/kernels.cc"
#include "hwy/foreach_target.h"  // Before highway.h.
// clang-format off
#include "hwy/cache_control.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace azimuth::index {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct L2 {
  template <class V>
  static HWY_INLINE V Step(V a, V b, V sum) {
    const V difference = hn::Sub(a, b);
    return hn::MulAdd(difference, difference, sum);
  }
  static HWY_INLINE float Term(float a, float b) { return (a - b) * (a - b); }
  static HWY_INLINE float Finish(float sum) { return sum; }
};

struct Ip {
  template <class V>
  static HWY_INLINE V Step(V a, V b, V sum) {
    return hn::MulAdd(a, b, sum);
  }
  static HWY_INLINE float Term(float a, float b) { return a * b; }
  static HWY_INLINE float Finish(float sum) { return -sum; }
};

struct Cosine : Ip {
  static HWY_INLINE float Finish(float sum) { return 1.0f - sum; }
};

// Four accumulators hide the latency of the fused multiply-add. The tail never reads past the end:
// masked loads do not fault on AVX2 and above; elsewhere vectors are short and a loop does.
template <class Op>
HWY_INLINE float Distance(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, size_t dim) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  auto sum2 = hn::Zero(d);
  auto sum3 = hn::Zero(d);
  size_t i = 0;
  for (; i + 4 * lanes <= dim; i += 4 * lanes) {
    sum0 = Op::Step(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
    sum1 = Op::Step(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), sum1);
    sum2 = Op::Step(hn::LoadU(d, a + i + 2 * lanes), hn::LoadU(d, b + i + 2 * lanes), sum2);
    sum3 = Op::Step(hn::LoadU(d, a + i + 3 * lanes), hn::LoadU(d, b + i + 3 * lanes), sum3);
  }
  for (; i + lanes <= dim; i += lanes) {
    sum0 = Op::Step(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
  }
  float rest = 0;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  if (i < dim) {
    const auto mask = hn::FirstN(d, dim - i);
    sum1 = Op::Step(hn::MaskedLoad(mask, d, a + i), hn::MaskedLoad(mask, d, b + i), sum1);
  }
#else
  for (; i < dim; ++i) rest += Op::Term(a[i], b[i]);
#endif
  const auto sum = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
  return Op::Finish(hn::GetLane(hn::SumOfLanes(d, sum)) + rest);
}

template <class Op>
float Pair(const float* a, const float* b, size_t dim) {
  return Distance<Op>(a, b, dim);
}

// The first lines of a row; the hardware prefetcher sees a stream by then and brings the others.
HWY_INLINE void PrefetchRow(const float* row, size_t dim) {
  constexpr size_t kLineFloats = 16;
  const size_t end = std::min(dim, 4 * kLineFloats);
  for (size_t i = 0; i < end; i += kLineFloats) hwy::Prefetch(row + i);
}

template <class Op>
void Gather(const float* query, const float* base, size_t stride, size_t dim, const uint32_t* ids,
            size_t count, float* out) {
  constexpr size_t kRowsAhead = 3;
  for (size_t i = 0; i < std::min(count, kRowsAhead); ++i) {
    PrefetchRow(base + ids[i] * stride, dim);
  }
  for (size_t i = 0; i < count; ++i) {
    if (i + kRowsAhead < count) PrefetchRow(base + ids[i + kRowsAhead] * stride, dim);
    out[i] = Distance<Op>(query, base + ids[i] * stride, dim);
  }
}

template <class Op>
void Run(const float* query, const float* rows, size_t stride, size_t dim, size_t count,
         float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Distance<Op>(query, rows + i * stride, dim);
}

template <class Op>
DistanceKernels KernelsOf() {
  return {&Pair<Op>, &Gather<Op>, &Run<Op>};
}

DistanceKernels TargetKernels(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return KernelsOf<L2>();
    case Metric::kIp:
      return KernelsOf<Ip>();
    case Metric::kCosine:
      return KernelsOf<Cosine>();
  }
  return ScalarKernelsFor(metric);
}

}  // namespace HWY_NAMESPACE
}  // namespace azimuth::index
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace azimuth::index {
namespace {

HWY_EXPORT(TargetKernels);

// `target` is one of hwy::SupportedAndGeneratedTargets().
DistanceKernels KernelsOfTarget(int64_t target, Metric metric) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetKernels)(metric);
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetKernels)[chosen.GetIndex()](metric);
}

}  // namespace

DistanceKernels KernelsFor(Metric metric) {
  return HWY_DYNAMIC_DISPATCH(TargetKernels)(metric);
}

std::vector<NamedKernels> AllKernelsFor(Metric metric) {
  std::vector<NamedKernels> all;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back({hwy::TargetName(target), KernelsOfTarget(target, metric)});
  }
  all.push_back({"scalar", ScalarKernelsFor(metric)});
  return all;
}

}  // namespace azimuth::index
#endif  // HWY_ONCE
