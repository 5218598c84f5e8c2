// Rows of half floats (IEEE binary16): half the bytes of float32, and off by at most 2^-11 of each
// element that is within 2^-14 to 65504.
//
// The scalar functions are the definition. Conversions of every target give their bits, of NaNs
// too; distances are held to the bounds of distance.h, and non-finite input gives non-finite
// output. Nothing needs alignment or padding. Thread safety: pure functions.
#pragma once

#include "index/types.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace azimuth::index {

// The bits of a half float.
using Half = uint16_t;

// Of a float32 query and a row, as PairDistance and so on of distance.h are of two of float32.
using HalfPairDistance = float (*)(const float* query, const Half* row, size_t dim);
using HalfGatherDistance = void (*)(const float* query, const Half* base, size_t stride, size_t dim,
                                    const uint32_t* ids, size_t count, float* out);
using HalfRunDistance = void (*)(const float* query, const Half* rows, size_t stride, size_t dim,
                                 size_t count, float* out);

// The kernels of one metric on one target.
struct HalfKernels {
  HalfPairDistance pair = nullptr;
  HalfGatherDistance gather = nullptr;
  HalfRunDistance run = nullptr;
};

// The best target of this CPU. Costs a few ns: take it once per search.
HalfKernels HalfKernelsFor(Metric metric);
HalfKernels ScalarHalfKernelsFor(Metric metric);

// Rounds to the nearest half, ties to even: from 65520 on to infinity, below 2^-25 to 0. A NaN
// stays one, and becomes quiet.
void ToHalf(const float* from, size_t count, Half* to);
// Exact.
void ToFloat(const Half* from, size_t count, float* to);

struct HalfConversions {
  void (*to_half)(const float* from, size_t count, Half* to) = nullptr;
  void (*to_float)(const Half* from, size_t count, float* to) = nullptr;
};
HalfConversions ScalarHalfConversions();

// For tests: every target that this CPU runs, best first, scalar last, each with its name.
struct NamedHalfKernels {
  std::string_view target;
  HalfKernels kernels;
};
std::vector<NamedHalfKernels> AllHalfKernelsFor(Metric metric);

struct NamedHalfConversions {
  std::string_view target;
  HalfConversions conversions;
};
std::vector<NamedHalfConversions> AllHalfConversions();

}  // namespace azimuth::index
