// The comparison of the rows of a segment with those of the store, which the caller brings: in
// batches, wherever they come from.
//
// Ownership: borrows the collection, the segment and the findings. Thread safety: one owner; the
// segment may be in use.
#pragma once

#include "engine/admin/findings.h"
#include "engine/segment/segment.h"
#include "storage/row.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {

// Rows to be compared at once, in order of position.
struct CompareBatch {
  static constexpr size_t kRowsMax = 1024;
  // A row may be long. A comparison takes a few times as much: columns of both sides.
  static constexpr uint64_t kBytesMax = uint64_t{4} << 20;

  std::vector<uint32_t> positions;  // In the segment.
  std::vector<storage::StoredRow> stored;
  uint64_t bytes = 0;  // About what the rows take.

  // `more`: bytes of the row that are elsewhere.
  void Add(uint32_t position, storage::StoredRow&& row, uint64_t more = 0);
  bool full() const { return positions.size() >= kRowsMax || bytes >= kBytesMax; }
  void Clear();
};

// Of retirements in order of row; kSeqMax if it is none of them.
Seq RetiredAt(std::span<const std::pair<RowId, Seq>> retired, RowId row);

class SegmentComparison final {
 public:
  SegmentComparison(const CheckedCollection& collection, const Segment& segment, Findings& findings)
      : collection_(collection), segment_(segment), findings_(findings) {}

  // That the first `size` positions are the rows of `range`: those that are retired may be missing
  // on either side. `rows` and `retired` are of the whole store, ascending.
  void CompareIds(std::span<const RowId> rows, std::span<const std::pair<RowId, Seq>> retired,
                  storage::RowRange range, uint32_t size);
  // Keys, insertions, ends and scalars of rows that the store has.
  void CompareRows(const CompareBatch& batch);
  // The vector of one position as the segment has it (null: none) and as the store does (empty:
  // none), which is made unit length for cosine.
  void CompareVector(size_t slot, uint32_t position, const float* in_segment,
                     std::span<float> in_store);

  void Differs(std::string_view kind, RowId row, std::string message);
  // Nothing has differed.
  bool agrees() const { return agrees_; }

 private:
  void CompareScalars(const CompareBatch& batch);
  std::string DifferentField(uint32_t position, const storage::StoredRow& stored) const;

  const CheckedCollection& collection_;
  const Segment& segment_;
  Findings& findings_;
  bool agrees_ = true;
};

}  // namespace azimuth::engine
