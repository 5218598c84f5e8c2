#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/status.h"
#include "storage/segment_file.h"
#include "storage/segment_format.h"

#include <algorithm>
#include <set>
#include <utility>

namespace azimuth::storage {
namespace {

// Callers append as little as eight bytes at a time.
constexpr size_t kBufferBytes = size_t{256} << 10;

std::span<const std::byte> ToBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

struct SegmentWriter::Rep {
  Rep(Files& files_in, std::string path_in, std::string temporary_in,
      std::unique_ptr<WritableFile> file_in)
      : files(files_in),
        path(std::move(path_in)),
        temporary(std::move(temporary_in)),
        file(std::move(file_in)) {}

  Files& files;
  std::string path;
  std::string temporary;
  std::unique_ptr<WritableFile> file;
  std::vector<std::byte> buffer;
  uint64_t size = 0;  // Bytes appended, those in the buffer too.
  // Sections so far; the last one is open. In order of writing.
  std::vector<SectionEntry> entries;
  std::set<SectionId> ids;
  // The first error; nothing is published after one.
  absl::Status broken;
  bool finished = false;

  absl::Status FlushBuffer() {
    AZ_RETURN_IF_ERROR(file->Append(buffer));
    buffer.clear();
    return absl::OkStatus();
  }

  absl::Status Write(std::span<const std::byte> bytes) {
    size += bytes.size();
    if (buffer.size() + bytes.size() > kBufferBytes) AZ_RETURN_IF_ERROR(FlushBuffer());
    if (bytes.size() > kBufferBytes) return file->Append(bytes);
    buffer.insert(buffer.end(), bytes.begin(), bytes.end());
    return absl::OkStatus();
  }

  absl::Status PadToSection() {
    const uint64_t rest = size % kSectionAlignment;
    if (rest == 0) return absl::OkStatus();
    return Write(std::vector<std::byte>(kSectionAlignment - rest));
  }

  absl::Status Begin(const SectionId& id) {
    if (!entries.empty()) AZ_FAILPOINT(kSegmentMidWrite);
    AZ_RETURN_IF_ERROR(PadToSection());
    entries.push_back({.id = id, .offset = size});
    return absl::OkStatus();
  }

  absl::Status AppendToSection(std::span<const std::byte> bytes) {
    SectionEntry& entry = entries.back();
    entry.crc = Crc32c(bytes, entry.crc);
    entry.length += bytes.size();
    return Write(bytes);
  }

  absl::Status WriteDirectoryAndFooter() {
    SegmentFooter footer{.directory_offset = size};
    std::sort(entries.begin(), entries.end(),
              [](const SectionEntry& a, const SectionEntry& b) { return a.id < b.id; });
    const std::string directory = EncodeSegmentDirectory(entries);
    footer.directory_length = directory.size();
    footer.directory_crc = Crc32c(std::string_view(directory));
    footer.file_length = size + directory.size() + kSegmentFooterBytes;
    AZ_RETURN_IF_ERROR(Write(ToBytes(directory)));
    AZ_RETURN_IF_ERROR(Write(ToBytes(EncodeSegmentFooter(footer))));
    AZ_RETURN_IF_ERROR(FlushBuffer());
    AZ_RETURN_IF_ERROR(file->Sync());
    return file->Close();
  }

  // After the rename; on an error the caller removes the file again.
  absl::Status SyncName() {
    AZ_FAILPOINT(kSegmentBeforeDirSync);
    return files.SyncDir(ParentDirectory(path));
  }

  absl::Status Publish() {
    AZ_RETURN_IF_ERROR(WriteDirectoryAndFooter());
    AZ_FAILPOINT(kSegmentBeforeRename);
    AZ_RETURN_IF_ERROR(files.Rename(temporary, path));
    absl::Status synced = SyncName();
    // The caller will not name a file that it was told is not there.
    if (!synced.ok()) files.Remove(path).IgnoreError();
    return synced;
  }
};

SegmentWriter::SegmentWriter(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}

SegmentWriter::~SegmentWriter() {
  // Whatever cannot be removed now is removed at the next start: no catalog names it.
  if (!rep_->finished) rep_->files.Remove(rep_->temporary).IgnoreError();
}

absl::StatusOr<std::unique_ptr<SegmentWriter>> SegmentWriter::Create(const std::string& path,
                                                                     const SegmentHeader& header,
                                                                     Files& files) {
  const std::string temporary = path + ".tmp";
  if (absl::Status removed = files.Remove(temporary); !removed.ok() && !absl::IsNotFound(removed)) {
    return removed;
  }
  AZ_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, files.Create(temporary));
  // From here on the writer's destructor removes the file.
  std::unique_ptr<SegmentWriter> writer(
      new SegmentWriter(std::make_unique<Rep>(files, path, temporary, std::move(file))));
  AZ_RETURN_IF_ERROR(writer->rep_->Write(ToBytes(EncodeSegmentHeader(header))));
  return writer;
}

absl::Status SegmentWriter::BeginSection(const SectionId& id) {
  AZ_RETURN_IF_ERROR(rep_->broken);
  if (id.name.size() > kSectionNameBytesMax) {
    return InvalidArgument("%s: a section's name of %d bytes is longer than %d", rep_->path,
                           id.name.size(), kSectionNameBytesMax);
  }
  if (!rep_->ids.insert(id).second) {
    return InvalidArgument("%s: %s was written before", rep_->path, SectionText(id));
  }
  rep_->broken = rep_->Begin(id);
  return rep_->broken;
}

absl::Status SegmentWriter::Append(std::span<const std::byte> bytes) {
  AZ_RETURN_IF_ERROR(rep_->broken);
  if (rep_->entries.empty()) {
    return FailedPrecondition("%s: no section was begun", rep_->path);
  }
  rep_->broken = rep_->AppendToSection(bytes);
  return rep_->broken;
}

absl::StatusOr<uint64_t> SegmentWriter::Finish() {
  AZ_RETURN_IF_ERROR(rep_->broken);
  rep_->broken = rep_->Publish();
  AZ_RETURN_IF_ERROR(rep_->broken);
  rep_->finished = true;
  // Nothing works any more: the file is closed.
  rep_->broken = FailedPrecondition("%s: already finished", rep_->path);
  return rep_->size;
}

}  // namespace azimuth::storage
