// Rows as codes, for tests: made by Quantizer::Encode, measured by the scalar kernels.
#pragma once

#include "index/aligned_bytes.h"
#include "index/codes/code_distance.h"
#include "index/codes/quantizer.h"
#include "index/distance/distance.h"
#include "tests/index/vectors.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index::testing {

struct CodeKind {
  CodeBits bits;
  CodeTransform transform;
};

inline constexpr Metric kMetrics[] = {Metric::kL2, Metric::kIp, Metric::kCosine};
inline constexpr CodeKind kCodeKinds[] = {
    {CodeBits::k8, CodeTransform::kPerDimension}, {CodeBits::k4, CodeTransform::kPerDimension},
    {CodeBits::k8, CodeTransform::kRotated},      {CodeBits::k4, CodeTransform::kRotated},
    {CodeBits::k8, CodeTransform::kProjected},    {CodeBits::k4, CodeTransform::kProjected}};

inline std::string NameOf(CodeKind kind) {
  const char* const transform = kind.transform == CodeTransform::kRotated     ? ", rotated"
                                : kind.transform == CodeTransform::kProjected ? ", projected"
                                                                              : "";
  return std::to_string(static_cast<int>(kind.bits)) + " bits" + transform;
}

// To find hundreds of components takes seconds, and shows no more than a hundred do.
inline bool TakesLong(CodeKind kind, size_t dim) {
  return kind.transform == CodeTransform::kProjected && dim > 200;
}

// Normal in each dimension, around `offset`; of unit length for cosine.
inline Vectors NormalVectors(size_t count, size_t dim, uint64_t seed, Metric metric = Metric::kL2,
                             float offset = 0) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Vectors vectors{dim, std::vector<float>(count * dim)};
  for (float& x : vectors.data) x = offset + normal(random);
  for (size_t i = 0; metric == Metric::kCosine && i < count; ++i) {
    NormalizeL2({vectors.data.data() + i * dim, dim});
  }
  return vectors;
}

// Of the norms of vectors.
inline double RootMeanSquare(const Vectors& vectors) {
  double squares = 0;
  for (const float x : vectors.data) squares += double{x} * x;
  return std::sqrt(squares / static_cast<double>(vectors.count()));
}

class CodedRows final {
 public:
  CodedRows(const Quantizer& quantizer, const Vectors& vectors)
      : quantizer_(quantizer),
        count_(vectors.count()),
        bytes_(count_ * quantizer.code_bytes()),
        factors_(count_) {
    EncodeScratch scratch;
    for (size_t i = 0; i < count_; ++i) {
      factors_[i] = quantizer.Encode(vectors.row(i), scratch, code(i));
    }
  }

  uint8_t* code(size_t i) {
    return reinterpret_cast<uint8_t*>(bytes_.data()) + i * quantizer_.code_bytes();
  }
  const std::vector<CodeFactors>& factors() const { return factors_; }
  std::span<const std::byte> bytes() const { return bytes_.span(); }

  std::vector<float> Distances(const float* query) const {
    EncodedQuery encoded;
    quantizer_.EncodeQuery(query, quantizer_.code_bytes(), encoded);
    const CodeRows rows{reinterpret_cast<const uint8_t*>(bytes_.span().data()),
                        quantizer_.code_bytes(), reinterpret_cast<const uint8_t*>(factors_.data()),
                        sizeof(CodeFactors)};
    std::vector<float> out(count_);
    ScalarCodeKernelsFor(quantizer_.bits()).run(encoded.view(), rows, 0, count_, out.data());
    return out;
  }

 private:
  const Quantizer& quantizer_;
  size_t count_;
  AlignedBytes bytes_;
  std::vector<CodeFactors> factors_;
};

}  // namespace azimuth::index::testing
