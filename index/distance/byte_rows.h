// Rows of bytes: vectors of whole numbers from 0 to 255, as pixels and many descriptors are, in a
// quarter of the memory.
//
// Distances have the bits of those of distance.h on the same target: the same sums of the same
// floats in the same order. Nothing needs alignment or padding. Thread safety: pure functions.
#pragma once

#include "index/types.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace azimuth::index {

// Of a float32 query and a row, as PairDistance and so on of distance.h are of two of float32.
using BytePairDistance = float (*)(const float* query, const uint8_t* row, size_t dim);
using ByteGatherDistance = void (*)(const float* query, const uint8_t* base, size_t stride,
                                    size_t dim, const uint32_t* ids, size_t count, float* out);
using ByteRunDistance = void (*)(const float* query, const uint8_t* rows, size_t stride, size_t dim,
                                 size_t count, float* out);

// The kernels of one metric on one target.
struct ByteKernels {
  BytePairDistance pair = nullptr;
  ByteGatherDistance gather = nullptr;
  ByteRunDistance run = nullptr;
};

// The best target of this CPU. Costs a few ns: take it once per search.
ByteKernels ByteKernelsFor(Metric metric);
ByteKernels ScalarByteKernelsFor(Metric metric);

// Whether all elements are whole numbers from 0 to 255 (and not -0).
bool AreBytes(std::span<const float> vector);
// REQUIRES: AreBytes.
void ToBytes(std::span<const float> vector, uint8_t* out);

// For tests: every target that this CPU runs, best first, scalar last, each with its name.
struct NamedByteKernels {
  std::string_view target;
  ByteKernels kernels;
};
std::vector<NamedByteKernels> AllByteKernelsFor(Metric metric);

}  // namespace azimuth::index
