// The kernels for every target of Google Highway, which includes this file once per target, each
// time with another HWY_NAMESPACE.
#include "index/codes/encode_kernels.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/codes/encode_kernels.cc"
#include "hwy/foreach_target.h"  // Before highway.h.
// clang-format off
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace azimuth::index {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

float Subtract(const float* a, const float* b, size_t count, float* out) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto squares = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto difference = hn::Sub(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    hn::StoreU(difference, d, out + i);
    squares = hn::MulAdd(difference, difference, squares);
  }
  float square = hn::GetLane(hn::SumOfLanes(d, squares));
  for (; i < count; ++i) {
    out[i] = a[i] - b[i];
    square += out[i] * out[i];
  }
  return square;
}

float Copy(const float* a, const float* b, size_t count, float* out, float* product) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto squares = hn::Zero(d);
  auto products = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto value = hn::LoadU(d, a + i);
    hn::StoreU(value, d, out + i);
    squares = hn::MulAdd(value, value, squares);
    products = hn::MulAdd(value, hn::LoadU(d, b + i), products);
  }
  float square = hn::GetLane(hn::SumOfLanes(d, squares));
  float sum = hn::GetLane(hn::SumOfLanes(d, products));
  for (; i < count; ++i) {
    out[i] = a[i];
    square += a[i] * a[i];
    sum += a[i] * b[i];
  }
  *product = sum;
  return square;
}

float Scale(const float* scales, size_t count, float* values) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    auto value = hn::LoadU(d, values + i);
    if (scales != nullptr) {
      value = hn::Mul(value, hn::LoadU(d, scales + i));
      hn::StoreU(value, d, values + i);
    }
    largest = hn::Max(hn::Abs(value), largest);
  }
  float most = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < count; ++i) {
    if (scales != nullptr) values[i] *= scales[i];
    most = std::max(most, std::abs(values[i]));
  }
  return most;
}

int32_t Round(const float* values, float factor, size_t count, int8_t* code) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> d32;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const size_t lanes = hn::Lanes(d);
  const auto factors = hn::Set(d, factor);
  auto sums = hn::Zero(d32);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, values + i), factors));
    sums = hn::Add(sums, whole);
    hn::StoreU(hn::DemoteTo(d8, whole), d8, code + i);
  }
  int32_t sum = hn::GetLane(hn::SumOfLanes(d32, sums));
  for (; i < count; ++i) {
    const auto whole = static_cast<int32_t>(std::nearbyint(values[i] * factor));
    code[i] = static_cast<int8_t>(whole);
    sum += whole;
  }
  return sum;
}

EncodeKernels TargetEncodeKernels() {
  return {&Subtract, &Copy, &Scale, &Round};
}

}  // namespace HWY_NAMESPACE
}  // namespace azimuth::index
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace azimuth::index {
namespace {

HWY_EXPORT(TargetEncodeKernels);

// `target` is one of hwy::SupportedAndGeneratedTargets().
EncodeKernels KernelsOfTarget(int64_t target) {
  if constexpr ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0)
    return HWY_STATIC_DISPATCH(TargetEncodeKernels)();
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return HWY_DISPATCH_TABLE(TargetEncodeKernels)[chosen.GetIndex()]();
}

float ScalarSubtract(const float* a, const float* b, size_t count, float* out) {
  float square = 0;
  for (size_t i = 0; i < count; ++i) {
    out[i] = a[i] - b[i];
    square += out[i] * out[i];
  }
  return square;
}

float ScalarCopy(const float* a, const float* b, size_t count, float* out, float* product) {
  float square = 0;
  float sum = 0;
  for (size_t i = 0; i < count; ++i) {
    out[i] = a[i];
    square += a[i] * a[i];
    sum += a[i] * b[i];
  }
  *product = sum;
  return square;
}

float ScalarScale(const float* scales, size_t count, float* values) {
  float most = 0;
  for (size_t i = 0; i < count; ++i) {
    if (scales != nullptr) values[i] *= scales[i];
    most = std::max(most, std::abs(values[i]));
  }
  return most;
}

int32_t ScalarRound(const float* values, float factor, size_t count, int8_t* code) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto whole = static_cast<int32_t>(std::nearbyint(values[i] * factor));
    code[i] = static_cast<int8_t>(whole);
    sum += whole;
  }
  return sum;
}

}  // namespace

const EncodeKernels& BestEncodeKernels() {
  static const EncodeKernels kBest = HWY_DYNAMIC_DISPATCH(TargetEncodeKernels)();
  return kBest;
}

EncodeKernels ScalarEncodeKernels() {
  return {&ScalarSubtract, &ScalarCopy, &ScalarScale, &ScalarRound};
}

std::vector<NamedEncodeKernels> AllEncodeKernels() {
  std::vector<NamedEncodeKernels> all;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    all.push_back({hwy::TargetName(target), KernelsOfTarget(target)});
  }
  all.push_back({"scalar", ScalarEncodeKernels()});
  return all;
}

}  // namespace azimuth::index
#endif  // HWY_ONCE
