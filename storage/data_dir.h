// DataDir: the data directory of one server: its lock, its format version and where things lie.
//
//   LOCK           held by the running server (flock)
//   FORMAT         text: version, instance, incarnation (docs/FORMATS.md, "Data directory")
//   WATERMARK      the last commit known to be synced (storage/watermark.h)
//   BALLAST        blocks to give up when the disk is full (storage/ballast.h)
//   rocks/         RocksDB: catalog, rows, vectors, keys: the only source of truth
//   segments/      segment files, named by id; all of them can be made again from rocks/
//   quarantine/    segment files that failed a check, set aside
//   snapshots/     snapshots (storage/snapshot_folder.h); made with the first one
//
// Thread safety: immutable but for ChangeIncarnation, which nobody may call while others read.
#pragma once

#include "base/ids.h"
#include "storage/file.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace azimuth::storage {

// From `random`, or from the system if that is empty.
uint64_t RandomNumber(const std::function<uint64_t()>& random);

// Writes a FORMAT for a directory that is made out of files of `instance`, with a new incarnation.
absl::Status WriteFormatOf(uint64_t instance, const std::string& path, Files& files,
                           const std::function<uint64_t()>& random);

class DataDir final {
 public:
  // Locks the directory (made if missing; its parent must exist), then reads or writes FORMAT.
  // Errors: FailedPrecondition (in use by another server; a newer format; not ours and not empty:
  // nothing is touched), DataLoss (FORMAT unreadable). `files` outlives the DataDir. Incarnation
  // and instance of a new directory are from `random`, or from the system if that is empty.
  static absl::StatusOr<DataDir> Open(const std::string& path, Files& files = Files::Posix(),
                                      const std::function<uint64_t()>& random = {});
  // The same for a look that changes nothing: the directory, LOCK and FORMAT must be there
  // (NotFound; FailedPrecondition if it is not ours), an older format is not upgraded
  // (format_version() says it), no folder is made.
  static absl::StatusOr<DataDir> OpenToRead(const std::string& path, Files& files = Files::Posix());

  Files& files() const { return *files_; }
  const std::string& path() const { return path_; }
  // A random number that files of this directory carry; it stays for the directory's life.
  uint64_t instance() const { return instance_; }
  // A random number that a restore or an accepted loss changes: sequence numbers and cursors of
  // another one mean nothing here.
  uint64_t incarnation() const { return incarnation_; }
  // That is in force: after Open the newest, after OpenToRead that of FORMAT.
  uint32_t format_version() const { return version_; }
  // That of FORMAT before; that in force if the directory is new.
  uint32_t found_version() const { return found_version_; }
  // Writes FORMAT with a new incarnation, atomically. REQUIRES: not from OpenToRead.
  absl::Status ChangeIncarnation(const std::function<uint64_t()>& random = {});
  std::string watermark_path() const { return path_ + "/WATERMARK"; }
  std::string ballast_path() const { return path_ + "/BALLAST"; }
  std::string rocks_path() const { return path_ + "/rocks"; }
  std::string segments_path() const { return path_ + "/segments"; }
  std::string segment_path(SegmentId id) const;
  // True for a name in segments/ that we give, also to a file that is not finished.
  static bool IsSegmentName(std::string_view name);
  std::string quarantine_path() const { return path_ + "/quarantine"; }
  std::string snapshots_path() const { return path_ + "/snapshots"; }

 private:
  DataDir(Files& files, std::string path, std::unique_ptr<FileLock> lock)
      : files_(&files), path_(std::move(path)), lock_(std::move(lock)) {}
  Files* files_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  uint32_t version_ = 0;
  uint32_t found_version_ = 0;
  uint64_t instance_ = 0;
  uint64_t incarnation_ = 0;
};

}  // namespace azimuth::storage
