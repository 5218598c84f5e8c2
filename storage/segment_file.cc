#include "storage/segment_file.h"

#include "base/crc32c.h"
#include "base/status.h"
#include "storage/segment_format.h"

#include <algorithm>
#include <utility>

namespace azimuth::storage {

absl::StatusOr<std::unique_ptr<SegmentFile>> SegmentFile::Open(const std::string& path,
                                                               Files& files) {
  AZ_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, files.Map(path));
  const std::string_view bytes(reinterpret_cast<const char*>(file->bytes().data()),
                               file->bytes().size());
  const absl::StatusOr<SegmentHeader> header = DecodeSegmentHeader(bytes);
  if (!header.ok()) return AtPlace(path, header.status());
  const absl::StatusOr<SegmentFooter> footer = DecodeSegmentFooter(bytes);
  if (!footer.ok()) return AtPlace(path, footer.status());
  absl::StatusOr<std::vector<SectionEntry>> directory = DecodeSegmentDirectory(bytes, *footer);
  if (!directory.ok()) return AtPlace(path, directory.status());

  std::vector<Entry> entries;
  entries.reserve(directory->size());
  for (SectionEntry& entry : *directory) {
    entries.push_back({std::move(entry.id), entry.offset, entry.length, entry.crc});
  }
  return std::unique_ptr<SegmentFile>(
      new SegmentFile(std::move(file), *header, std::move(entries)));
}

std::optional<std::span<const std::byte>> SegmentFile::Find(const SectionId& id) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), id,
      [](const Entry& entry, const SectionId& wanted) { return entry.id < wanted; });
  if (found == entries_.end() || found->id != id) return std::nullopt;
  return file_->bytes().subspan(found->offset, found->length);
}

absl::StatusOr<std::span<const std::byte>> SegmentFile::Require(
    const SectionId& id, std::optional<uint64_t> bytes) const {
  const auto found = Find(id);
  if (!found.has_value()) {
    return DataLoss("segment %d: %s is missing", Raw(header_.id), SectionText(id));
  }
  if (bytes.has_value() && found->size() != *bytes) {
    return DataLoss("segment %d: %s has %d bytes instead of %d", Raw(header_.id), SectionText(id),
                    found->size(), *bytes);
  }
  return *found;
}

std::vector<SectionId> SegmentFile::Sections() const {
  std::vector<SectionId> ids;
  ids.reserve(entries_.size());
  for (const Entry& entry : entries_) ids.push_back(entry.id);
  return ids;
}

absl::Status SegmentFile::VerifyEntry(const Entry& entry, const CancelToken& cancel) const {
  constexpr uint64_t kVerifyStepBytes = uint64_t{1} << 20;
  uint32_t crc = 0;
  for (uint64_t at = 0; at < entry.length; at += kVerifyStepBytes) {
    AZ_RETURN_IF_ERROR(cancel.Check());
    const uint64_t count = std::min(kVerifyStepBytes, entry.length - at);
    crc = Crc32c(file_->bytes().subspan(entry.offset + at, count), crc);
  }
  if (crc == entry.crc) return absl::OkStatus();
  return DataLoss("segment %d: %s corrupt (its checksum does not match)", Raw(header_.id),
                  SectionText(entry.id));
}

absl::Status SegmentFile::VerifySections(const CancelToken& cancel) const {
  for (const Entry& entry : entries_) AZ_RETURN_IF_ERROR(VerifyEntry(entry, cancel));
  return absl::OkStatus();
}

absl::Status SegmentFile::VerifySection(const SectionId& id) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), id,
      [](const Entry& entry, const SectionId& wanted) { return entry.id < wanted; });
  if (found == entries_.end() || found->id != id) return absl::OkStatus();
  return VerifyEntry(*found, CancelToken());
}

}  // namespace azimuth::storage
