// The loops over a query of which its code is made, for the widest instructions of this CPU.
//
// The scalar functions are the definition; sums and roundings of others may differ in the last bit.
// Thread safety: pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace azimuth::index {

struct EncodeKernels {
  // out = a - b; the sum of the squares of `out`.
  float (*subtract)(const float* a, const float* b, size_t count, float* out) = nullptr;
  // out = a, the sum of its squares, and into `product` that of the products with b.
  float (*copy)(const float* a, const float* b, size_t count, float* out, float* product) = nullptr;
  // values *= scales (null: 1); the largest magnitude. What is not a number does not count.
  float (*scale)(const float* scales, size_t count, float* values) = nullptr;
  // code = values * factor to the nearest whole number; their sum. REQUIRES: the products are
  // within -127.5 to 127.5.
  int32_t (*round)(const float* values, float factor, size_t count, int8_t* code) = nullptr;
};

// The best of this CPU.
const EncodeKernels& BestEncodeKernels();
EncodeKernels ScalarEncodeKernels();

// For tests: all that this CPU runs, best first, scalar last, each with its name.
struct NamedEncodeKernels {
  std::string_view target;
  EncodeKernels kernels;
};
std::vector<NamedEncodeKernels> AllEncodeKernels();

}  // namespace azimuth::index
