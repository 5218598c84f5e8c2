// SealedSegment: an immutable segment, read through a mapping of its file: rows, columns, vectors
// and graphs. What the sections hold: docs/FORMATS.md, "Segment sections".
//
// Nothing of the file is used before it was compared with its checksum: what names rows (ids,
// sequence numbers, keys, ends, node maps: about 30 bytes a row) when it is opened, columns and the
// vectors and graph of each field before their first use, or by Verify. After that a check is one
// load.
#pragma once

#include "base/huge_bytes.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "engine/schema.h"
#include "engine/segment/segment.h"
#include "index/codes/coded_vectors.h"
#include "index/column/column.h"
#include "index/graph/calibration.h"
#include "index/graph/frozen_graph.h"
#include "storage/segment_file.h"

#include "absl/container/flat_hash_map.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace azimuth::engine {

class SealedSegment final : public Segment {
 public:
  // Maps the file, and checks it but for columns, vectors and graphs. `schema` must outlive the
  // segment.
  // Errors: those of SegmentFile::Open; DataLoss if a section that the schema needs is missing or
  // has the wrong size, or if the file belongs to another row store or incarnation.
  static absl::StatusOr<std::shared_ptr<SealedSegment>> Open(const std::string& path,
                                                             const Schema& schema,
                                                             const storage::SegmentEntry& entry,
                                                             uint64_t incarnation,
                                                             storage::Files& files);

  SegmentState state() const override { return SegmentState::kSealed; }
  SegmentId id() const override { return file_->header().id; }
  uint64_t file_bytes() const override { return file_->file_bytes(); }
  uint64_t memory_bytes() const override { return sizeof(*this) + retired_.size() * 8; }
  SegmentParts parts() const override;
  storage::RowRange rows() const override {
    return {file_->header().first_row, file_->header().end_row};
  }
  uint32_t size() const override { return size_; }
  RowId row_id(uint32_t position) const override { return RowId{row_ids_[position]}; }
  Seq insert_seq(uint32_t position) const override { return Seq{insert_seqs_[position]}; }
  KeyView key(uint32_t position) const override;
  int64_t expires_at_unix_us(uint32_t position) const override {
    return expiries_ == nullptr ? 0 : expiries_[1 + position];
  }
  int64_t earliest_expiry() const override {
    return earliest_expiry_.load(std::memory_order_acquire);
  }
  void RaiseEarliestExpiry(int64_t bound) override {
    int64_t seen = earliest_expiry_.load(std::memory_order_relaxed);
    while (seen < bound && !earliest_expiry_.compare_exchange_weak(seen, bound)) {
    }
  }
  void ReadScalars(const FilterField& field, uint32_t first, uint32_t count,
                   index::ScalarView* out) const override;
  void ExportScalars(std::span<const uint32_t> positions, uint32_t base,
                     ColumnSetWriter& out) const override;
  std::vector<const float*> ExportVectors(size_t vector_slot,
                                          std::span<const uint32_t> positions) const override;
  bool HasGraph(size_t vector_slot) const override { return vectors_[vector_slot].has_graph; }
  SegmentGraph Graph(size_t vector_slot) const override {
    const VectorSection& section = vectors_[vector_slot];
    if (!section.has_graph) return {};
    return {&section.graph, {section.node_positions, section.node_count}};
  }
  std::optional<Quantization> WalkedBy(size_t vector_slot) const override;
  uint32_t VectorCount(size_t vector_slot) const override {
    return vectors_[vector_slot].node_count;
  }
  absl::StatusOr<uint64_t> Scan(size_t vector_slot, const float* query, uint32_t limit,
                                const index::Bitset* admitted, index::TopK& top,
                                const CancelToken& cancel) const override;
  WalkEffort EffortFor(size_t vector_slot, double recall, uint32_t limit) const override;
  absl::StatusOr<index::GraphSearchResult> Walk(size_t vector_slot, const float* query,
                                                const WalkEffort& effort, uint64_t distances_max,
                                                const index::Bitset* admitted, index::TopK& top,
                                                index::GraphScratch& scratch,
                                                const CancelToken& cancel) const override;
  absl::Status CheckColumns(const CancelToken& cancel) const override;
  // Checksums of all sections, order of row ids, kinds of keys, columns, the first end, node maps
  // and graphs.
  absl::Status Verify(const CancelToken& cancel) const override;
  absl::Status suspicion() const override;
  void MakeResident(MemoryBudget& memory) override;
  void MarkRetired(uint32_t position) override;
  uint64_t RetiredWord(size_t i) const override {
    return retired_[i].load(std::memory_order_acquire);
  }

 private:
  struct VectorSection {
    uint32_t node_count = 0;
    const float* base = nullptr;
    const uint8_t* bytes = nullptr;            // The same vectors; may be null.
    const uint32_t* node_positions = nullptr;  // Checked below size_ before use.
    bool has_graph = false;
    index::FrozenGraph graph;
    std::optional<index::CodedVectors> codes;  // With a graph only.
    index::Calibration calibration;
    // The last answer of EffortFor, packed with its question; most searches ask the same. 0: none.
    mutable std::atomic<uint64_t> effort{0};
  };

  // A copy of what walks read.
  struct Resident {
    HugeBytes memory;
    index::FrozenGraph graph;
    std::optional<index::CodedVectors> codes;
  };

  // What is checked at once, before its first use. Whoever needs it goes on where the last one
  // came to, a step at a time: so a short deadline holds, and no work is lost.
  struct Part {
    std::atomic<bool> checked{false};
    Mutex mu;  // Held for a step.
    size_t section AZ_GUARDED_BY(mu) = 0;
    storage::SegmentFile::Progress progress AZ_GUARDED_BY(mu);
  };

  SealedSegment(std::unique_ptr<storage::SegmentFile> file, const Schema& schema);
  absl::Status CheckRows() const;
  absl::Status CheckPart(Part& part, std::span<const storage::SectionId> sections,
                         const CancelToken& cancel) const;
  absl::Status CheckVectors(size_t slot, const CancelToken& cancel) const;
  // Keeps a DataLoss as the suspicion.
  void Suspect(const absl::Status& why) const;
  absl::Status VerifyBytes(const CancelToken& cancel) const;
  absl::Status VerifyKeys() const;
  absl::Status VerifyEnds() const;
  absl::Status VerifyNodes(const VectorSection& section) const;
  absl::Status VerifyByteVectors(const VectorSection& section, const CancelToken& cancel) const;
  absl::Status OpenVectors(size_t slot);
  absl::Status OpenCodes(size_t slot);
  std::unique_ptr<Resident> CopyOf(size_t slot) const;
  absl::Status OpenColumns();
  const index::ColumnReader* FindColumn(const FilterField& field) const;

  const std::unique_ptr<storage::SegmentFile> file_;
  const Schema& schema_;
  uint32_t size_ = 0;
  const uint64_t* row_ids_ = nullptr;
  const uint64_t* insert_seqs_ = nullptr;
  const int64_t* expiries_ = nullptr;  // The smallest, then that of each position; may be null.
  std::atomic<int64_t> earliest_expiry_{INT64_MAX};
  index::ColumnReader keys_;
  absl::flat_hash_map<uint32_t, index::ColumnReader> fields_;  // By field id.
  StringMap<index::ColumnReader> paths_;
  std::vector<VectorSection> vectors_;
  std::vector<std::atomic<uint64_t>> retired_;
  mutable Part columns_part_;
  mutable std::vector<Part> vector_parts_;                       // By slot.
  std::vector<std::unique_ptr<const Resident>> resident_owned_;  // By slot; of MakeResident.
  std::vector<std::atomic<const Resident*>> resident_;           // Null: there is none.
  std::unique_ptr<CountedBytes> resident_bytes_;
  mutable Mutex suspicion_mu_;
  mutable absl::Status suspicion_ AZ_GUARDED_BY(suspicion_mu_);
};

}  // namespace azimuth::engine
