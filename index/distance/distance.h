// Distance kernels over float32 vectors, for the widest instructions that this CPU has.
//
// The scalar kernels are the definition; every other target is tested against them. Targets are
// chosen at run time (Google Highway), so that one binary runs on any x86-64.
// Vectors need no alignment and no padding. Sums are in float with several accumulators: the error
// is at most about dim x 2^-24 of the sum of magnitudes. Non-finite input gives non-finite output.
// Thread safety: pure functions.
#pragma once

#include "index/types.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace azimuth::index {

// Distance of two vectors of `dim` floats under one metric.
using PairDistance = float (*)(const float* a, const float* b, size_t dim);
// Distances of `query` to rows `ids[0..count)` of `base`, whose row i begins at base + i * stride
// floats; prefetches ahead. out[i] belongs to ids[i].
using GatherDistance = void (*)(const float* query, const float* base, size_t stride, size_t dim,
                                const uint32_t* ids, size_t count, float* out);
// The same for `count` rows that follow each other from `rows` on.
using RunDistance = void (*)(const float* query, const float* rows, size_t stride, size_t dim,
                             size_t count, float* out);

// The kernels of one metric on one target.
struct DistanceKernels {
  PairDistance pair = nullptr;
  GatherDistance gather = nullptr;
  RunDistance run = nullptr;
};

// The best target of this CPU. Costs a few ns: take it once per search.
DistanceKernels KernelsFor(Metric metric);
DistanceKernels ScalarKernelsFor(Metric metric);

// For tests: every target that this CPU runs, best first, scalar last, each with its name.
struct NamedKernels {
  std::string_view target;
  DistanceKernels kernels;
};
std::vector<NamedKernels> AllKernelsFor(Metric metric);

// Scales `vector` in place to Euclidean length 1 (computed in double). REQUIRES: the squared norm
// is finite and above 0.
void NormalizeL2(std::span<float> vector);

// Squared Euclidean norm in double; infinite or NaN if an element is.
double SquaredNorm(std::span<const float> vector);

// True if no element is NaN or infinite. Tests the exponent bits, so that it holds under any flags.
bool AllFinite(std::span<const float> vector);

}  // namespace azimuth::index
