// FrozenGraph: a finished HNSW graph in one position-independent block of bytes, searched without
// locks and read through a mapping without a parse step.
//
// Ownership: borrows `bytes`; the caller keeps them alive longer than any FrozenGraph over them.
// Thread safety: immutable after Open; any number of concurrent readers.
// Invariants: (1) every neighbour id < node_count(); (2) unused slots repeat the node itself.
// Byte table: docs/FORMATS.md, "Graph section".
// Source: Malkov and Yashunin 2018; differs in fixed degree and in the order of nodes, which is
// breadth first from the entry point, so that nodes that are visited together lie together.
#pragma once

#include "index/graph/hnsw_builder.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace azimuth::index {

// A breadth-first order over level 0 from the entry node; nodes that it does not reach come last,
// ascending. order[new_node] = old node.
std::vector<uint32_t> BreadthFirstOrder(const BuiltGraph& graph);

// The bytes of `graph` with its nodes renumbered by `order` (a permutation, as above).
std::string FreezeGraph(const BuiltGraph& graph, std::span<const uint32_t> order);

class FrozenGraph final {
 public:
  FrozenGraph() = default;  // Without nodes.

  // Has `count` bytes from `offset` on read before they are touched.
  using Load = std::function<absl::Status(uint64_t offset, uint64_t count)>;
  // Checks magic, version, and that all lengths fit, in O(1). `bytes` must be 64-byte aligned.
  // Errors: DataLoss (names what is wrong), FailedPrecondition (a version that is not read here),
  // those of `load`, which may be empty.
  static absl::StatusOr<FrozenGraph> Open(std::span<const std::byte> bytes, const Load& load = {});

  // Checks invariant 1 and the upper levels in O(bytes). DataLoss names the node.
  absl::Status Verify() const;

  uint32_t node_count() const { return node_count_; }
  uint32_t m() const { return m_; }
  uint32_t entry_node() const { return entry_node_; }
  uint32_t max_level() const { return max_level_; }
  uint32_t degree0() const { return 2 * m_; }

  // The 2m slots of `node` on level 0. REQUIRES: node < node_count(). Ids in the result are as the
  // bytes say: a search over unverified bytes checks them against node_count().
  std::span<const uint32_t> Level0(uint32_t node) const {
    return {level0_ + static_cast<size_t>(node) * degree0(), degree0()};
  }
  // The m slots of `node` on `level` >= 1; empty if the node is not on that level.
  std::span<const uint32_t> Upper(uint32_t node, uint32_t level) const;

 private:
  uint32_t node_count_ = 0;
  uint32_t m_ = 0;
  uint32_t entry_node_ = 0;
  uint32_t max_level_ = 0;
  uint32_t upper_count_ = 0;
  const uint32_t* level0_ = nullptr;
  const uint32_t* upper_nodes_ = nullptr;  // upper_count_, ascending.
  const uint32_t* upper_first_ = nullptr;  // upper_count_ + 1, into upper_lists_, in lists.
  const uint32_t* upper_lists_ = nullptr;
};

}  // namespace azimuth::index
