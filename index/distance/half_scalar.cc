// The scalar functions, which are the definition of the others.
#include "index/distance/half_scalar.h"

#include "index/distance/scalar_kernels.h"

namespace azimuth::index {
namespace {

void ScalarToHalf(const float* from, size_t count, Half* to) {
  for (size_t i = 0; i < count; ++i) to[i] = HalfOfFloat(from[i]);
}

void ScalarToFloat(const Half* from, size_t count, float* to) {
  for (size_t i = 0; i < count; ++i) to[i] = FloatOfHalf(from[i]);
}

}  // namespace

HalfKernels ScalarHalfKernelsFor(Metric metric) {
  return scalar::KernelsOf<HalfKernels, Half>(metric);
}

HalfConversions ScalarHalfConversions() {
  return {&ScalarToHalf, &ScalarToFloat};
}

}  // namespace azimuth::index
