#include "storage/snapshot_folder.h"

#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/status.h"

#include "absl/strings/numbers.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

namespace azimuth::storage {
namespace {

constexpr size_t kIdDigits = 16;
constexpr std::string_view kUnfinished = ".tmp";
constexpr std::string_view kMarkSuffix = ".restore";
constexpr size_t kPieceBytes = size_t{1} << 20;
// Written before the next sync, so that a sync of the log does not wait behind all of it.
constexpr uint64_t kSyncBytes = uint64_t{8} << 20;
// Of folders in folders: a snapshot has one.
constexpr int kDepthMax = 16;

std::string FilePath(const std::string& folder, std::string_view name) {
  return absl::StrCat(folder, "/", ToAbsl(name));
}

absl::Status RemoveAll(const std::string& path, Files& files, int depth) {
  AZ_ASSIGN_OR_RETURN(const FileKind kind, files.KindOf(path));
  if (kind != FileKind::kDirectory) return files.Remove(path);
  if (depth > kDepthMax) {
    return FailedPrecondition("%s: folders in folders, deeper than %d", path, kDepthMax);
  }
  AZ_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
  for (const std::string& name : names) {
    AZ_RETURN_IF_ERROR(RemoveAll(FilePath(path, name), files, depth + 1));
    AZ_FAILPOINT(kSnapshotMidDelete);
  }
  return files.RemoveDir(path);
}

absl::Status WrongLength(const std::string& path, uint64_t is, uint64_t says) {
  return DataLoss("%s: it has %d bytes instead of %d", path, is, says);
}

// Calls `take` with each piece of the file; returns length and checksum. A file that has not the
// length that it should have is not read.
absl::StatusOr<SnapshotFile> ReadPieces(
    const std::string& path, std::string name, std::optional<uint64_t> bytes, Files& files,
    const CancelToken& cancel,
    const std::function<absl::Status(uint64_t offset, std::span<std::byte>)>& take) {
  AZ_ASSIGN_OR_RETURN(const auto file, files.OpenToRead(path));
  if (bytes.has_value() && file->size() != *bytes) return WrongLength(path, file->size(), *bytes);
  SnapshotFile read{.name = std::move(name)};
  std::vector<std::byte> piece(std::min<uint64_t>(kPieceBytes, file->size() + 1));
  while (true) {
    AZ_RETURN_IF_ERROR(cancel.Check());
    AZ_ASSIGN_OR_RETURN(const size_t count, file->ReadAt(read.bytes, piece));
    const std::span<std::byte> got = std::span(piece).first(count);
    read.crc = Crc32c(got, read.crc);
    AZ_RETURN_IF_ERROR(take(read.bytes, got));
    read.bytes += count;
    if (count < piece.size()) return read;
  }
}

constexpr auto kReadOnly = [](uint64_t, std::span<std::byte>) { return absl::OkStatus(); };

absl::Status Compare(const std::string& path, const SnapshotFile& is, const SnapshotFile& says) {
  if (is.bytes != says.bytes) return WrongLength(path, is.bytes, says.bytes);
  if (is.crc == says.crc) return absl::OkStatus();
  return DataLoss("%s: its checksum is %08x instead of %08x", path, is.crc, says.crc);
}

// What is missing is damage of the snapshot.
absl::Status AsDamage(const absl::Status& status) {
  return absl::IsNotFound(status) ? absl::DataLossError(status.message()) : status;
}

// Copies in pieces; returns what was read.
absl::StatusOr<SnapshotFile> Copy(const std::string& from, const std::string& to,
                                  std::optional<uint64_t> length, std::span<const std::byte> begin,
                                  Files& files, const CancelToken& cancel,
                                  const AdmitPiece& admit) {
  AZ_ASSIGN_OR_RETURN(const auto out, files.Create(to));
  uint64_t synced = 0;
  auto copied = ReadPieces(from, "", length, files, cancel,
                           [&](uint64_t offset, std::span<std::byte> bytes) -> absl::Status {
                             if (admit != nullptr) AZ_RETURN_IF_ERROR(admit());
                             if (offset < begin.size()) {
                               const auto part = begin.subspan(offset).first(
                                   std::min<size_t>(begin.size() - offset, bytes.size()));
                               std::copy(part.begin(), part.end(), bytes.begin());
                             }
                             AZ_RETURN_IF_ERROR(out->Append(bytes));
                             if (out->size() - synced < kSyncBytes) return absl::OkStatus();
                             synced = out->size();
                             return out->Sync();
                           });
  AZ_RETURN_IF_ERROR(copied.status());
  AZ_RETURN_IF_ERROR(out->Sync());
  AZ_RETURN_IF_ERROR(out->Close());
  return copied;
}

absl::Status WriteNew(const std::string& path, std::string_view content, Files& files) {
  AZ_ASSIGN_OR_RETURN(const auto file, files.Create(path));
  AZ_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(content.data(), content.size()))));
  AZ_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

}  // namespace

bool SnapshotFolders::IsId(std::string_view name) {
  return name.size() == kIdDigits &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string SnapshotFolders::PathOf(std::string_view id) const {
  return FilePath(path_, id);
}

std::string SnapshotFolders::TemporaryPathOf(std::string_view id) const {
  return PathOf(id).append(kUnfinished);
}

absl::StatusOr<std::vector<std::string>> SnapshotFolders::Names() const {
  absl::StatusOr<std::vector<std::string>> names = files_.List(path_);
  if (absl::IsNotFound(names.status())) return std::vector<std::string>();
  return names;
}

absl::StatusOr<std::vector<std::string>> SnapshotFolders::List() const {
  AZ_ASSIGN_OR_RETURN(std::vector<std::string> names, Names());
  std::erase_if(names, [](const std::string& name) { return !IsId(name); });
  return names;
}

absl::Status SnapshotFolders::RemoveUnfinished() const {
  AZ_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names());
  for (const std::string_view name : names) {
    const bool unfinished =
        name.ends_with(kUnfinished) && IsId(name.substr(0, name.size() - kUnfinished.size()));
    if (unfinished) AZ_RETURN_IF_ERROR(RemoveTree(PathOf(name), files_));
  }
  return absl::OkStatus();
}

absl::Status SnapshotFolders::Prepare() const {
  AZ_RETURN_IF_ERROR(files_.MakeDir(path_));
  AZ_RETURN_IF_ERROR(files_.SyncDir(ParentDirectory(path_)));
  return RemoveUnfinished();
}

absl::Status SnapshotFolders::Begin(std::string_view id) const {
  AZ_RETURN_IF_ERROR(files_.MakeDir(TemporaryPathOf(id)));
  AZ_FAILPOINT(kSnapshotBeforeFiles);
  return absl::OkStatus();
}

absl::Status SnapshotFolders::Publish(std::string_view id, const SnapshotManifest& manifest) const {
  const std::string folder = TemporaryPathOf(id);
  AZ_FAILPOINT(kSnapshotBeforeManifest);
  AZ_RETURN_IF_ERROR(
      WriteNew(FilePath(folder, kSnapshotManifestName), EncodeSnapshotManifest(manifest), files_));
  AZ_RETURN_IF_ERROR(files_.SyncDir(folder));
  AZ_FAILPOINT(kSnapshotBeforeRename);
  AZ_RETURN_IF_ERROR(files_.Rename(folder, PathOf(id)));
  absl::Status synced = SyncNames();
  // Who was told that it failed does not expect it to be there.
  if (!synced.ok()) files_.Rename(PathOf(id), folder).IgnoreError();
  return synced;
}

absl::Status SnapshotFolders::SyncNames() const {
  AZ_FAILPOINT(kSnapshotBeforeDirSync);
  return files_.SyncDir(path_);
}

absl::Status SnapshotFolders::Remove(std::string_view id) const {
  AZ_RETURN_IF_ERROR(files_.Rename(PathOf(id), TemporaryPathOf(id)));
  AZ_RETURN_IF_ERROR(files_.SyncDir(path_));
  return RemoveTree(TemporaryPathOf(id), files_);
}

absl::Status SnapshotFolders::Mark(RowStoreId row_store) const {
  AZ_RETURN_IF_ERROR(
      WriteNew(absl::StrCat(path_, "/", Raw(row_store), ToAbsl(kMarkSuffix)), "", files_));
  return files_.SyncDir(path_);
}

absl::Status SnapshotFolders::Unmark(RowStoreId row_store) const {
  return files_.Remove(absl::StrCat(path_, "/", Raw(row_store), ToAbsl(kMarkSuffix)));
}

absl::StatusOr<std::vector<RowStoreId>> SnapshotFolders::Marked() const {
  AZ_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names());
  std::vector<RowStoreId> marked;
  for (const std::string_view name : names) {
    uint32_t number = 0;
    if (!name.ends_with(kMarkSuffix)) continue;
    const std::string_view digits = name.substr(0, name.size() - kMarkSuffix.size());
    if (absl::SimpleAtoi(ToAbsl(digits), &number) && absl::StrCat(number) == ToAbsl(digits)) {
      marked.push_back(RowStoreId{number});
    }
  }
  return marked;
}

absl::Status RemoveTree(const std::string& path, Files& files) {
  return RemoveAll(path, files, 0);
}

absl::StatusOr<SnapshotFile> ChecksumOf(const std::string& path, std::string name, Files& files,
                                        const CancelToken& cancel) {
  return ReadPieces(path, std::move(name), std::nullopt, files, cancel, kReadOnly);
}

absl::Status CheckSnapshotFiles(const std::string& folder, const SnapshotManifest& manifest,
                                Files& files) {
  for (const SnapshotFile& file : manifest.files) {
    const std::string path = FilePath(folder, file.name);
    const absl::StatusOr<std::unique_ptr<ReadableFile>> opened = files.OpenToRead(path);
    if (!opened.ok()) return AsDamage(opened.status());
    if ((*opened)->size() != file.bytes) {
      return WrongLength(path, (*opened)->size(), file.bytes);
    }
  }
  if (manifest.kind != SnapshotKind::kStore) return absl::OkStatus();
  const std::string rocks = FilePath(folder, kSnapshotRocksFolder);
  AZ_ASSIGN_OR_RETURN(const FileKind kind, files.KindOf(rocks));
  if (kind != FileKind::kDirectory) return InvalidArgument("%s: it is not a folder", rocks);
  AZ_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(rocks));
  for (const std::string& name : names) {
    if (manifest.Find(absl::StrCat(ToAbsl(kSnapshotRocksFolder), "/", name)) != nullptr) continue;
    return DataLoss("%s: the manifest does not name the file %s", rocks, Quoted(name));
  }
  return absl::OkStatus();
}

absl::Status VerifySnapshotFile(const std::string& folder, const SnapshotFile& file, Files& files,
                                const CancelToken& cancel) {
  const std::string path = FilePath(folder, file.name);
  const absl::StatusOr<SnapshotFile> is =
      ReadPieces(path, file.name, file.bytes, files, cancel, kReadOnly);
  if (!is.ok()) return AsDamage(is.status());
  return Compare(path, *is, file);
}

absl::Status CopySnapshotFile(const std::string& folder, const SnapshotFile& file,
                              const std::string& to, std::span<const std::byte> begin, Files& files,
                              const CancelToken& cancel, const AdmitPiece& admit) {
  const std::string from = FilePath(folder, file.name);
  const absl::StatusOr<SnapshotFile> is = Copy(from, to, file.bytes, begin, files, cancel, admit);
  const absl::Status status = is.ok() ? Compare(from, *is, file) : AsDamage(is.status());
  // The first error is the one to tell. What was there before is not ours.
  if (!status.ok() && !absl::IsAlreadyExists(status)) files.Remove(to).IgnoreError();
  return status;
}

absl::Status LinkOrCopy(const std::string& from, const std::string& to, Files& files,
                        const CancelToken& cancel, const AdmitPiece& admit) {
  const absl::Status linked = files.Link(from, to);
  if (!absl::IsUnimplemented(linked)) return linked;
  return Copy(from, to, std::nullopt, {}, files, cancel, admit).status();
}

}  // namespace azimuth::storage
