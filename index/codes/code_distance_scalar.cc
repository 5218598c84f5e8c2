// The scalar functions, which are the definition of the others.
#include "base/check.h"
#include "index/codes/code_distance.h"

#include <cstring>

namespace azimuth::index {
namespace {

int32_t Dot8(const int8_t* query, const uint8_t* code, size_t bytes) {
  int32_t sum = 0;
  for (size_t i = 0; i < bytes; ++i) sum += int32_t{query[i]} * int32_t{code[i]};
  return sum;
}

int32_t Dot4(const int8_t* query, const uint8_t* code, size_t bytes) {
  int32_t sum = 0;
  for (size_t block = 0; block < bytes; block += kCodeAlignment) {
    const int8_t* part = query + 2 * block;
    for (size_t i = 0; i < kCodeAlignment; ++i) {
      const int32_t byte = code[block + i];
      sum += int32_t{part[i]} * (byte & 0x0F) + int32_t{part[kCodeAlignment + i]} * (byte >> 4);
    }
  }
  return sum;
}

template <CodeBits kBits>
float Distance(const CodeQuery& query, const CodeRows& rows, size_t row) {
  const uint8_t* code = rows.codes + row * rows.stride;
  const int32_t dot = kBits == CodeBits::k8 ? Dot8(query.code, code, rows.stride)
                                            : Dot4(query.code, code, rows.stride);
  CodeFactors factors;
  std::memcpy(&factors, rows.factors + row * rows.factors_stride, sizeof(factors));
  const float decoded = query.mul * static_cast<float>(dot) + query.off;
  return (query.add + factors.add) + factors.mul * decoded;
}

template <CodeBits kBits>
void Gather(const CodeQuery& query, const CodeRows& rows, const uint32_t* ids, size_t count,
            float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Distance<kBits>(query, rows, ids[i]);
}

template <CodeBits kBits>
void Run(const CodeQuery& query, const CodeRows& rows, size_t first, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Distance<kBits>(query, rows, first + i);
}

template <CodeBits kBits>
void Tile(const CodeQuery* queries, size_t query_count, const CodeRows& rows, size_t first,
          size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    for (size_t q = 0; q < query_count; ++q) {
      out[q * count + i] = Distance<kBits>(queries[q], rows, first + i);
    }
  }
}

template <CodeBits kBits>
constexpr CodeKernels kKernels = {&Gather<kBits>, &Run<kBits>, &Tile<kBits>};

}  // namespace

CodeKernels ScalarCodeKernelsFor(CodeBits bits) {
  switch (bits) {
    case CodeBits::k4:
      return kKernels<CodeBits::k4>;
    case CodeBits::k8:
      return kKernels<CodeBits::k8>;
  }
  CheckFailed(__FILE__, __LINE__, "bits is one of CodeBits");
}

}  // namespace azimuth::index
