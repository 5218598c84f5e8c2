// Segment files: immutable containers of named sections, written once and then mapped.
//
// The container knows sections, lengths and checksums; what a section holds is the business of who
// wrote it. Byte table: docs/FORMATS.md, "Segment container": fixed header, sections at multiples
// of 4 KiB, a directory with a CRC-32C for each section, a footer.
//
// Publication: written as a temporary file, fsynced, renamed, directory fsynced; only then may a
// catalog name it.
// Thread safety: SegmentWriter has one owner; SegmentFile is immutable.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "storage/file.h"

#include "absl/status/statusor.h"

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::storage {

// On disk; never renumber.
enum class SectionKind : uint16_t {
  kRowIds = 1,         // u64 for each position, ascending within a partition.
  kInsertSeqs = 2,     // u64 for each position.
  kKeys = 3,           // Column section (index/column) of the keys.
  kPartitions = 4,     // (u32 partition, u32 first position), ascending.
  kVectors = 5,        // f32 rows in node order; of `field`.
  kNodePositions = 6,  // u32 position of each node; of `field`.
  kGraph = 7,          // Graph section (index/graph); of `field`.
  kFieldColumn = 8,    // Column section of the declared `field`.
  kDynamicColumn = 9,  // Column section of the dynamic field `name`.
  // i64 smallest expiry but 0, then i64 expiry for each position, 0 for never: microseconds since
  // 1970. Absent when no row of the file expires.
  kExpiries = 10,
  kCodes = 11,        // Codes section (index/codes); of `field`, in node order.
  kCalibration = 12,  // Calibration section (index/graph); of `field`.
  kByteVectors = 13,  // What kVectors holds as u8, where that is all whole numbers; of `field`.
};

struct SectionId {
  SectionKind kind{};
  FieldId field{};     // Zero where the kind has none.
  std::string name{};  // Empty where the kind has none; at most 65,535 bytes.
  friend auto operator<=>(const SectionId&, const SectionId&) = default;
};

// What the header says of the whole file.
struct SegmentHeader {
  SegmentId id{};
  RowStoreId row_store{};
  uint64_t incarnation = 0;
  uint64_t row_count = 0;
  Seq max_insert_seq{};
  RowId first_row{};  // The half-open range of row ids that the file stands for.
  RowId end_row{};
};

class SegmentWriter final {
 public:
  // Writes to `path` + ".tmp" (replaced if it is left over). `files` outlives the writer.
  static absl::StatusOr<std::unique_ptr<SegmentWriter>> Create(const std::string& path,
                                                               const SegmentHeader& header,
                                                               Files& files = Files::Posix());
  ~SegmentWriter();  // Removes the temporary file unless Finish succeeded.

  // A section is begun, appended to and ended by the next BeginSection or Finish.
  // InvalidArgument if the id came before.
  absl::Status BeginSection(const SectionId& id);
  absl::Status Append(std::span<const std::byte> bytes);
  // Directory, footer, fsync, rename to `path`, fsync of the directory. Returns the file's size.
  absl::StatusOr<uint64_t> Finish();

 private:
  struct Rep;
  explicit SegmentWriter(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

class SegmentFile final {
 public:
  // Maps the file and checks header, footer, lengths and the directory's checksum: O(directory).
  // Errors: DataLoss (bad magic, truncated, too long, corrupt: five different messages with
  // FailedPrecondition for a version too old or too new), NotFound.
  static absl::StatusOr<std::unique_ptr<SegmentFile>> Open(const std::string& path,
                                                           Files& files = Files::Posix());

  const SegmentHeader& header() const { return header_; }
  uint64_t file_bytes() const { return file_->bytes().size(); }
  // 4 KiB-aligned bytes of the section, valid while the SegmentFile lives; nullopt if there is
  // none.
  std::optional<std::span<const std::byte>> Find(const SectionId& id) const;
  // The same, of a section that must be there and have exactly `bytes` bytes (any length if
  // nullopt). DataLoss otherwise.
  absl::StatusOr<std::span<const std::byte>> Require(const SectionId& id,
                                                     std::optional<uint64_t> bytes) const;
  std::vector<SectionId> Sections() const;
  // Reads up to `count` bytes of a section, from `offset` on, so that they can be touched before
  // the section is verified. OK if there is no such section. Errors as VerifySection, but
  // checksums.
  absl::Status Load(const SectionId& id, uint64_t offset, uint64_t count) const;

  // Gives back the memory of a section that the mapping holds; it can be read as before.
  void Release(const SectionId& id) const;

  // Reads every section and compares its checksum. O(file). DataLoss names the first bad section;
  // errors of `cancel`, which is asked between parts of some MiB, and of opening the file.
  absl::Status VerifySections(const CancelToken& cancel) const;
  // The same for one section; OK if there is no such section. O(section).
  absl::Status VerifySection(const SectionId& id) const;
  // How far a check of one section came.
  struct Progress {
    uint64_t offset = 0;
    uint32_t crc = 0;
  };
  // Goes on with the check of a section by a part of some MiB. True: it is done, and the section is
  // good. Errors as those of VerifySection.
  absl::StatusOr<bool> VerifyPart(const SectionId& id, Progress& progress) const;

 private:
  struct Entry {
    SectionId id;
    uint64_t offset = 0;
    uint64_t length = 0;
    uint32_t crc = 0;
  };
  const Entry* FindEntry(const SectionId& id) const;
  absl::StatusOr<bool> VerifyPart(const Entry& entry, Progress& progress) const;
  absl::Status VerifyEntry(const Entry& entry, const CancelToken& cancel) const;
  SegmentFile(std::unique_ptr<MappedFile> file, SegmentHeader header, std::vector<Entry> entries)
      : file_(std::move(file)), header_(header), entries_(std::move(entries)) {}
  std::unique_ptr<MappedFile> file_;
  SegmentHeader header_;
  std::vector<Entry> entries_;  // Ascending by id.
};

}  // namespace azimuth::storage
