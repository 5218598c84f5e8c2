// DataDir: the data directory of one server: its lock, its format version and where things lie.
//
//   LOCK           held by the running server (flock)
//   FORMAT         text: format version and incarnation (docs/FORMATS.md, "Data directory")
//   rocks/         RocksDB: catalog, rows, vectors, keys: the only source of truth
//   segments/      segment files, named by id; all of them can be made again from rocks/
//   quarantine/    segment files that failed a check, set aside
//
// Thread safety: immutable after Open.
#pragma once

#include "base/ids.h"
#include "storage/file.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace azimuth::storage {

class DataDir final {
 public:
  // Locks the directory (made if missing; its parent must exist), then reads or writes FORMAT.
  // Errors: FailedPrecondition (in use by another server; a newer format; not ours and not empty:
  // nothing is touched), DataLoss (FORMAT unreadable). `files` outlives the DataDir. The
  // incarnation of a new directory is from `random`, or from the system if that is empty.
  static absl::StatusOr<DataDir> Open(const std::string& path, Files& files = Files::Posix(),
                                      const std::function<uint64_t()>& random = {});

  Files& files() const { return *files_; }
  const std::string& path() const { return path_; }
  // A random number that a restore or an accepted loss changes.
  uint64_t incarnation() const { return incarnation_; }
  std::string rocks_path() const { return path_ + "/rocks"; }
  std::string segments_path() const { return path_ + "/segments"; }
  std::string segment_path(SegmentId id) const;
  std::string quarantine_path() const { return path_ + "/quarantine"; }

 private:
  DataDir(Files& files, std::string path, std::unique_ptr<FileLock> lock, uint64_t incarnation)
      : files_(&files), path_(std::move(path)), lock_(std::move(lock)), incarnation_(incarnation) {}
  Files* files_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  uint64_t incarnation_ = 0;
};

}  // namespace azimuth::storage
