#include "storage/segment_copy.h"

#include "base/status.h"
#include "storage/segment_format.h"

#include <algorithm>
#include <span>

namespace azimuth::storage {

absl::StatusOr<SegmentEntry> CopySegmentFile(const std::string& folder, const SnapshotFile& file,
                                             const std::string& path, SegmentId id,
                                             RowStoreId row_store, uint64_t instance, Files& files,
                                             const CancelToken& cancel, const AdmitPiece& admit) {
  const std::string from = absl::StrCat(folder, "/", file.name);
  std::string begin;
  {
    AZ_ASSIGN_OR_RETURN(const auto source, files.OpenToRead(from));
    begin.resize(kSectionAlignment);
    AZ_ASSIGN_OR_RETURN(const size_t count,
                        source->ReadAt(0, std::as_writable_bytes(std::span(begin))));
    begin.resize(count);
  }
  absl::StatusOr<SegmentHeader> header = DecodeSegmentHeader(begin);
  if (!header.ok()) return AtPlace(from, header.status());
  header->id = id;
  header->row_store = row_store;
  header->incarnation = instance;
  const std::string ours = EncodeSegmentHeader(*header);

  const std::string temporary = path + ".tmp";
  AZ_RETURN_IF_ERROR(CopySnapshotFile(folder, file, temporary,
                                      std::as_bytes(std::span(ours.data(), ours.size())), files,
                                      cancel, admit));
  absl::Status status = files.Rename(temporary, path);
  if (status.ok()) status = files.SyncDir(ParentDirectory(path));
  if (!status.ok()) {
    // Under one of the two names. The first error is the one to tell.
    files.Remove(temporary).IgnoreError();
    files.Remove(path).IgnoreError();
    return status;
  }
  return SegmentEntry{.id = id,
                      .row_store = row_store,
                      .rows = {header->first_row, header->end_row},
                      .row_count = header->row_count,
                      .file_bytes = file.bytes};
}

}  // namespace azimuth::storage
