// NodeDistances: what measures the nodes of a graph against one query: their vectors, or codes of
// them.
//
// Ownership: all of them borrow what they measure and the query. Thread safety: const.
#pragma once

#include "index/codes/code_distance.h"
#include "index/distance/byte_rows.h"
#include "index/distance/distance.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace azimuth::index {

class NodeDistances {
 public:
  virtual ~NodeDistances() = default;
  // out[i] is the distance of nodes[i], all of them below node_count; may be NaN.
  virtual void Compute(const uint32_t* nodes, size_t count, float* out) const = 0;
};

// The vectors of a graph in node order: row i begins at base + i * stride floats.
struct NodeVectors {
  const float* base = nullptr;
  size_t stride = 0;
  size_t dim = 0;
};

class VectorDistances final : public NodeDistances {
 public:
  VectorDistances(const NodeVectors& vectors, const DistanceKernels& kernels, const float* query)
      : vectors_(vectors), kernels_(kernels), query_(query) {}
  void Compute(const uint32_t* nodes, size_t count, float* out) const override {
    kernels_.gather(query_, vectors_.base, vectors_.stride, vectors_.dim, nodes, count, out);
  }

 private:
  NodeVectors vectors_;
  DistanceKernels kernels_;
  const float* query_;
};

// Vectors that are rows of bytes, one after the other.
class ByteDistances final : public NodeDistances {
 public:
  ByteDistances(const uint8_t* base, size_t dim, const ByteKernels& kernels, const float* query)
      : base_(base), dim_(dim), kernels_(kernels), query_(query) {}
  void Compute(const uint32_t* nodes, size_t count, float* out) const override {
    kernels_.gather(query_, base_, dim_, dim_, nodes, count, out);
  }

 private:
  const uint8_t* base_;
  size_t dim_;
  ByteKernels kernels_;
  const float* query_;
};

// Vectors that stand anywhere.
class ScatteredDistances final : public NodeDistances {
 public:
  ScatteredDistances(std::span<const float* const> vectors, size_t dim,
                     const DistanceKernels& kernels, const float* query)
      : vectors_(vectors), dim_(dim), kernels_(kernels), query_(query) {}
  void Compute(const uint32_t* nodes, size_t count, float* out) const override {
    for (size_t i = 0; i < count; ++i) out[i] = kernels_.pair(query_, vectors_[nodes[i]], dim_);
  }

 private:
  std::span<const float* const> vectors_;
  size_t dim_;
  DistanceKernels kernels_;
  const float* query_;
};

class CodeDistances final : public NodeDistances {
 public:
  CodeDistances(const CodeRows& rows, const CodeKernels& kernels, const CodeQuery& query)
      : rows_(rows), kernels_(kernels), query_(query) {}
  void Compute(const uint32_t* nodes, size_t count, float* out) const override {
    kernels_.gather(query_, rows_, nodes, count, out);
  }

 private:
  CodeRows rows_;
  CodeKernels kernels_;
  CodeQuery query_;
};

}  // namespace azimuth::index
