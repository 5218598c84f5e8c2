// Between the .cc files of this folder: the scalar kernels, of rows of any element that
// ElementOf knows.
#pragma once

#include "base/check.h"
#include "index/distance/half_scalar.h"

#include <cstddef>
#include <cstdint>

namespace azimuth::index::scalar {

struct L2 {
  static float Term(float a, float b) { return (a - b) * (a - b); }
  static float Finish(float sum) { return sum; }
};

struct Ip {
  static float Term(float a, float b) { return a * b; }
  static float Finish(float sum) { return -sum; }
};

struct Cosine {
  static float Term(float a, float b) { return a * b; }
  static float Finish(float sum) { return 1.0f - sum; }
};

inline float ElementOf(float x) {
  return x;
}
inline float ElementOf(Half x) {
  return FloatOfHalf(x);
}
inline float ElementOf(uint8_t x) {
  return x;
}

template <typename Op, typename Element>
float Pair(const float* a, const Element* b, size_t dim) {
  float sums[4] = {0, 0, 0, 0};
  size_t i = 0;
  for (; i + 4 <= dim; i += 4) {
    for (size_t lane = 0; lane < 4; ++lane) {
      sums[lane] += Op::Term(a[i + lane], ElementOf(b[i + lane]));
    }
  }
  for (; i < dim; ++i) sums[i % 4] += Op::Term(a[i], ElementOf(b[i]));
  return Op::Finish((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename Op, typename Element>
void Gather(const float* query, const Element* base, size_t stride, size_t dim, const uint32_t* ids,
            size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Pair<Op>(query, base + ids[i] * stride, dim);
}

template <typename Op, typename Element>
void Run(const float* query, const Element* rows, size_t stride, size_t dim, size_t count,
         float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Pair<Op>(query, rows + i * stride, dim);
}

// Kernels is DistanceKernels, HalfKernels or ByteKernels.
template <typename Kernels, typename Element>
Kernels KernelsOf(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return {&Pair<L2, Element>, &Gather<L2, Element>, &Run<L2, Element>};
    case Metric::kIp:
      return {&Pair<Ip, Element>, &Gather<Ip, Element>, &Run<Ip, Element>};
    case Metric::kCosine:
      return {&Pair<Cosine, Element>, &Gather<Cosine, Element>, &Run<Cosine, Element>};
  }
  CheckFailed(__FILE__, __LINE__, "metric is one of Metric");
}

}  // namespace azimuth::index::scalar
