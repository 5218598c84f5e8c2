// The byte layout of a segment container: what SegmentWriter writes and SegmentFile reads.
//
// Byte table: docs/FORMATS.md, "Segment container". Internal to storage.
// Thread safety: functions only.
#pragma once

#include "storage/segment_file.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::storage {

inline constexpr std::string_view kSegmentMagic = "AZSEGMNT";
inline constexpr std::string_view kSegmentEndMagic = "AZSEGEND";
// This code writes and reads these versions of the container.
inline constexpr uint32_t kSegmentVersion = 1;
inline constexpr uint32_t kSegmentVersionMin = 1;
// Sections begin at multiples of this, and so does what follows the header.
inline constexpr uint64_t kSectionAlignment = 4096;
// The header's length and the place of its checksum hold for all versions, past and to come.
inline constexpr size_t kSegmentHeaderBytes = 128;
inline constexpr size_t kSegmentFooterBytes = 40;
inline constexpr size_t kSectionNameBytesMax = 65'535;

// A section's entry in the directory.
struct SectionEntry {
  SectionId id{};
  uint64_t offset = 0;
  uint64_t length = 0;
  uint32_t crc = 0;
};

struct SegmentFooter {
  uint64_t directory_offset = 0;
  uint64_t directory_length = 0;
  uint64_t file_length = 0;
  uint32_t directory_crc = 0;
};

std::string EncodeSegmentHeader(const SegmentHeader& header);
std::string EncodeSegmentFooter(const SegmentFooter& footer);
// `entries` are ascending by id.
std::string EncodeSegmentDirectory(const std::vector<SectionEntry>& entries);

// Each checks everything that it can see: magic, version, checksum; DataLoss or, for a version,
// FailedPrecondition. `file` is the whole file.
absl::StatusOr<SegmentHeader> DecodeSegmentHeader(std::string_view file);
absl::StatusOr<SegmentFooter> DecodeSegmentFooter(std::string_view file);
absl::StatusOr<std::vector<SectionEntry>> DecodeSegmentDirectory(std::string_view file,
                                                                 const SegmentFooter& footer);

// For messages: "section 5, field 2" or "section 9, name 'colour'".
std::string SectionText(const SectionId& id);

}  // namespace azimuth::storage
