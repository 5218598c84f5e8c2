// GrowingSegment: the newest rows, in memory, scanned exactly; also a closed one that waits for its
// graph. A scan reads codes of a quarter to a half of the bytes first, and those rows that they
// leave.
//
// Rows stand in chunks that never move: of 16 rows for the first 256, then of 64. Chunks come as
// rows do, so that a small collection stays small. One thread (the commit leader) appends; a row is
// readable once size() counts it (release, paired with the acquire in size()), and readers touch
// only chunks with rows that they have seen counted.
#pragma once

#include "engine/memory_budget.h"
#include "engine/schema.h"
#include "engine/segment/segment.h"
#include "index/distance/row_code.h"
#include "index/flat/code_filter.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace azimuth::engine {

// About what a row takes beside itself: the memory of its key, fields and dynamic fields.
uint64_t RowHeapBytes(const storage::StoredRow& row);

class GrowingSegment final : public Segment {
 public:
  // Whether rows get codes, for scans; a segment that a file is written out of needs none.
  enum class Codes : uint8_t { kMade, kNone };
  // `schema` must outlive the segment. Its rows start at id `first` or later. `budget` (may be
  // null) counts its bytes as MemoryPart::kGrowing while it lives.
  GrowingSegment(const Schema& schema, RowId first, uint32_t capacity,
                 MemoryBudget* budget = nullptr, Codes codes = Codes::kMade);
  ~GrowingSegment() override;

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
  Seq insert_seq(uint32_t position) const override { return At(position).insert_seq; }
  KeyView key(uint32_t position) const override;
  int64_t expires_at_unix_us(uint32_t position) const override {
    return At(position).expires_at_unix_us;
  }
  int64_t earliest_expiry() const override {
    return earliest_expiry_.load(std::memory_order_relaxed);
  }
  void ReadScalars(const FilterField& field, uint32_t first, uint32_t count,
                   index::ScalarView* out) const override;
  void ExportScalars(std::span<const uint32_t> positions, uint32_t base,
                     ColumnSetWriter& out) const override;
  std::vector<const float*> ExportVectors(size_t vector_slot,
                                          std::span<const uint32_t> positions) const override;
  bool HasGraph(size_t) const override { return false; }
  SegmentGraph Graph(size_t) const override { return {}; }
  uint32_t VectorCount(size_t vector_slot) const override;
  absl::StatusOr<uint64_t> Scan(size_t vector_slot, const float* query, uint32_t limit,
                                const index::Bitset* admitted, index::TopK& top,
                                const CancelToken& cancel) const override;
  WalkEffort EffortFor(size_t, double, uint32_t limit) const override { return {.ef = limit}; }
  absl::StatusOr<index::GraphSearchResult> Walk(size_t vector_slot, const float* query,
                                                const WalkEffort& effort, uint64_t distances_max,
                                                const index::Bitset* admitted, index::TopK& top,
                                                index::GraphScratch& scratch,
                                                const CancelToken& cancel) const override;
  absl::Status Verify(const CancelToken& /*cancel*/) const override { return absl::OkStatus(); }
  void MarkRetired(uint32_t position) override;
  uint64_t RetiredWord(size_t i) const override;

 private:
  static constexpr uint32_t kChunkRows = 64;  // One word of bits.
  static constexpr uint32_t kSmallChunkRows = 16;
  static constexpr uint32_t kSmallChunks = 16;
  static constexpr uint32_t kSmallRows = kSmallChunkRows * kSmallChunks;

  // A storage::StoredRow in less room.
  struct Row {
    RowId row_id{};
    Seq insert_seq{};
    int64_t expires_at_unix_us = 0;
    Key key{};
    std::vector<std::pair<FieldId, Value>> fields{};
    std::unique_ptr<const ValueMap> dynamic;  // Null if there is nothing in it.
  };
  struct VectorChunk {
    std::atomic<uint64_t> present{0};  // Bit of each row of the chunk.
    std::vector<float> values;         // Rows x dim; comes with the first vector.
    // Of each row, for the first stage of a scan, if HasCodes.
    std::vector<uint8_t> codes;
    std::vector<index::RowCode> code_rows;
  };
  struct Chunk {
    std::vector<Row> rows;
    std::vector<VectorChunk> vectors;  // One for each vector field.
    std::atomic<uint64_t> retired{0};  // Bit of each row of the chunk.
  };

  static size_t ChunkOf(uint32_t position) {
    return position < kSmallRows ? position / kSmallChunkRows
                                 : kSmallChunks + (position - kSmallRows) / kChunkRows;
  }
  static uint32_t FirstOf(size_t chunk) {
    const auto index = static_cast<uint32_t>(chunk);
    return chunk < kSmallChunks ? index * kSmallChunkRows
                                : kSmallRows + (index - kSmallChunks) * kChunkRows;
  }
  static uint32_t InChunk(uint32_t position) {
    return position % (position < kSmallRows ? kSmallChunkRows : kChunkRows);
  }
  const Chunk& ChunkAt(size_t chunk) const {
    return chunk < kSmallChunks ? *small_[chunk] : *large_[chunk - kSmallChunks];
  }
  Chunk& ChunkAt(size_t chunk) {
    return chunk < kSmallChunks ? *small_[chunk] : *large_[chunk - kSmallChunks];
  }
  const Row& At(uint32_t position) const {
    return ChunkAt(ChunkOf(position)).rows[InChunk(position)];
  }
  bool HasCodes(size_t vector_slot) const {
    return codes_ == Codes::kMade && index::CodeFilter::Saves(schema_.vectors[vector_slot].dim);
  }
  static uint64_t HeapBytes(const Row& row);
  // Makes the chunk that starts at `position`; returns its bytes.
  uint64_t AddChunk(uint32_t position);
  uint64_t SetVector(Chunk& chunk, size_t slot, uint32_t in_chunk, std::span<const float> vector);
  void CountBytes(uint64_t bytes);

  static_assert(kSmallRows % kChunkRows == 0 && kChunkRows % kSmallChunkRows == 0,
                "no chunk stands in two words of bits");

  const Schema& schema_;
  const RowId first_;
  const uint32_t capacity_;
  MemoryBudget* const budget_;
  const Codes codes_;
  // Entries are set before size_ counts their rows; large_ gets its full length with the first.
  std::array<std::unique_ptr<Chunk>, kSmallChunks> small_;
  std::vector<std::unique_ptr<Chunk>> large_;
  std::atomic<uint32_t> size_{0};
  std::atomic<uint64_t> end_;
  std::atomic<uint64_t> memory_bytes_{0};
  std::atomic<bool> closed_{false};
  std::atomic<int64_t> earliest_expiry_{INT64_MAX};  // Set before size_ counts the row.
};

}  // namespace azimuth::engine
