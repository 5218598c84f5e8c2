// The only place of open, write, fsync, rename, unlink and readdir. Every error carries the path
// and the system's reason.
//
// Codes: NotFound (ENOENT), ResourceExhausted (ENOSPC, EDQUOT, EMFILE, ENFILE), FailedPrecondition
// (EACCES, EPERM, EROFS, a lock that is held), else Unavailable.
// Thread safety: functions are independent; a WritableFile has one owner.
#pragma once

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::storage {

// A new file that is written from front to back. Short writes and EINTR are handled.
class WritableFile final {
 public:
  // Makes `path`, which must not exist (AlreadyExists).
  static absl::StatusOr<WritableFile> Create(const std::string& path);
  WritableFile(WritableFile&& other) noexcept;
  WritableFile& operator=(WritableFile&& other) noexcept;
  ~WritableFile();  // Closes; what was not synced may be lost.

  absl::Status Append(std::span<const std::byte> bytes);
  absl::Status Sync();                     // fsync.
  absl::Status Close();                    // No use after it.
  uint64_t size() const { return size_; }  // Bytes appended so far.

 private:
  WritableFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string path_;
};

// Holds an exclusive flock on a file for its life.
class FileLock final {
 public:
  // Makes the file if needed. FailedPrecondition if another process holds it.
  static absl::StatusOr<FileLock> Acquire(const std::string& path);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

// The whole file. ResourceExhausted if it is longer than 16 MiB.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path);
// Writes `path` so that after a crash it has the old content or the new: temporary file, fsync,
// rename, fsync of the directory.
absl::Status WriteFileAtomically(const std::string& path, std::string_view content);
absl::Status RenameFile(const std::string& from, const std::string& to);
absl::Status RemoveFile(const std::string& path);  // NotFound is an error.
absl::Status SyncDirectory(const std::string& path);
// The directory that holds `path`: "/a" of "/a/b" and "/a/b/", "." of "b".
std::string ParentDirectory(std::string_view path);
// Makes one directory (its parent must exist); OK if it is there.
absl::Status MakeDirectory(const std::string& path);
// Names in the directory, sorted, without . and ..
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);
absl::StatusOr<uint64_t> FileSize(const std::string& path);

// A file mapped for reading.
class MappedFile final {
 public:
  // The length is taken once; a file that shrinks later is a fault that only the system can report.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Page-aligned; empty for an empty file.
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace azimuth::storage
