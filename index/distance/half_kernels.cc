// The kernels of half floats for every target of Google Highway, and the choice between them.
// Highway includes this file once per target, each time with another HWY_NAMESPACE.
#include "index/distance/half.h"
#include "index/distance/half_scalar.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/distance/half_kernels.cc"
#include "hwy/foreach_target.h"  // Before highway.h.
// clang-format off
#include "hwy/cache_control.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace azimuth::index {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Below AVX2 CPUs may have no conversion (F16C), and what Highway does instead does not round as
// we do.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2

#include "index/distance/kernels-inl.h"

HalfKernels TargetHalfKernels(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return KernelsOf<HalfKernels, L2, Half>();
    case Metric::kIp:
      return KernelsOf<HalfKernels, Ip, Half>();
    case Metric::kCosine:
      return KernelsOf<HalfKernels, Cosine, Half>();
  }
  return ScalarHalfKernelsFor(metric);
}

void TargetToHalf(const float* from, size_t count, Half* to) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> halves;
  const hn::Rebind<Half, decltype(d)> bits;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto half = hn::DemoteTo(halves, hn::LoadU(d, from + i));
    hn::StoreU(hn::BitCast(bits, half), bits, to + i);
  }
  for (; i < count; ++i) to[i] = HalfOfFloat(from[i]);
}

void TargetToFloat(const Half* from, size_t count, float* to) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(LoadRow(d, from + i), d, to + i);
  for (; i < count; ++i) to[i] = FloatOfHalf(from[i]);
}

HalfConversions TargetHalfConversions() {
  return {&TargetToHalf, &TargetToFloat};
}

#else

HalfKernels TargetHalfKernels(Metric metric) {
  return ScalarHalfKernelsFor(metric);
}

HalfConversions TargetHalfConversions() {
  return ScalarHalfConversions();
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace azimuth::index
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace azimuth::index {
namespace {

HWY_EXPORT(TargetHalfKernels);
HWY_EXPORT(TargetHalfConversions);

// `target` is one of hwy::SupportedAndGeneratedTargets().
HalfKernels KernelsOfTarget(int64_t target, Metric metric) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetHalfKernels)(metric);
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetHalfKernels)[chosen.GetIndex()](metric);
}

HalfConversions ConversionsOfTarget(int64_t target) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetHalfConversions)();
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetHalfConversions)[chosen.GetIndex()]();
}

}  // namespace

HalfKernels HalfKernelsFor(Metric metric) {
  return HWY_DYNAMIC_DISPATCH(TargetHalfKernels)(metric);
}

void ToHalf(const float* from, size_t count, Half* to) {
  HWY_DYNAMIC_DISPATCH(TargetHalfConversions)().to_half(from, count, to);
}

void ToFloat(const Half* from, size_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(TargetHalfConversions)().to_float(from, count, to);
}

std::vector<NamedHalfKernels> AllHalfKernelsFor(Metric metric) {
  std::vector<NamedHalfKernels> all;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back({hwy::TargetName(target), KernelsOfTarget(target, metric)});
  }
  all.push_back({"scalar", ScalarHalfKernelsFor(metric)});
  return all;
}

std::vector<NamedHalfConversions> AllHalfConversions() {
  std::vector<NamedHalfConversions> all;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back({hwy::TargetName(target), ConversionsOfTarget(target)});
  }
  all.push_back({"scalar", ScalarHalfConversions()});
  return all;
}

}  // namespace azimuth::index
#endif  // HWY_ONCE
