// Between the files of half.h: one number at a time.
#pragma once

#include "index/distance/half.h"

#include <bit>

namespace azimuth::index {

inline constexpr uint32_t kFloatInfinity = 0x7F800000;
inline constexpr uint32_t kFloatQuiet = 0x00400000;

inline float FloatOfHalf(Half half) {
  // As the exponent of a float it is 112 too small, which a product mends, of denormals too.
  const uint32_t bits = uint32_t{half & 0x7FFFU} << 13;
  uint32_t result = std::bit_cast<uint32_t>(std::bit_cast<float>(bits) * 0x1p112F);
  constexpr uint32_t kHalfInfinity = 0x7C00U << 13;
  if (bits >= kHalfInfinity) result |= kFloatInfinity;
  if (bits > kHalfInfinity) result |= kFloatQuiet;
  return std::bit_cast<float>(result | uint32_t{half & 0x8000U} << 16);
}

inline Half HalfOfFloat(float number) {
  constexpr uint32_t kOverflow = 0x477FF000;     // 65520, halfway from the greatest half on.
  constexpr uint32_t kLeastNormal = 0x38800000;  // 2^-14.
  constexpr float kDenormals = 0.5F;             // Its last bit is the least denormal half.
  const auto bits = std::bit_cast<uint32_t>(number);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const uint32_t sign = bits >> 16 & 0x8000;
  uint32_t half = 0x7C00;
  if (magnitude > kFloatInfinity) {
    half = 0x7E00 | (magnitude >> 13 & 0x3FF);
  } else if (magnitude < kLeastNormal) {
    const float sum = std::bit_cast<float>(magnitude) + kDenormals;
    half = std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(kDenormals);
  } else if (magnitude < kOverflow) {
    // A carry out of the fraction goes where it belongs: into the exponent.
    half = (magnitude + 0xFFF + (magnitude >> 13 & 1) - (112U << 23)) >> 13;
  }
  return static_cast<Half>(sign | half);
}

}  // namespace azimuth::index
