// RowCode: a row as 7-bit numbers with a scale and an offset of its own, a quarter to a half of its
// bytes if it has 48 dimensions or more, and bounds of a distance that need nothing but the code: a
// scan reads codes, and rows themselves only where they may be among the nearest. No training: each
// row stands for itself.
//
// A row x is offset + scale * code + e, and |e| is kept, so by Cauchy and Schwarz the inner product
// of the decoded row and query is off by at most |q| |e_x| + |e_q| |x_decoded|. 7 bits and not 8:
// then sums of pairs of products fit 16 bits, which is what CPUs without VNNI multiply.
// Source: Aguerrebere et al., "Similarity search in the blink of an eye with compressed indices",
// VLDB 2023 (LVQ), whose codes have their own scale as well; the bounds are ours.
//
// The scalar functions are the definition; other targets (Google Highway) are tested against them.
// Thread safety: pure functions over what is passed in.
#pragma once

#include "index/types.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace azimuth::index {

// Codes have a multiple of so many bytes, the last ones 0.
inline constexpr size_t kRowCodeAlignment = 64;

constexpr size_t RowCodeBytes(size_t dim) {
  return (dim + kRowCodeAlignment - 1) / kRowCodeAlignment * kRowCodeAlignment;
}

// What belongs to the code of a row.
struct RowCode {
  float offset = 0;
  float scale = 0;
  float norm = 0;   // Of the row itself.
  float error = 0;  // At least the norm of the row less the decoded one; infinite: says nothing.
};

// A query as codes. Memory is reused from query to query.
struct QueryCode {
  std::vector<int8_t> code;  // RowCodeBytes(dim) of them, -127 to 127.
  int32_t sum = 0;           // Of the code.
  float scale = 0;
  float norm = 0;
  float error = 0;
  float slack = 0;  // Of rounding, as a share of the squares of the norms.
};

// Writes RowCodeBytes(row.size()) bytes to `code`. Rows whose range overflows, or with an element
// that is not finite (of a store that is damaged), get an infinite error. REQUIRES: row.size() is
// not 0.
RowCode EncodeRow(std::span<const float> row, uint8_t* code);
// With an element that is not finite no bound says anything.
void EncodeQuery(std::span<const float> query, QueryCode& out);

// Lower bounds of the distances that DistanceKernels of `metric` compute, for `count` rows that
// follow each other; NaN or minus infinity where nothing can be said. `bytes` is RowCodeBytes(dim).
void LowerBounds(Metric metric, const QueryCode& query, const uint8_t* codes, size_t bytes,
                 const RowCode* rows, size_t count, float* out);

// Sums of products of a query's code and those of `count` rows that follow each other.
using CodeDots = void (*)(const int8_t* query, const uint8_t* codes, size_t bytes, size_t count,
                          int32_t* out);

// For tests: every target that this CPU runs, best first, scalar last, each with its name.
struct NamedCodeKernels {
  std::string_view target;
  CodeDots dots;
  RowCode (*encode)(std::span<const float> row, uint8_t* code);
};
std::vector<NamedCodeKernels> AllCodeKernels();

}  // namespace azimuth::index
