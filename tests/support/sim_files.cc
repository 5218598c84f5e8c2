#include "tests/support/sim_files.h"

#include "base/mutex.h"
#include "base/status.h"
#include "tests/support/sim_disk.h"

#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "rocksdb/system_clock.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::testing {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

constexpr size_t kSmallFileBytesMax = size_t{16} << 20;

// An open file: what every handle has.
struct Handle {
  SimDisk& disk;
  SimDisk::Process process;
  SimDisk::Node node;
  std::string path;
};

class SimWritable final : public storage::WritableFile {
 public:
  explicit SimWritable(Handle file) : file_(std::move(file)) {}
  absl::Status Append(std::span<const std::byte> bytes) override {
    AZ_RETURN_IF_ERROR(
        file_.disk.Append(file_.process, file_.node, file_.path,
                          {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
    size_ += bytes.size();
    return absl::OkStatus();
  }
  absl::Status Sync() override { return file_.disk.Sync(file_.process, file_.node, file_.path); }
  absl::Status Close() override { return file_.disk.Size(file_.process, file_.node).status(); }
  uint64_t size() const override { return size_; }

 private:
  Handle file_;
  uint64_t size_ = 0;
};

class SimUpdatable final : public storage::UpdatableFile {
 public:
  explicit SimUpdatable(Handle file) : file_(std::move(file)) {}
  absl::Status WriteAt(uint64_t offset, std::span<const std::byte> bytes) override {
    return file_.disk.WriteAt(file_.process, file_.node, file_.path, offset,
                              {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  absl::Status Sync() override { return file_.disk.Sync(file_.process, file_.node, file_.path); }

 private:
  Handle file_;
};

class SimReadable final : public storage::ReadableFile {
 public:
  SimReadable(Handle file, uint64_t size) : file_(std::move(file)), size_(size) {}
  absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    return file_.disk.Read(file_.process, file_.node, offset, out.size(),
                           reinterpret_cast<char*>(out.data()));
  }
  uint64_t size() const override { return size_; }

 private:
  Handle file_;
  const uint64_t size_;
};

class SimLock final : public storage::FileLock, public rocksdb::FileLock {
 public:
  SimLock(SimDisk& disk, SimDisk::Process process, std::string path)
      : disk_(disk), process_(process), path_(std::move(path)) {}
  ~SimLock() override { disk_.Unlock(process_, path_); }

 private:
  SimDisk& disk_;
  const SimDisk::Process process_;
  const std::string path_;
};

class SimMapped final : public storage::MappedFile {
 public:
  explicit SimMapped(std::shared_ptr<const SimPages> pages)
      : MappedFile(pages->bytes()), pages_(std::move(pages)) {}

 private:
  std::shared_ptr<const SimPages> pages_;
};

// RocksDB's view.

IOStatus ToRocks(const absl::Status& status) {
  if (status.ok()) return IOStatus::OK();
  const std::string text(status.message());
  if (absl::IsResourceExhausted(status)) return IOStatus::NoSpace(text);
  return absl::IsNotFound(status) ? IOStatus::PathNotFound(text) : IOStatus::IOError(text);
}

class RocksSequential final : public rocksdb::FSSequentialFile {
 public:
  explicit RocksSequential(Handle file) : file_(std::move(file)) {}
  IOStatus Read(size_t n, const IOOptions& /*options*/, rocksdb::Slice* result, char* scratch,
                IODebugContext* /*dbg*/) override {
    const auto count = file_.disk.Read(file_.process, file_.node, offset_, n, scratch);
    *result = rocksdb::Slice(scratch, count.value_or(0));
    offset_ += count.value_or(0);
    return ToRocks(count.status());
  }
  IOStatus Skip(uint64_t n) override {
    offset_ += n;
    return IOStatus::OK();
  }

 private:
  Handle file_;
  uint64_t offset_ = 0;
};

class RocksRandomAccess final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RocksRandomAccess(Handle file) : file_(std::move(file)) {}
  IOStatus Read(uint64_t offset, size_t n, const IOOptions& /*options*/, rocksdb::Slice* result,
                char* scratch, IODebugContext* /*dbg*/) const override {
    const auto count = file_.disk.Read(file_.process, file_.node, offset, n, scratch);
    *result = rocksdb::Slice(scratch, count.value_or(0));
    return ToRocks(count.status());
  }

 private:
  Handle file_;
};

class RocksWritable final : public rocksdb::FSWritableFile {
 public:
  explicit RocksWritable(Handle file) : file_(std::move(file)) {}
  using rocksdb::FSWritableFile::Append;
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& /*options*/,
                  IODebugContext* /*dbg*/) override {
    return ToRocks(
        file_.disk.Append(file_.process, file_.node, file_.path, {data.data(), data.size()}));
  }
  IOStatus Truncate(uint64_t size, const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return ToRocks(file_.disk.Truncate(file_.process, file_.node, file_.path, size));
  }
  IOStatus Close(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return ToRocks(file_.disk.Size(file_.process, file_.node).status());
  }
  IOStatus Flush(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }
  IOStatus Sync(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return ToRocks(file_.disk.Sync(file_.process, file_.node, file_.path));
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return file_.disk.Size(file_.process, file_.node).value_or(0);
  }

 private:
  Handle file_;
};

class RocksDirectory final : public rocksdb::FSDirectory {
 public:
  RocksDirectory(SimDisk& disk, SimDisk::Process process, std::string path)
      : disk_(disk), process_(process), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return ToRocks(disk_.SyncDir(process_, path_));
  }
  IOStatus Close(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }

 private:
  SimDisk& disk_;
  const SimDisk::Process process_;
  const std::string path_;
};

class NoLogger final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
  void Logv(rocksdb::InfoLogLevel /*level*/, const char* /*format*/,
            va_list /*arguments*/) override {}
  size_t GetLogFileSize() const override { return 0; }
};

class RocksFiles final : public rocksdb::FileSystem {
 public:
  RocksFiles(SimDisk& disk, SimDisk::Process process) : disk_(disk), process_(process) {}
  const char* Name() const override { return "SimFiles"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions& /*options*/,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result,
                             IODebugContext* /*dbg*/) override {
    return Wrap<RocksSequential>(disk_.Open(process_, path), path, result);
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions& /*options*/,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                               IODebugContext* /*dbg*/) override {
    return Wrap<RocksRandomAccess>(disk_.Open(process_, path), path, result);
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions& /*options*/,
                           std::unique_ptr<rocksdb::FSWritableFile>* result,
                           IODebugContext* /*dbg*/) override {
    return Wrap<RocksWritable>(disk_.Create(process_, path, /*replace=*/true), path, result);
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* result,
                              IODebugContext* dbg) override {
    const absl::StatusOr<SimDisk::Node> node = disk_.Open(process_, path);
    if (absl::IsNotFound(node.status())) return NewWritableFile(path, options, result, dbg);
    return Wrap<RocksWritable>(node, path, result);
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& /*options*/,
                        std::unique_ptr<rocksdb::FSDirectory>* result,
                        IODebugContext* /*dbg*/) override {
    const absl::StatusOr<bool> is_directory = disk_.IsDirectory(process_, path);
    if (!is_directory.ok()) return ToRocks(is_directory.status());
    *result = std::make_unique<RocksDirectory>(disk_, process_, path);
    return IOStatus::OK();
  }
  IOStatus FileExists(const std::string& path, const IOOptions& /*options*/,
                      IODebugContext* /*dbg*/) override {
    const absl::Status status = disk_.IsDirectory(process_, path).status();
    return absl::IsNotFound(status) ? IOStatus::NotFound(path) : ToRocks(status);
  }
  IOStatus GetChildren(const std::string& path, const IOOptions& /*options*/,
                       std::vector<std::string>* result, IODebugContext* /*dbg*/) override {
    absl::StatusOr<std::vector<std::string>> names = disk_.List(process_, path);
    if (!names.ok()) {
      return absl::IsNotFound(names.status()) ? IOStatus::NotFound(path) : ToRocks(names.status());
    }
    *result = *std::move(names);
    return IOStatus::OK();
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions& /*options*/,
                      IODebugContext* /*dbg*/) override {
    return ToRocks(disk_.Remove(process_, path));
  }
  IOStatus CreateDir(const std::string& path, const IOOptions& /*options*/,
                     IODebugContext* /*dbg*/) override {
    return ToRocks(disk_.MakeDir(process_, path));
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions& /*options*/,
                              IODebugContext* /*dbg*/) override {
    const absl::Status status = disk_.MakeDir(process_, path);
    if (!absl::IsAlreadyExists(status)) return ToRocks(status);
    if (disk_.IsDirectory(process_, path).value_or(false)) return IOStatus::OK();
    return IOStatus::IOError(path + " is not a directory");
  }
  IOStatus DeleteDir(const std::string& path, const IOOptions& /*options*/,
                     IODebugContext* /*dbg*/) override {
    return ToRocks(disk_.Remove(process_, path));
  }
  IOStatus GetFileSize(const std::string& path, const IOOptions& /*options*/, uint64_t* size,
                       IODebugContext* /*dbg*/) override {
    const absl::StatusOr<SimDisk::Node> node = disk_.Open(process_, path);
    if (!node.ok()) return ToRocks(node.status());
    const absl::StatusOr<uint64_t> bytes = disk_.Size(process_, *node);
    *size = bytes.value_or(0);
    return ToRocks(bytes.status());
  }
  // No clock here: all files are of the same age.
  IOStatus GetFileModificationTime(const std::string& path, const IOOptions& /*options*/,
                                   uint64_t* time, IODebugContext* /*dbg*/) override {
    *time = 0;
    return ToRocks(disk_.IsDirectory(process_, path).status());
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& /*options*/,
                      IODebugContext* /*dbg*/) override {
    return ToRocks(disk_.Rename(process_, from, to));
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& /*options*/,
                    IODebugContext* /*dbg*/) override {
    return ToRocks(disk_.Link(process_, from, to));
  }
  IOStatus LockFile(const std::string& path, const IOOptions& /*options*/, rocksdb::FileLock** lock,
                    IODebugContext* /*dbg*/) override {
    const absl::Status status = disk_.Lock(process_, path);
    // RocksDB's interface is a bare pointer, which UnlockFile takes back.
    *lock = status.ok() ? std::make_unique<SimLock>(disk_, process_, path).release() : nullptr;
    return ToRocks(status);
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions& /*options*/,
                      IODebugContext* /*dbg*/) override {
    const std::unique_ptr<rocksdb::FileLock> owned(lock);
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions& /*options*/, std::string* path,
                            IODebugContext* /*dbg*/) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus NewLogger(const std::string& /*path*/, const IOOptions& /*options*/,
                     std::shared_ptr<rocksdb::Logger>* result, IODebugContext* /*dbg*/) override {
    *result = std::make_shared<NoLogger>();
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions& /*options*/,
                           std::string* result, IODebugContext* /*dbg*/) override {
    *result = path;
    return IOStatus::OK();
  }
  IOStatus GetFreeSpace(const std::string& path, const IOOptions& /*options*/, uint64_t* bytes,
                        IODebugContext* /*dbg*/) override {
    const absl::StatusOr<storage::DiskSpace> space = disk_.Space(process_, path);
    *bytes = space.ok() ? space->free_bytes : 0;
    return ToRocks(space.status());
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions& /*options*/, bool* result,
                       IODebugContext* /*dbg*/) override {
    const absl::StatusOr<bool> is_directory = disk_.IsDirectory(process_, path);
    *result = is_directory.value_or(false);
    return ToRocks(is_directory.status());
  }

 private:
  template <typename File, typename Base>
  IOStatus Wrap(const absl::StatusOr<SimDisk::Node>& node, const std::string& path,
                std::unique_ptr<Base>* result) {
    if (!node.ok()) return ToRocks(node.status());
    *result = std::make_unique<File>(Handle{disk_, process_, *node, path});
    return IOStatus::OK();
  }

  SimDisk& disk_;
  const SimDisk::Process process_;
};

// RocksDB sleeps for a second after each background error, so that a full disk is not asked all the
// time. Here a disk that failed stays so until its process dies, and nobody waits.
class NoSleepClock final : public rocksdb::SystemClockWrapper {
 public:
  NoSleepClock() : SystemClockWrapper(rocksdb::SystemClock::Default()) {}
  const char* Name() const override { return "NoSleepClock"; }
  void SleepForMicroseconds(int /*micros*/) override { std::this_thread::yield(); }
};

class SimEnv final : public rocksdb::EnvWrapper {
 public:
  explicit SimEnv(const std::shared_ptr<rocksdb::FileSystem>& files)
      : EnvWrapper(rocksdb::NewCompositeEnv(files)) {
    file_system_ = files;
    system_clock_ = std::make_shared<NoSleepClock>();
  }
};

class ProcessFiles final : public storage::Files {
 public:
  ProcessFiles(SimDisk& disk, SimDisk::Process process)
      : disk_(disk), process_(process), env_(std::make_shared<RocksFiles>(disk, process)) {}

  SimDisk::Process process() const { return process_; }

  absl::StatusOr<std::unique_ptr<storage::WritableFile>> Create(const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(SimDisk::Node node, disk_.Create(process_, path, /*replace=*/false));
    return std::make_unique<SimWritable>(Handle{disk_, process_, std::move(node), path});
  }
  absl::StatusOr<std::unique_ptr<storage::FileLock>> Lock(const std::string& path) override {
    AZ_RETURN_IF_ERROR(disk_.Lock(process_, path));
    return std::make_unique<SimLock>(disk_, process_, path);
  }
  absl::StatusOr<std::unique_ptr<storage::MappedFile>> Map(const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(const SimDisk::Node node, disk_.Open(process_, path));
    AZ_ASSIGN_OR_RETURN(auto pages, disk_.Map(process_, node));
    return std::make_unique<SimMapped>(std::move(pages));
  }
  absl::StatusOr<std::unique_ptr<storage::ReadableFile>> OpenToRead(
      const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(SimDisk::Node node, disk_.Open(process_, path));
    AZ_ASSIGN_OR_RETURN(const uint64_t size, disk_.Size(process_, node));
    return std::make_unique<SimReadable>(Handle{disk_, process_, std::move(node), path}, size);
  }
  absl::StatusOr<storage::FileKind> KindOf(const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(const bool is_directory, disk_.IsDirectory(process_, path));
    return is_directory ? storage::FileKind::kDirectory : storage::FileKind::kFile;
  }
  absl::StatusOr<std::string> ReadSmall(const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(const SimDisk::Node node, disk_.Open(process_, path));
    AZ_ASSIGN_OR_RETURN(const uint64_t size, disk_.Size(process_, node));
    if (size > kSmallFileBytesMax) {
      return ResourceExhausted("cannot read %s: it is longer than %d bytes", path,
                               kSmallFileBytesMax);
    }
    std::string content(size, '\0');
    AZ_ASSIGN_OR_RETURN(const size_t count,
                        disk_.Read(process_, node, 0, content.size(), content.data()));
    content.resize(count);
    return content;
  }
  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(const SimDisk::Node node, disk_.Open(process_, path));
    return disk_.Size(process_, node);
  }
  absl::StatusOr<std::unique_ptr<storage::UpdatableFile>> OpenForUpdate(
      const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(SimDisk::Node node, OpenOrCreate(path));
    return std::make_unique<SimUpdatable>(Handle{disk_, process_, std::move(node), path});
  }
  absl::Status Allocate(const std::string& path, uint64_t bytes) override {
    AZ_ASSIGN_OR_RETURN(const SimDisk::Node node, OpenOrCreate(path));
    const absl::Status status = disk_.Allocate(process_, node, path, bytes);
    if (!status.ok()) disk_.Remove(process_, path).IgnoreError();  // The first error counts.
    return status;
  }
  absl::StatusOr<storage::DiskSpace> Space(const std::string& path) override {
    return disk_.Space(process_, path);
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return disk_.List(process_, path);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return disk_.Rename(process_, from, to);
  }
  absl::Status Remove(const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(const bool is_directory, disk_.IsDirectory(process_, path));
    if (is_directory)
      return absl::UnavailableError(absl::StrFormat("cannot remove %s: Is a directory", path));
    return disk_.Remove(process_, path);
  }
  absl::Status Link(const std::string& from, const std::string& to) override {
    return disk_.Link(process_, from, to);
  }
  absl::Status RemoveDir(const std::string& path) override {
    AZ_ASSIGN_OR_RETURN(const bool is_directory, disk_.IsDirectory(process_, path));
    if (!is_directory) {
      return absl::UnavailableError(
          absl::StrFormat("cannot remove directory %s: Not a directory", path));
    }
    return disk_.Remove(process_, path);
  }
  absl::Status MakeDir(const std::string& path) override {
    const absl::Status status = disk_.MakeDir(process_, path);
    if (!absl::IsAlreadyExists(status)) return status;
    AZ_ASSIGN_OR_RETURN(const bool is_directory, disk_.IsDirectory(process_, path));
    if (is_directory) return absl::OkStatus();
    return FailedPrecondition("cannot make directory %s: a file of that name is there", path);
  }
  absl::Status SyncDir(const std::string& path) override { return disk_.SyncDir(process_, path); }
  rocksdb::Env* rocks_env() override { return &env_; }

 private:
  absl::StatusOr<SimDisk::Node> OpenOrCreate(const std::string& path) {
    absl::StatusOr<SimDisk::Node> node = disk_.Open(process_, path);
    if (!absl::IsNotFound(node.status())) return node;
    return disk_.Create(process_, path, /*replace=*/false);
  }

  SimDisk& disk_;
  const SimDisk::Process process_;
  SimEnv env_;
};

}  // namespace

struct SimFiles::Rep {
  explicit Rep(uint64_t seed) : disk(seed) {}
  SimDisk disk;
  Mutex mu;
  // Of all processes so far, the last one at the end: an old database still has its own.
  std::vector<std::unique_ptr<ProcessFiles>> processes AZ_GUARDED_BY(mu);
};

SimFiles::SimFiles(uint64_t seed) : rep_(std::make_unique<Rep>(seed)) {}
SimFiles::~SimFiles() = default;

storage::Files& SimFiles::process() {
  const MutexLock lock(rep_->mu);
  const SimDisk::Process now = rep_->disk.process();
  if (rep_->processes.empty() || rep_->processes.back()->process() != now) {
    rep_->processes.push_back(std::make_unique<ProcessFiles>(rep_->disk, now));
  }
  return *rep_->processes.back();
}

void SimFiles::Crash(uint64_t seed) {
  rep_->disk.Crash(seed);
}
void SimFiles::KillProcess() {
  rep_->disk.Kill();
}
void SimFiles::FailAfter(uint64_t n) {
  rep_->disk.FailAfter(n);
}
void SimFiles::FailOnce(std::string_view what, std::string_view part, absl::Status status,
                        uint64_t n) {
  rep_->disk.FailOnce(what, part, std::move(status), n);
}
bool SimFiles::failed() const {
  return rep_->disk.failed();
}
void SimFiles::SetCapacity(uint64_t bytes) {
  rep_->disk.SetCapacity(bytes);
}
void SimFiles::SetFree(uint64_t bytes) {
  rep_->disk.SetFree(bytes);
}
void SimFiles::SetNetwork(bool network) {
  rep_->disk.SetNetwork(network);
}
uint64_t SimFiles::operations() const {
  return rep_->disk.operations();
}

}  // namespace azimuth::testing
