// Files: the file system as the storage layer uses it, an interface so that tests can put a
// simulated disk under the whole database.
//
// Files::Posix() is the real one; its code in file.cc is the only place of open, write, fsync,
// rename, unlink and readdir. Every error carries the path and the reason.
//
// Codes: NotFound (ENOENT), ResourceExhausted (ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM, EAGAIN),
// PermissionDenied (EACCES, EPERM, EROFS), FailedPrecondition (a lock that is held), DataLoss (EIO
// of open for reading, read, map, list, inspect: the bytes cannot be had), else Unavailable.
// Ownership: handles are the caller's and die before their Files; a Files is borrowed by all that
// take one, and outlives them.
// Thread safety: Files may be used from any number of threads; a WritableFile has one owner.
#pragma once

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rocksdb {
class Env;
}  // namespace rocksdb

namespace azimuth::storage {

// A new file that is written from front to back. Its destructor closes it; what was not synced may
// be lost.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  WritableFile(const WritableFile&) = delete;
  WritableFile& operator=(const WritableFile&) = delete;

  // All of it, or an error.
  virtual absl::Status Append(std::span<const std::byte> bytes) = 0;
  virtual absl::Status Sync() = 0;    // fsync. Not again after a failure.
  virtual absl::Status Close() = 0;   // No use after it.
  virtual uint64_t size() const = 0;  // Bytes appended so far.

 protected:
  WritableFile() = default;
};

// Holds an exclusive lock on a file for its life.
class FileLock {
 public:
  virtual ~FileLock() = default;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 protected:
  FileLock() = default;
};

// The bytes of a file as they were when it was mapped.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Page-aligned; empty for an empty file. A page that the disk cannot read, or that was cut off
  // meanwhile, ends the process by SIGBUS where it is touched.
  std::span<const std::byte> bytes() const { return bytes_; }
  // Reads bytes() [offset, offset + count), so that they can be touched. DataLoss if they cannot be
  // read, or the file is not the one that was mapped; ResourceExhausted. REQUIRES: they lie in
  // bytes().
  virtual absl::Status Load(uint64_t /*offset*/, uint64_t /*count*/) const {
    return absl::OkStatus();
  }
  // Gives back the memory of bytes() [offset, offset + count) that the mapping holds; they can be
  // touched as before.
  virtual void Release(uint64_t /*offset*/, uint64_t /*count*/) const {}

 protected:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

 private:
  std::span<const std::byte> bytes_;
};

// A file whose bytes are replaced in place. Its destructor closes it.
class UpdatableFile {
 public:
  virtual ~UpdatableFile() = default;
  UpdatableFile(const UpdatableFile&) = delete;
  UpdatableFile& operator=(const UpdatableFile&) = delete;

  // All of it, or an error. The file grows to hold it. What was there may be torn by a power
  // failure until the next Sync.
  virtual absl::Status WriteAt(uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual absl::Status Sync() = 0;  // fdatasync. Not again after a failure.

 protected:
  UpdatableFile() = default;
};

// A file that is read at any place. Its destructor closes it.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  ReadableFile(const ReadableFile&) = delete;
  ReadableFile& operator=(const ReadableFile&) = delete;

  // Fills `out` from `offset` on; returns how many bytes there were, fewer at the end only.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) const = 0;
  virtual uint64_t size() const = 0;  // When it was opened.

 protected:
  ReadableFile() = default;
};

// What stands under a name.
enum class FileKind {
  kFile,
  kDirectory,
  kOther,  // A symbolic link, a device, a pipe, a socket.
};

// The file system that a path lies in.
struct DiskSpace {
  uint64_t capacity_bytes = 0;
  uint64_t free_bytes = 0;  // For us: without what is reserved for root.
  bool network = false;     // NFS, SMB, FUSE and their like: locks and syncs may mean nothing.
};

class Files {
 public:
  // That of the system; lives for ever.
  static Files& Posix();

  virtual ~Files() = default;
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  // Makes `path`, which must not exist (AlreadyExists).
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  // Makes the file if needed. FailedPrecondition if another process holds it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
  // The length is taken once; a file that shrinks later is a fault that only the system can report.
  virtual absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) = 0;
  // For files that came from elsewhere: InvalidArgument if it is not a regular file. A symbolic
  // link is not followed, and a pipe not waited for.
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> OpenToRead(const std::string& path) = 0;
  // Of the name itself: a symbolic link is not followed.
  virtual absl::StatusOr<FileKind> KindOf(const std::string& path) = 0;
  // The whole file. ResourceExhausted if it is longer than 16 MiB.
  virtual absl::StatusOr<std::string> ReadSmall(const std::string& path) = 0;
  virtual absl::StatusOr<uint64_t> Size(const std::string& path) = 0;
  // Makes the file if needed; its content stays.
  virtual absl::StatusOr<std::unique_ptr<UpdatableFile>> OpenForUpdate(const std::string& path) = 0;
  // Makes a file of `bytes` bytes whose blocks are taken from the disk, in place of what is there.
  // On an error nothing is left of it.
  virtual absl::Status Allocate(const std::string& path, uint64_t bytes) = 0;
  virtual absl::StatusOr<DiskSpace> Space(const std::string& path) = 0;
  // Names in the directory, sorted, without . and ..
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;  // NotFound is an error.
  // Gives the file another name, which must not exist (AlreadyExists). Unimplemented if the file
  // system has no second names, or no more of them.
  virtual absl::Status Link(const std::string& from, const std::string& to) = 0;
  virtual absl::Status RemoveDir(const std::string& path) = 0;  // An empty one.
  // Makes one directory (its parent must exist); OK if it is there.
  virtual absl::Status MakeDir(const std::string& path) = 0;
  // What was made, renamed and removed in the directory survives a power failure after this.
  virtual absl::Status SyncDir(const std::string& path) = 0;

  // What RocksDB reads and writes its files through; null for RocksDB's own.
  virtual rocksdb::Env* rocks_env() { return nullptr; }

 protected:
  Files() = default;
};

// The same as functions.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, Files& files = Files::Posix());
absl::Status RenameFile(const std::string& from, const std::string& to,
                        Files& files = Files::Posix());
absl::Status RemoveFile(const std::string& path, Files& files = Files::Posix());
absl::Status SyncDirectory(const std::string& path, Files& files = Files::Posix());
absl::Status MakeDirectory(const std::string& path, Files& files = Files::Posix());
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path,
                                                       Files& files = Files::Posix());
absl::StatusOr<uint64_t> FileSize(const std::string& path, Files& files = Files::Posix());

// Writes `path` so that after a crash it has the old content or the new: temporary file, fsync,
// rename, fsync of the directory.
absl::Status WriteFileAtomically(const std::string& path, std::string_view content,
                                 Files& files = Files::Posix());
// The directory that holds `path`: "/a" of "/a/b" and "/a/b/", "." of "b".
std::string ParentDirectory(std::string_view path);

}  // namespace azimuth::storage
