// CodedVectors: a quantizer and the codes of many vectors in one position-independent block of
// bytes, read through a mapping without a parse step.
//
// Ownership: borrows `bytes`; the caller keeps them alive longer than any CodedVectors over them.
// Thread safety: immutable after Open. Byte table: docs/FORMATS.md, "Codes section".
#pragma once

#include "index/aligned_bytes.h"
#include "index/codes/quantizer.h"
#include "index/graph/hnsw_builder.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace azimuth::index {

// The bytes of the codes of `vectors`, dim floats each.
AlignedBytes EncodeVectors(const Quantizer& quantizer, std::span<const float* const> vectors,
                           const ParallelFor& parallel);

class CodedVectors final {
 public:
  // Has `count` bytes from `offset` on read before they are touched.
  using Load = std::function<absl::Status(uint64_t offset, uint64_t count)>;
  // Checks magic, version, the quantizer, and that all lengths fit: O(dim). `bytes` must be 64-byte
  // aligned. Errors: DataLoss (names what is wrong), FailedPrecondition (a version that is not read
  // here), those of `load`, which may be empty.
  static absl::StatusOr<CodedVectors> Open(Metric metric, size_t dim,
                                           std::span<const std::byte> bytes, const Load& load = {});

  uint32_t count() const { return count_; }
  const Quantizer& quantizer() const { return quantizer_; }
  const CodeRows& rows() const { return rows_; }
  CodeKernels kernels() const { return kernels_; }
  // For queries of this quantizer.
  void EncodeQuery(const float* query, EncodedQuery& out) const {
    quantizer_.EncodeQuery(query, rows_.stride, out);
  }

 private:
  explicit CodedVectors(Quantizer quantizer) : quantizer_(std::move(quantizer)) {}
  Quantizer quantizer_;
  uint32_t count_ = 0;
  CodeRows rows_;
  CodeKernels kernels_;
};

}  // namespace azimuth::index
