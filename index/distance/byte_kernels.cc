// The kernels of rows of bytes for every target of Google Highway, and the choice between them.
// Highway includes this file once per target, each time with another HWY_NAMESPACE.
#include "index/distance/byte_rows.h"
#include "index/distance/scalar_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/distance/byte_kernels.cc"
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

ByteKernels TargetByteKernels(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return KernelsOf<ByteKernels, L2, uint8_t>();
    case Metric::kIp:
      return KernelsOf<ByteKernels, Ip, uint8_t>();
    case Metric::kCosine:
      return KernelsOf<ByteKernels, Cosine, uint8_t>();
  }
  return ScalarByteKernelsFor(metric);
}

}  // namespace HWY_NAMESPACE
}  // namespace azimuth::index
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace azimuth::index {
namespace {

HWY_EXPORT(TargetByteKernels);

// `target` is one of hwy::SupportedAndGeneratedTargets().
ByteKernels KernelsOfTarget(int64_t target, Metric metric) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetByteKernels)(metric);
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetByteKernels)[chosen.GetIndex()](metric);
}

}  // namespace

ByteKernels ByteKernelsFor(Metric metric) {
  return HWY_DYNAMIC_DISPATCH(TargetByteKernels)(metric);
}

ByteKernels ScalarByteKernelsFor(Metric metric) {
  return scalar::KernelsOf<ByteKernels, uint8_t>(metric);
}

bool AreBytes(std::span<const float> vector) {
  constexpr float kMost = 255;
  return std::all_of(vector.begin(), vector.end(), [](float x) {
    return x >= 0 && x <= kMost && x == static_cast<float>(static_cast<uint8_t>(x)) &&
           !std::signbit(x);
  });
}

void ToBytes(std::span<const float> vector, uint8_t* out) {
  for (const float x : vector) *out++ = static_cast<uint8_t>(x);
}

std::vector<NamedByteKernels> AllByteKernelsFor(Metric metric) {
  std::vector<NamedByteKernels> all;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back({hwy::TargetName(target), KernelsOfTarget(target, metric)});
  }
  all.push_back({"scalar", ScalarByteKernelsFor(metric)});
  return all;
}

}  // namespace azimuth::index
#endif  // HWY_ONCE
