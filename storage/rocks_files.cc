#include "storage/rocks_files.h"

#include "base/failpoint.h"

#include "rocksdb/file_system.h"

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

// The database's directory: its sync stands behind the names of logs.
class Directory final : public rocksdb::FSDirectoryWrapper {
 public:
  using FSDirectoryWrapper::FSDirectoryWrapper;

  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return ForGood(FSDirectoryWrapper::Fsync(options, debug));
  }
  rocksdb::IOStatus FsyncWithDirOptions(const rocksdb::IOOptions& options,
                                        rocksdb::IODebugContext* debug,
                                        const rocksdb::DirFsyncOptions& sync_options) override {
    return ForGood(FSDirectoryWrapper::FsyncWithDirOptions(options, debug, sync_options));
  }
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
  OrderedFiles(const std::shared_ptr<rocksdb::FileSystem>& target, bool logs)
      : FileSystemWrapper(target), logs_(logs) {}

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
    return status;
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
    if (status.ok()) *result = std::make_unique<Directory>(std::move(*result));
    return status;
  }

  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    constexpr std::string_view kCurrent = "/CURRENT";
    if (to.ends_with(kCurrent)) {
      const std::string parent = to.substr(0, to.size() - kCurrent.size());
      std::unique_ptr<rocksdb::FSDirectory> directory;
      rocksdb::IOStatus status = target()->NewDirectory(parent, options, &directory, debug);
      if (status.ok()) {
        status = directory->FsyncWithDirOptions(options, debug, rocksdb::DirFsyncOptions());
      }
      if (!status.ok()) return status;
    }
    return target()->RenameFile(from, to, options, debug);
  }

 private:
  const bool logs_;
};

// RocksDB asks an Env for its files and its clock, and the rest of it for threads.
class OrderedEnv final : public rocksdb::EnvWrapper {
 public:
  OrderedEnv(rocksdb::Env* base, bool logs) : EnvWrapper(base) {
    file_system_ = std::make_shared<OrderedFiles>(base->GetFileSystem(), logs);
    system_clock_ = base->GetSystemClock();
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> MakeOrderedEnv(rocksdb::Env* base) {
  return base != nullptr ? std::make_unique<OrderedEnv>(base, /*logs=*/false)
                         : std::make_unique<OrderedEnv>(rocksdb::Env::Default(), /*logs=*/true);
}

}  // namespace azimuth::storage
