// Columns: one scalar field of all rows of a segment, in a block of bytes that is read through a
// mapping without a parse step. A column may hold values of several kinds.
//
// Two forms: dense (a kind and a word for every row) and sparse (only rows that have the field, in
// order of position); the writer takes the smaller. Strings lie in a heap at the end.
// Byte table: docs/FORMATS.md, "Column section".
// Thread safety: readers are immutable; any number of threads.
#pragma once

#include "base/value.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::index {

// A scalar without ownership. Lists and maps are only known to be there.
struct ScalarView {
  ValueKind kind = ValueKind::kMissing;
  union {
    bool boolean;
    int64_t int64 = 0;
    double float64;
  };
  std::string_view text;  // kString only; belongs to where the view was read from.
};

// `value` as a view; it must outlive the view.
ScalarView ViewOf(const Value& value);

class ColumnWriter final {
 public:
  // REQUIRES: positions ascend from call to call; text is shorter than 16 MiB. Copies the text.
  // Rows that are never appended are missing.
  void Append(uint32_t position, const ScalarView& value);
  // The bytes of the column for a segment of `row_count` rows.
  // REQUIRES: every position < row_count.
  std::string Finish(uint32_t row_count) const;

 private:
  std::vector<uint32_t> positions_;
  std::vector<uint8_t> kinds_;
  std::vector<uint64_t> words_;
  std::string heap_;
};

class ColumnReader final {
 public:
  ColumnReader() = default;  // All rows missing.

  // Checks header and lengths, O(1). Borrows `bytes` (8-byte aligned). Errors: DataLoss.
  static absl::StatusOr<ColumnReader> Open(std::span<const std::byte> bytes);

  // Checks in O(entries) what Read takes for granted: that entries stand in order of their
  // positions, each of which is a row. DataLoss.
  absl::Status Verify() const;

  uint32_t row_count() const { return row_count_; }
  // The value of each of rows [first, first + count) into `out`. Positions at or past row_count
  // read as missing. Words that point outside the heap read as missing: a corrupt section is found
  // by its checksum, never by a fault.
  void Read(uint32_t first, uint32_t count, ScalarView* out) const;

 private:
  uint32_t row_count_ = 0;
  uint32_t entry_count_ = 0;
  const uint32_t* positions_ = nullptr;  // Sparse form only.
  const uint8_t* kinds_ = nullptr;
  const uint64_t* words_ = nullptr;
  std::string_view heap_;
};

}  // namespace azimuth::index
