#include "storage/rocks_files.h"

#include "base/failpoint.h"
#include "storage/file.h"

#include "rocksdb/file_system.h"

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace azimuth::storage {
namespace {

// RocksDB's text log, LOG. A line that is lost does no harm, but RocksDB counts on every write to
// it: with assertions compiled in, the write after one that failed (a full disk) ends the process.
class TextLogFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using FSWritableFileOwnerWrapper::Append;
  using FSWritableFileOwnerWrapper::FSWritableFileOwnerWrapper;
  using FSWritableFileOwnerWrapper::PositionedAppend;

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    return Ignore(target()->Append(data, options, debug));
  }
  rocksdb::IOStatus PositionedAppend(const rocksdb::Slice& data, uint64_t offset,
                                     const rocksdb::IOOptions& options,
                                     rocksdb::IODebugContext* debug) override {
    return Ignore(target()->PositionedAppend(data, offset, options, debug));
  }
  rocksdb::IOStatus Flush(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return Ignore(target()->Flush(options, debug));
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) override {
    return Ignore(target()->Sync(options, debug));
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return Ignore(target()->Fsync(options, debug));
  }
  rocksdb::IOStatus RangeSync(uint64_t offset, uint64_t bytes, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* debug) override {
    return Ignore(target()->RangeSync(offset, bytes, options, debug));
  }
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return Ignore(target()->Close(options, debug));
  }

 private:
  static rocksdb::IOStatus Ignore(const rocksdb::IOStatus& status) {
    status.PermitUncheckedError();
    return rocksdb::IOStatus::OK();
  }
};

// A sync that failed, as an error for good: RocksDB goes on by itself after a full disk, but nobody
// knows any more what of the file is on disk.
rocksdb::IOStatus ForGood(const rocksdb::IOStatus& status) {
  if (!status.IsNoSpace()) return status;
  return rocksdb::IOStatus::IOError("a sync failed", status.ToString());
}

// A write-ahead log.
class LogFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using FSWritableFileOwnerWrapper::FSWritableFileOwnerWrapper;

  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) override {
#ifdef AZ_FAILPOINTS_ENABLED
    // A place to die between the last write and its sync.
    if (const absl::Status status = VisitFailpoint(Failpoint::kLogBeforeSync); !status.ok()) {
      return rocksdb::IOStatus::IOError(std::string(status.message()));
    }
#endif
    return ForGood(target()->Sync(options, debug));
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return ForGood(target()->Fsync(options, debug));
  }
};

// `path` as RocksDB has it: names of files follow a slash.
std::string WithoutSlash(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return std::string(path);
}

// Whether the manifest on disk may be another one than RocksDB takes it for. Thread safety: all.
class ManifestDoubt final {
 public:
  // About the manifest in `folder`. What happens in other folders does not matter.
  explicit ManifestDoubt(std::string_view folder) : folder_(WithoutSlash(folder)) {}

  void Raise(std::string_view folder) {
    if (IsOurs(folder)) stands_.store(true);
  }
  void Settle(std::string_view folder) {
    if (IsOurs(folder)) stands_.store(false);
  }
  bool stands() const { return stands_.load(); }
  // The manifest may name the file.
  bool Keeps(std::string_view path) const {
    return stands() && path.ends_with(".sst") && IsOurs(ParentDirectory(path));
  }

 private:
  bool IsOurs(std::string_view folder) const { return WithoutSlash(folder) == folder_; }

  const std::string folder_;
  std::atomic<bool> stands_{false};
};

class ManifestFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  ManifestFile(std::unique_ptr<rocksdb::FSWritableFile> target, std::string folder,
               std::shared_ptr<ManifestDoubt> doubt)
      : FSWritableFileOwnerWrapper(std::move(target)),
        folder_(std::move(folder)),
        doubt_(std::move(doubt)) {}

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    return Look(target()->Append(data, options, debug));
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& info,
                           rocksdb::IODebugContext* debug) override {
    return Look(target()->Append(data, options, info, debug));
  }
  rocksdb::IOStatus Flush(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return Look(target()->Flush(options, debug));
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) override {
    return Look(target()->Sync(options, debug));
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return Look(target()->Fsync(options, debug));
  }
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return Look(target()->Close(options, debug));
  }

 private:
  rocksdb::IOStatus Look(rocksdb::IOStatus status) const {
    if (!status.ok()) doubt_->Raise(folder_);
    return status;
  }

  const std::string folder_;
  const std::shared_ptr<ManifestDoubt> doubt_;
};

// A directory, that of the database as a rule: its sync stands behind the names of logs, and behind
// CURRENT.
class Directory final : public rocksdb::FSDirectoryWrapper {
 public:
  Directory(std::unique_ptr<rocksdb::FSDirectory> target, std::string path,
            std::shared_ptr<ManifestDoubt> doubt)
      : FSDirectoryWrapper(std::move(target)), path_(std::move(path)), doubt_(std::move(doubt)) {}

  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return Look(FSDirectoryWrapper::Fsync(options, debug));
  }
  rocksdb::IOStatus FsyncWithDirOptions(const rocksdb::IOOptions& options,
                                        rocksdb::IODebugContext* debug,
                                        const rocksdb::DirFsyncOptions& sync_options) override {
    return Look(FSDirectoryWrapper::FsyncWithDirOptions(options, debug, sync_options));
  }

 private:
  rocksdb::IOStatus Look(const rocksdb::IOStatus& status) const {
    if (!status.ok()) doubt_->Raise(path_);
    return ForGood(status);
  }

  const std::string path_;
  const std::shared_ptr<ManifestDoubt> doubt_;
};

// A table whose bytes the disk cannot read is a damaged table: the blocks that can be read are
// still answered from. (RocksDB would take an error of reading in a merge for one of writing, and
// stop all writes.)
class TableFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  using FSRandomAccessFileOwnerWrapper::FSRandomAccessFileOwnerWrapper;

  rocksdb::IOStatus Read(uint64_t offset, size_t n, const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* debug) const override {
    return AsDamage(target()->Read(offset, n, options, result, scratch, debug));
  }
  rocksdb::IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->MultiRead(requests, count, options, debug);
    for (size_t i = 0; i < count; ++i) requests[i].status = AsDamage(requests[i].status);
    return AsDamage(status);
  }

 private:
  static rocksdb::IOStatus AsDamage(const rocksdb::IOStatus& status) {
    if (!status.IsIOError()) return status;
    return rocksdb::IOStatus::Corruption("cannot be read", status.ToString());
  }
};

// What is said in rocks_files.h.
class OrderedFiles final : public rocksdb::FileSystemWrapper {
 public:
  // `logs`: the text log goes through here; else it is what `target` makes of it.
  OrderedFiles(const std::shared_ptr<rocksdb::FileSystem>& target, const std::string& folder,
               bool logs)
      : FileSystemWrapper(target), logs_(logs), doubt_(std::make_shared<ManifestDoubt>(folder)) {}

  const char* Name() const override { return "azimuth.OrderedFiles"; }

  rocksdb::IOStatus NewRandomAccessFile(const std::string& path,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                        rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->NewRandomAccessFile(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<TableFile>(std::move(*result));
    return status;
  }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->NewWritableFile(path, options, result, debug);
    if (!status.ok()) return status;
    if (path.ends_with("/LOG")) *result = std::make_unique<TextLogFile>(std::move(*result));
    if (path.ends_with(".log")) *result = std::make_unique<LogFile>(std::move(*result));
    if (path.find("/MANIFEST-") != std::string::npos) {
      *result = std::make_unique<ManifestFile>(std::move(*result), ParentDirectory(path), doubt_);
    }
    return status;
  }

  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    if (doubt_->Keeps(path)) return rocksdb::IOStatus::OK();
    return target()->DeleteFile(path, options, debug);
  }

  // RocksDB's text log by way of the above: the wrapper's own has the target open the file.
  rocksdb::IOStatus NewLogger(const std::string& path, const rocksdb::IOOptions& options,
                              std::shared_ptr<rocksdb::Logger>* result,
                              rocksdb::IODebugContext* debug) override {
    return logs_ ? FileSystem::NewLogger(path, options, result, debug)
                 : target()->NewLogger(path, options, result, debug);
  }

  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = target()->NewDirectory(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<Directory>(std::move(*result), path, doubt_);
    return status;
  }

  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    constexpr std::string_view kCurrent = "/CURRENT";
    if (!to.ends_with(kCurrent)) return target()->RenameFile(from, to, options, debug);
    const std::string parent = to.substr(0, to.size() - kCurrent.size());
    std::unique_ptr<rocksdb::FSDirectory> directory;
    rocksdb::IOStatus status = target()->NewDirectory(parent, options, &directory, debug);
    const auto sync = [&] {
      return directory->FsyncWithDirOptions(options, debug, rocksdb::DirFsyncOptions());
    };
    if (status.ok()) status = sync();
    if (!status.ok()) return status;
    status = target()->RenameFile(from, to, options, debug);
    if (!status.ok()) {
      doubt_->Raise(parent);
    } else if (doubt_->stands()) {
      // Tables are removed again as soon as a power failure cannot bring the old manifest back.
      status = sync();
      if (status.ok()) doubt_->Settle(parent);
    }
    return status;
  }

 private:
  const bool logs_;
  const std::shared_ptr<ManifestDoubt> doubt_;
};

// RocksDB asks an Env for its files and its clock, and the rest of it for threads.
class OrderedEnv final : public rocksdb::EnvWrapper {
 public:
  OrderedEnv(rocksdb::Env* base, const std::string& folder, bool logs) : EnvWrapper(base) {
    file_system_ = std::make_shared<OrderedFiles>(base->GetFileSystem(), folder, logs);
    system_clock_ = base->GetSystemClock();
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> MakeOrderedEnv(rocksdb::Env* base, const std::string& folder) {
  return base != nullptr
             ? std::make_unique<OrderedEnv>(base, folder, /*logs=*/false)
             : std::make_unique<OrderedEnv>(rocksdb::Env::Default(), folder, /*logs=*/true);
}

}  // namespace azimuth::storage
