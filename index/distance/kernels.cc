// The kernels of every target of Google Highway, and the choice between them. Highway includes this
// file once per target, each time with another HWY_NAMESPACE.
#include "index/distance/distance.h"

#include <algorithm>
#include <cstring>

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

#include "index/distance/kernels-inl.h"

DistanceKernels TargetKernels(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return KernelsOf<DistanceKernels, L2, float>();
    case Metric::kIp:
      return KernelsOf<DistanceKernels, Ip, float>();
    case Metric::kCosine:
      return KernelsOf<DistanceKernels, Cosine, float>();
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
