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
  const size_t header_bytes = std::min(bytes.size(), kSegmentHeaderBytes);
  AZ_RETURN_IF_ERROR(file->Load(0, header_bytes));
  const size_t footer_bytes = std::min(bytes.size(), kSegmentFooterBytes);
  AZ_RETURN_IF_ERROR(file->Load(bytes.size() - footer_bytes, footer_bytes));
  const absl::StatusOr<SegmentHeader> header = DecodeSegmentHeader(bytes);
  if (!header.ok()) return AtPlace(path, header.status());
  const absl::StatusOr<SegmentFooter> footer = DecodeSegmentFooter(bytes);
  if (!footer.ok()) return AtPlace(path, footer.status());
  if (footer->directory_offset < bytes.size()) {
    AZ_RETURN_IF_ERROR(
        file->Load(footer->directory_offset, bytes.size() - footer->directory_offset));
  }
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

const SegmentFile::Entry* SegmentFile::FindEntry(const SectionId& id) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), id,
      [](const Entry& entry, const SectionId& wanted) { return entry.id < wanted; });
  return found == entries_.end() || found->id != id ? nullptr : &*found;
}

std::optional<std::span<const std::byte>> SegmentFile::Find(const SectionId& id) const {
  const Entry* const found = FindEntry(id);
  if (found == nullptr) return std::nullopt;
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

absl::Status SegmentFile::Load(const SectionId& id, uint64_t offset, uint64_t count) const {
  const Entry* const found = FindEntry(id);
  if (found == nullptr || offset >= found->length) return absl::OkStatus();
  return file_->Load(found->offset + offset, std::min(count, found->length - offset));
}

void SegmentFile::Release(const SectionId& id) const {
  const Entry* const found = FindEntry(id);
  if (found != nullptr) file_->Release(found->offset, found->length);
}

absl::StatusOr<bool> SegmentFile::VerifyPart(const Entry& entry, Progress& progress) const {
  constexpr uint64_t kPartBytes = uint64_t{1} << 20;
  const uint64_t begin = entry.offset + progress.offset;
  const uint64_t count = std::min(kPartBytes, entry.length - progress.offset);
  AZ_RETURN_IF_ERROR(file_->Load(begin, count));
  progress.crc = Crc32c(file_->bytes().subspan(begin, count), progress.crc);
  progress.offset += count;
  if (progress.offset < entry.length) return false;
  if (progress.crc == entry.crc) return true;
  return DataLoss("segment %d: %s corrupt (its checksum does not match)", Raw(header_.id),
                  SectionText(entry.id));
}

absl::StatusOr<bool> SegmentFile::VerifyPart(const SectionId& id, Progress& progress) const {
  const Entry* const found = FindEntry(id);
  if (found == nullptr) return true;
  return VerifyPart(*found, progress);
}

absl::Status SegmentFile::VerifyEntry(const Entry& entry, const CancelToken& cancel) const {
  Progress progress;
  for (bool done = false; !done;) {
    AZ_RETURN_IF_ERROR(cancel.Check());
    AZ_ASSIGN_OR_RETURN(done, VerifyPart(entry, progress));
  }
  return absl::OkStatus();
}

absl::Status SegmentFile::VerifySections(const CancelToken& cancel) const {
  for (const Entry& entry : entries_) AZ_RETURN_IF_ERROR(VerifyEntry(entry, cancel));
  return absl::OkStatus();
}

absl::Status SegmentFile::VerifySection(const SectionId& id) const {
  const Entry* const found = FindEntry(id);
  return found == nullptr ? absl::OkStatus() : VerifyEntry(*found, CancelToken());
}

}  // namespace azimuth::storage
