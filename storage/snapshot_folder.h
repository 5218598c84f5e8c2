// The folders of snapshots: where they lie, how one appears and goes as a whole, and the check and
// copy of their files.
//
//   snapshots/<id>/       a whole snapshot; the id is a random number, 16 hexadecimal digits
//   snapshots/<id>.tmp/   one that is being made or removed; the next start removes it
//   snapshots/<number>.restore   a row store that is being filled (RestoreMark)
//
// A folder is written as <id>.tmp, with its manifest last, everything synced, and then renamed; it
// is renamed back before it is removed. So what bears its name is whole, whenever the process dies.
// Thread safety: SnapshotFolders may be used by any number of threads; making and removing take
// turns (the caller sees to it).
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "storage/file.h"
#include "storage/snapshot_manifest.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::storage {

class SnapshotFolders final {
 public:
  // `path` is that of snapshots/, which may not be there yet. `files` outlives it.
  SnapshotFolders(std::string path, Files& files) : path_(std::move(path)), files_(files) {}

  static bool IsId(std::string_view name);
  std::string PathOf(std::string_view id) const;
  std::string TemporaryPathOf(std::string_view id) const;

  // The ids of all that are there, whole or damaged; ascending. None if there is no folder.
  absl::StatusOr<std::vector<std::string>> List() const;
  // Makes snapshots/ if it is not there, and removes what was not finished.
  absl::Status Prepare() const;
  // Removes what was not finished; nothing to do without a folder.
  absl::Status RemoveUnfinished() const;
  // Makes the folder TemporaryPathOf(id). After Prepare.
  absl::Status Begin(std::string_view id) const;
  // All files of `manifest` are there and synced: writes it, and lets the snapshot appear. On an
  // error it may have appeared or not.
  absl::Status Publish(std::string_view id, const SnapshotManifest& manifest) const;
  // NotFound.
  absl::Status Remove(std::string_view id) const;

  // A row store that a restore fills before a catalog names it: whoever dies meanwhile leaves the
  // mark, and a start removes the row store. Durable when it returns.
  absl::Status Mark(RowStoreId row_store) const;
  absl::Status Unmark(RowStoreId row_store) const;
  absl::StatusOr<std::vector<RowStoreId>> Marked() const;

 private:
  absl::StatusOr<std::vector<std::string>> Names() const;
  absl::Status SyncNames() const;

  const std::string path_;
  Files& files_;
};

// Removes a folder and all that is in it; symbolic links are removed and not followed.
absl::Status RemoveTree(const std::string& path, Files& files);

// Length and checksum of a file, as a manifest has them. Errors of OpenToRead and of `cancel`.
absl::StatusOr<SnapshotFile> ChecksumOf(const std::string& path, std::string name, Files& files,
                                        const CancelToken& cancel);

// Looks at every file of the manifest without reading it: that it is there, a regular file and as
// long as it should be; and that rocks/ has no others, which RocksDB would read. The first problem,
// as DataLoss (InvalidArgument: not a regular file).
absl::Status CheckSnapshotFiles(const std::string& folder, const SnapshotManifest& manifest,
                                Files& files);

// Reads a file and compares it with the manifest. DataLoss, InvalidArgument, those of `cancel`.
absl::Status VerifySnapshotFile(const std::string& folder, const SnapshotFile& file, Files& files,
                                const CancelToken& cancel);

// Asked before each piece of a copy is written, of a MiB at most; an error ends the copy. Null: all
// are.
using AdmitPiece = std::function<absl::Status()>;

// Copies a file while it is compared with the manifest; the copy, which must not exist, is synced
// but its name is not. `begin` takes the place of as many bytes at the beginning. On an error it is
// removed.
absl::Status CopySnapshotFile(const std::string& folder, const SnapshotFile& file,
                              const std::string& to, std::span<const std::byte> begin, Files& files,
                              const CancelToken& cancel, const AdmitPiece& admit = nullptr);

// A second name for a file that never changes, or a synced copy of it where the file system has no
// second names.
absl::Status LinkOrCopy(const std::string& from, const std::string& to, Files& files,
                        const CancelToken& cancel, const AdmitPiece& admit = nullptr);

}  // namespace azimuth::storage
