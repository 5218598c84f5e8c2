// GrowingSegment: the newest rows, in memory, scanned exactly; also a closed one that waits for its
// graph.
//
// Rows stand in blocks of 64. One thread (the commit leader) appends; a row is readable once size()
// counts it (release, paired with the acquire in size()). Blocks come as rows do, so that a small
// collection stays small.
#pragma once

#include "engine/schema.h"
#include "engine/segment/segment.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace azimuth::engine {

class GrowingSegment final : public Segment {
 public:
  // `schema` must outlive the segment. Its rows start at id `first` or later.
  GrowingSegment(const Schema& schema, RowId first, uint32_t capacity);

  uint32_t capacity() const { return capacity_; }
  bool full() const { return size() == capacity_; }
  // Adds a row. `vectors` has an entry for each vector field of the schema; an empty one is absent.
  // Cosine vectors are scaled to unit length here. REQUIRES: !full(), !closed(), the id ascends,
  // the leader calls.
  void Append(RowId row, storage::StoredRow value, std::span<const std::span<const float>> vectors);
  // No more rows: it answers for ids up to `end`.
  void Close(RowId end);
  bool closed() const { return closed_.load(std::memory_order_acquire); }

  SegmentState state() const override {
    return closed() ? SegmentState::kBuilding : SegmentState::kGrowing;
  }
  SegmentId id() const override { return SegmentId{}; }
  uint64_t file_bytes() const override { return 0; }
  uint64_t memory_bytes() const override { return memory_bytes_.load(std::memory_order_relaxed); }
  storage::RowRange rows() const override { return {first_, RowId{end_.load()}}; }
  uint32_t size() const override { return size_.load(std::memory_order_acquire); }
  RowId row_id(uint32_t position) const override { return At(position).row_id; }
  Seq insert_seq(uint32_t position) const override { return At(position).row.insert_seq; }
  KeyView key(uint32_t position) const override;
  void ReadScalars(const FilterField& field, uint32_t first, uint32_t count,
                   index::ScalarView* out) const override;
  void ExportScalars(std::span<const uint32_t> positions, uint32_t base,
                     ColumnSetWriter& out) const override;
  std::vector<const float*> ExportVectors(size_t vector_slot,
                                          std::span<const uint32_t> positions) const override;
  bool HasGraph(size_t) const override { return false; }
  uint32_t VectorCount(size_t vector_slot) const override;
  absl::StatusOr<uint64_t> Scan(size_t vector_slot, const float* query, uint32_t limit,
                                const index::Bitset* admitted, index::TopK& top,
                                const CancelToken& cancel) const override;
  absl::StatusOr<index::GraphSearchResult> Walk(size_t vector_slot, const float* query, size_t ef,
                                                uint64_t distances_max,
                                                const index::Bitset* admitted, index::TopK& top,
                                                index::GraphScratch& scratch,
                                                const CancelToken& cancel) const override;
  absl::Status Verify() const override { return absl::OkStatus(); }
  void MarkRetired(uint32_t position) override;
  uint64_t RetiredWord(size_t i) const override {
    return blocks_[i]->retired.load(std::memory_order_acquire);
  }

 private:
  static constexpr uint32_t kBlockRows = 64;
  struct Row {
    RowId row_id{};
    storage::StoredRow row;
  };
  struct VectorBlock {
    std::atomic<uint64_t> present{0};
    std::vector<float> values;  // kBlockRows x dim.
  };
  struct Block {
    std::array<Row, kBlockRows> rows;
    std::vector<VectorBlock> vectors;  // One for each vector field.
    std::atomic<uint64_t> retired{0};
  };

  const Row& At(uint32_t position) const {
    return blocks_[position / kBlockRows]->rows[position % kBlockRows];
  }
  std::unique_ptr<Block> NewBlock();

  const Schema& schema_;
  const RowId first_;
  const uint32_t capacity_;
  // One entry for each block that the capacity can need; entry i is set before size_ counts its
  // rows.
  std::vector<std::unique_ptr<Block>> blocks_;
  std::atomic<uint32_t> size_{0};
  std::atomic<uint64_t> end_;
  std::atomic<uint64_t> memory_bytes_{0};
  std::atomic<bool> closed_{false};
};

}  // namespace azimuth::engine
