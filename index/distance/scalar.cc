// The scalar kernels, which are the definition of the others, and what needs no wide instructions.
#include "base/check.h"
#include "index/distance/distance.h"

#include <bit>
#include <cmath>

namespace azimuth::index {
namespace {

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

template <typename Op>
float Pair(const float* a, const float* b, size_t dim) {
  float sums[4] = {0, 0, 0, 0};
  size_t i = 0;
  for (; i + 4 <= dim; i += 4) {
    for (size_t lane = 0; lane < 4; ++lane) sums[lane] += Op::Term(a[i + lane], b[i + lane]);
  }
  for (; i < dim; ++i) sums[i % 4] += Op::Term(a[i], b[i]);
  return Op::Finish((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename Op>
void Gather(const float* query, const float* base, size_t stride, size_t dim, const uint32_t* ids,
            size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Pair<Op>(query, base + ids[i] * stride, dim);
}

template <typename Op>
void Run(const float* query, const float* rows, size_t stride, size_t dim, size_t count,
         float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Pair<Op>(query, rows + i * stride, dim);
}

template <typename Op>
constexpr DistanceKernels kKernels = {&Pair<Op>, &Gather<Op>, &Run<Op>};

}  // namespace

DistanceKernels ScalarKernelsFor(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return kKernels<L2>;
    case Metric::kIp:
      return kKernels<Ip>;
    case Metric::kCosine:
      return kKernels<Cosine>;
  }
  CheckFailed(__FILE__, __LINE__, "metric is one of Metric");
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
