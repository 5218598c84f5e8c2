// The scalar kernels, which are the definition of the others, and what needs no wide instructions.
#include "base/check.h"
#include "index/distance/distance.h"
#include "index/distance/scalar_kernels.h"

#include <bit>
#include <cmath>

namespace azimuth::index {
DistanceKernels ScalarKernelsFor(Metric metric) {
  return scalar::KernelsOf<DistanceKernels, float>(metric);
}

double SquaredNorm(std::span<const float> vector) {
  double sums[4] = {0, 0, 0, 0};
  for (size_t i = 0; i < vector.size(); ++i) {
    const auto x = static_cast<double>(vector[i]);
    sums[i % 4] += x * x;
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void NormalizeL2(std::span<float> vector) {
  const double norm = std::sqrt(SquaredNorm(vector));
  AZ_DCHECK(norm > 0 && std::isfinite(norm));
  for (float& x : vector) x = static_cast<float>(static_cast<double>(x) / norm);
}

bool AllFinite(std::span<const float> vector) {
  constexpr uint32_t kExponent = 0x7F800000u;
  bool finite = true;
  for (const float x : vector) finite &= (std::bit_cast<uint32_t>(x) & kExponent) != kExponent;
  return finite;
}

}  // namespace azimuth::index
