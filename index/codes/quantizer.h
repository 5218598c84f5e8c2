// Quantizer: what a row and a query become as codes of 8 or 4 bits (code_distance.h).
//
// A row is taken relative to a center, which is trained, and coded in one of three ways:
// - per dimension: each dimension has a range of its own, trained; nothing belongs to a row but its
//   norm;
// - rotated: a random rotation spreads what a row is evenly over all dimensions, whose ranges are
//   alike then, and each row has a scale of its own;
// - projected: the same in the fewer dimensions that rows vary most in (projection.h). What is left
//   out of a row and of a query is taken as orthogonal to each other; norms are of all dimensions.
// Only rows are coarse: a query has 8 bits in any case, and products are exact integers. A row's
// `mul` is such that the product of the row (what is mapped of it) and its own code is exact, which
// makes the estimate of products with a query unbiased.
//
// Sources: scalar quantization with asymmetric distances as in Faiss; rotation and the unbiased
// factor: Gao and Long, "RaBitQ", SIGMOD 2024, and Gao et al., "Practical and asymptotically
// optimal quantization of high-dimensional vectors", SIGMOD 2025.
// Thread safety: immutable after Train or Open; Encode from any number of threads.
#pragma once

#include "index/codes/code_distance.h"
#include "index/codes/projection.h"
#include "index/codes/rotation.h"
#include "index/types.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace azimuth::index {

enum class CodeTransform : uint8_t { kPerDimension = 1, kRotated = 2, kProjected = 3 };  // On disk.

struct QuantizerOptions {
  CodeBits bits = CodeBits::k8;
  CodeTransform transform = CodeTransform::kPerDimension;
  uint64_t seed = 1;
  // Projected only: to so many dimensions (0 or more than there are: to all of them), of these
  // components if they are known already, which are borrowed during Train.
  size_t components = 0;
  const PrincipalComponents* known = nullptr;
};

// Memory of Encode, to reuse.
struct EncodeScratch {
  std::vector<float> values;
  std::vector<int8_t> bytes;
};

// A query of one quantizer. Memory is reused from query to query.
class EncodedQuery final {
 public:
  CodeQuery view() const { return {code_, add_, mul_, off_}; }
  // Of the query relative to the center (l2), or of the query: what errors of estimates are
  // proportional to.
  float norm() const { return norm_; }
  size_t memory_bytes() const {
    return bytes_.capacity() + mapped_.capacity() + values_.capacity() * sizeof(float);
  }

 private:
  friend class Quantizer;
  std::vector<int8_t> bytes_;
  std::vector<int8_t> mapped_;  // Of Projection::Apply.
  std::vector<float> values_;
  const int8_t* code_ = nullptr;  // Into bytes_, aligned.
  float add_ = 0;
  float mul_ = 0;
  float off_ = 0;
  float norm_ = 0;
};

class Quantizer final {
 public:
  // Of a sample of rows, `dim` floats each (of unit length for cosine), borrowed during the call.
  // REQUIRES: `sample` is not empty. Rows with an element that is not finite are left out, and so
  // are few that are 100 times as long as others.
  static Quantizer Train(Metric metric, size_t dim, std::span<const float* const> sample,
                         const QuantizerOptions& options);
  // Those that Train would find for `count` dimensions: QuantizerOptions::known.
  static PrincipalComponents Components(size_t dim, std::span<const float* const> sample,
                                        size_t count, uint64_t seed);
  // From the bytes of Save. Errors: DataLoss, which names what is wrong.
  static absl::StatusOr<Quantizer> Open(Metric metric, size_t dim,
                                        std::span<const std::byte> bytes);
  std::string Save() const;

  CodeBits bits() const { return bits_; }
  CodeTransform transform() const { return transform_; }
  // Dimensions that have a code.
  size_t code_dim() const {
    return transform_ == CodeTransform::kProjected ? projection_.count() : dim_;
  }
  size_t code_bytes() const { return CodeBytes(bits_, code_dim()); }
  // Those of code_bytes() that hold anything; the others, at the end, are free.
  size_t used_bytes() const;

  // The mean share of the squares of rows, or of what is mapped of them, that codes lose.
  double Loss(std::span<const float* const> sample) const;
  // Writes code_bytes() bytes to `code`. A row with an element that is not finite, or whose square
  // overflows, gets factors that are not a number, and is never near.
  CodeFactors Encode(const float* row, EncodeScratch& scratch, uint8_t* code) const;
  // For rows of `stride` bytes; the query is borrowed during the call, finite. If its square
  // overflows, its distances are not a number.
  void EncodeQuery(const float* query, size_t stride, EncodedQuery& out) const;

 private:
  Quantizer(Metric metric, size_t dim, const QuantizerOptions& options)
      : metric_(metric),
        dim_(dim),
        bits_(options.bits),
        transform_(options.transform),
        seed_(options.seed) {}
  struct Levels;
  void Quantize(const float* row, EncodeScratch& scratch, Levels& out) const;
  float levels() const { return bits_ == CodeBits::k8 ? kCode8Max : kCode4Max; }

  Metric metric_;
  size_t dim_;
  CodeBits bits_;
  CodeTransform transform_;
  uint64_t seed_;
  std::vector<float> center_;  // dim.
  std::vector<float> scale_;   // Per dimension: dim; rotated: empty.
  Rotation rotation_;          // Rotated: of the seed.
  Projection projection_;      // Projected.
};

}  // namespace azimuth::index
