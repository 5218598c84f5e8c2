// Distances of a query to rows that stand as codes of 8 or 4 bits, for the widest instructions of
// this CPU: sums of products of bytes, and no float but one multiply-add for each row.
//
// A row v (relative to a center) is mul_v * (code - z) up to what is lost, so under every metric
//   distance = query.add + row.add + row.mul * (query.mul * dot + query.off)
// with dot the integer sum of the products of the query's code and the row's, which is exact. Then
// dot and every product and sum are rounded to float, none of them fused, in the order
//   (query.add + row.add) + row.mul * (query.mul * dot + query.off)
// so that every function of every target gives the same bits (but of NaNs). What the numbers are is
// the business of the quantizer (quantizer.h).
//
// Codes of a row: 8 bits: byte i is dimension i, 0 to 127 (with 7 bits sums of pairs of products
// fit 16 bits, which is what CPUs without VNNI multiply). 4 bits: of each 64 bytes, byte i has
// dimension 128 b + i in its low and 128 b + 64 + i in its high half.
// What of `stride` is not code (padding, or the factors) may hold anything: the query is 0 there.
//
// Codes above kCode8Max (of a store that is damaged) give any distance.
//
// The scalar functions are the definition; others are tested against them. Thread safety: pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace azimuth::index {

// The number is on disk and is the bits of a dimension.
enum class CodeBits : uint8_t { k4 = 4, k8 = 8 };

inline constexpr size_t kCodeAlignment = 64;
inline constexpr uint8_t kCode8Max = 127;
inline constexpr uint8_t kCode4Max = 15;

// Bytes of the code of a row of `dim` dimensions, a multiple of 64.
constexpr size_t CodeBytes(CodeBits bits, size_t dim) {
  const size_t bytes = bits == CodeBits::k8 ? dim : (dim + 1) / 2;
  return (bytes + kCodeAlignment - 1) / kCodeAlignment * kCodeAlignment;
}

struct CodeFactors {
  float add = 0;
  float mul = 0;
};

// Rows in memory, borrowed. Row i: `stride` bytes of code from codes + i * stride on, which is
// 64-byte aligned, and CodeFactors at factors + i * factors_stride, 4-byte aligned.
struct CodeRows {
  const uint8_t* codes = nullptr;
  size_t stride = 0;  // A multiple of 64.
  const uint8_t* factors = nullptr;
  size_t factors_stride = 0;
};

// A query as a code, borrowed: -127 to 127 each, `stride` of them for 8 bits and 2 * stride for 4,
// in the order of dimensions, 64-byte aligned, 0 where a row has no code.
struct CodeQuery {
  const int8_t* code = nullptr;
  float add = 0;
  float mul = 0;
  float off = 0;
};

// Distances to rows ids[0..count); prefetches ahead. out[i] belongs to ids[i].
using CodeGather = void (*)(const CodeQuery& query, const CodeRows& rows, const uint32_t* ids,
                            size_t count, float* out);
// The same for rows first, first + 1, ... first + count - 1.
using CodeRun = void (*)(const CodeQuery& query, const CodeRows& rows, size_t first, size_t count,
                         float* out);
// Of several queries at once: out[q * count + i]. Each row is read once for all of them.
using CodeTile = void (*)(const CodeQuery* queries, size_t query_count, const CodeRows& rows,
                          size_t first, size_t count, float* out);

struct CodeKernels {
  CodeGather gather = nullptr;
  CodeRun run = nullptr;
  CodeTile tile = nullptr;
};

// The best of this CPU. Costs a few ns: take it once per search.
CodeKernels CodeKernelsFor(CodeBits bits);
CodeKernels ScalarCodeKernelsFor(CodeBits bits);

// For tests: all that this CPU runs, best first, scalar last, each with its name.
struct NamedCodeDistanceKernels {
  std::string_view target;
  CodeKernels kernels;
};
std::vector<NamedCodeDistanceKernels> AllCodeKernelsFor(CodeBits bits);

}  // namespace azimuth::index
