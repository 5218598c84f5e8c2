// rows.dat of a snapshot: all entries of one row store (rows, vectors, keys, retirements) in blocks
// with a checksum each, written and read from front to back in bounded memory.
//
// Byte table: docs/FORMATS.md, "Rows of a snapshot". Nothing of what is read is trusted.
// Thread safety: one owner.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "storage/file.h"
#include "storage/row_entries.h"

#include "absl/status/statusor.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace azimuth::storage {

// Of the entries of one block: what a writer begins a new one after, and what a reader takes at
// most. (A row with the longest values is a block of its own.)
inline constexpr size_t kSnapshotBlockBytes = size_t{1} << 20;
inline constexpr size_t kSnapshotBlockBytesMax = size_t{16} << 20;

// How many entries of each kind, by RowEntryKind - 1.
using SnapshotRowCounts = std::array<uint64_t, 4>;

class SnapshotRowsWriter final {
 public:
  // Makes the file `path`, which must not exist. `as_of` is noted in it.
  static absl::StatusOr<std::unique_ptr<SnapshotRowsWriter>> Create(const std::string& path,
                                                                    Seq as_of, Files& files);
  ~SnapshotRowsWriter();  // The file stays, whole or not.
  SnapshotRowsWriter(const SnapshotRowsWriter&) = delete;
  SnapshotRowsWriter& operator=(const SnapshotRowsWriter&) = delete;

  // REQUIRES: kinds ascend, and keys of one kind do. What was written is synced every few MiB, so
  // that a sync of the log does not wait behind all of it.
  absl::Status Add(RowEntryKind kind, std::string_view key, std::string_view value);
  // Writes the end and syncs. No use after it.
  absl::Status Finish();

  uint64_t bytes() const;  // Written so far.
  uint32_t crc() const;    // Of those.
  const SnapshotRowCounts& counts() const;

 private:
  struct Rep;
  explicit SnapshotRowsWriter(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

// Visits every entry, in order. A visitor's error ends it and is returned. Errors: DataLoss (a
// checksum, a length, the order, or the end is wrong, or the file is not of `as_of`; the message
// says at which byte), FailedPrecondition (a newer format), of `cancel`, of reading.
absl::StatusOr<SnapshotRowCounts> ReadSnapshotRows(const ReadableFile& file, Seq as_of,
                                                   const RowEntryVisitor& visit,
                                                   const CancelToken& cancel);

}  // namespace azimuth::storage
