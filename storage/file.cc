#include "storage/file.h"

#include "base/status.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <limits>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace azimuth::storage {
namespace {

constexpr size_t kSmallFileBytesMax = size_t{16} << 20;
// Data is nobody else's business: no rights for others.
constexpr mode_t kFileMode = 0640;
constexpr mode_t kDirectoryMode = 0750;

// The error `code` (an errno) of doing `what` to `path`.
absl::Status SystemError(int code, std::string_view what, std::string_view path) {
  const std::string text =
      absl::StrFormat("cannot %s %s: %s", what, path, std::generic_category().message(code));
  switch (code) {
    case ENOENT:
      return absl::NotFoundError(text);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
      return absl::ResourceExhaustedError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    default:
      return absl::UnavailableError(text);
  }
}

// The same of something that only reads: what the disk cannot give is lost.
absl::Status ReadError(int code, std::string_view what, std::string_view path) {
  const absl::Status status = SystemError(code, what, path);
  return code == EIO ? absl::DataLossError(status.message()) : status;
}

// write and pwrite answer zero for a count above zero only where the system is at fault; going on
// would go on for ever.
absl::Status WroteNothing(std::string_view path) {
  return absl::UnavailableError(absl::StrFormat("cannot write %s: nothing was written", path));
}

// open(2), again after EINTR. -1 and errno on failure.
int OpenFd(const std::string& path, int flags) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, kFileMode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

// A descriptor that is closed at the end of the block.
class ScopedFd final {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  ~ScopedFd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  absl::Status Append(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return SystemError(errno, "write", path_);
      if (written == 0) return WroteNothing(path_);
      bytes = bytes.subspan(static_cast<size_t>(written));
      size_ += static_cast<uint64_t>(written);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    // Not again after a failure: the kernel may have dropped the pages and would then answer OK.
    if (::fsync(fd_.get()) != 0) return SystemError(errno, "sync", path_);
    return absl::OkStatus();
  }

  absl::Status Close() override {
    // Linux frees the descriptor even when it reports an error, EINTR too: never close twice.
    if (::close(fd_.release()) != 0 && errno != EINTR) return SystemError(errno, "close", path_);
    return absl::OkStatus();
  }

  uint64_t size() const override { return size_; }

 private:
  ScopedFd fd_;
  uint64_t size_ = 0;
  std::string path_;
};

class PosixUpdatableFile final : public UpdatableFile {
 public:
  PosixUpdatableFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  absl::Status WriteAt(uint64_t offset, std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t written =
          ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return SystemError(errno, "write", path_);
      if (written == 0) return WroteNothing(path_);
      bytes = bytes.subspan(static_cast<size_t>(written));
      offset += static_cast<uint64_t>(written);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (::fdatasync(fd_.get()) != 0) return SystemError(errno, "sync", path_);
    return absl::OkStatus();
  }

 private:
  ScopedFd fd_;
  std::string path_;
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(int fd, std::string path, uint64_t size)
      : fd_(fd), path_(std::move(path)), size_(size) {}

  absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    size_t count = 0;
    while (count < out.size()) {
      const ssize_t got = ::pread(fd_.get(), out.data() + count, out.size() - count,
                                  static_cast<off_t>(offset + count));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ReadError(errno, "read", path_);
      if (got == 0) break;
      count += static_cast<size_t>(got);
    }
    return count;
  }
  uint64_t size() const override { return size_; }

 private:
  ScopedFd fd_;
  const std::string path_;
  const uint64_t size_;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(int fd) : fd_(fd) {}

 private:
  ScopedFd fd_;
};

class PosixMappedFile final : public MappedFile {
 public:
  // `bytes` are those of the file that `info` is of.
  PosixMappedFile(std::span<const std::byte> bytes, std::string path, const struct stat& info)
      : MappedFile(bytes), path_(std::move(path)), device_(info.st_dev), inode_(info.st_ino) {}
  ~PosixMappedFile() override {
    if (bytes().empty()) return;
    // munmap takes void* for memory that was never writable through this class.
    ::munmap(const_cast<std::byte*>(bytes().data()), bytes().size());
  }

  // Unlike a touch of the mapping, pread says what is wrong. The bytes go by way of the page cache,
  // which is what the mapping shows. The file is opened anew: a descriptor for each segment file
  // would leave too few for connections.
  absl::Status Load(uint64_t offset, uint64_t count) const override {
    const ScopedFd fd(OpenFd(path_, O_RDONLY));
    if (fd.get() < 0 && errno != ENOENT) return ReadError(errno, "open", path_);
    struct stat info {};
    if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0 || info.st_ino != inode_ ||
        info.st_dev != device_) {
      return DataLoss("%s: the file was removed or replaced while it was in use", path_);
    }
    char chunk[size_t{64} << 10];
    while (count > 0) {
      const ssize_t got = ::pread(fd.get(), chunk, std::min<uint64_t>(count, sizeof(chunk)),
                                  static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ReadError(errno, "read", path_);
      if (got == 0) {
        return DataLoss("%s: truncated: it ends at %d instead of %d", path_, offset,
                        bytes().size());
      }
      offset += static_cast<uint64_t>(got);
      count -= static_cast<uint64_t>(got);
    }
    return absl::OkStatus();
  }

  void Release(uint64_t offset, uint64_t count) const override {
    constexpr uint64_t kPage = 4096;
    const uint64_t begin = (offset + kPage - 1) / kPage * kPage;
    const uint64_t end = (offset + count) / kPage * kPage;
    if (begin >= end) return;
    ::madvise(const_cast<std::byte*>(bytes().data()) + begin, end - begin, MADV_DONTNEED);
  }

 private:
  const std::string path_;
  const dev_t device_;
  const ino_t inode_;
};

// Writes `bytes` zeros from the beginning of the file.
absl::Status WriteZeros(int fd, const std::string& path, uint64_t bytes) {
  const std::vector<char> zeros(size_t{64} << 10);
  uint64_t offset = 0;
  while (offset < bytes) {
    const uint64_t count = std::min<uint64_t>(bytes - offset, zeros.size());
    const ssize_t written = ::pwrite(fd, zeros.data(), count, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError(errno, "allocate", path);
    if (written == 0) return WroteNothing(path);
    offset += static_cast<uint64_t>(written);
  }
  // Many file systems choose blocks only now, and may find that there are none.
  if (::fsync(fd) != 0) return SystemError(errno, "allocate", path);
  return absl::OkStatus();
}

// Makes the file `bytes` long, all of it on blocks of its own.
absl::Status AllocateBlocks(int fd, const std::string& path, uint64_t bytes) {
  if (bytes > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) {
    return ResourceExhausted("cannot allocate %s: no file has %d bytes", path, bytes);
  }
  const auto length = static_cast<off_t>(bytes);
  int result = 0;
  do {
    // Cuts what is longer; what is shorter is left to fallocate, which fills holes, too.
    struct stat info {};
    result = ::fstat(fd, &info);
    if (result == 0 && info.st_size > length) result = ::ftruncate(fd, length);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return SystemError(errno, "allocate", path);
  if (bytes == 0) return absl::OkStatus();
  do {
    result = ::fallocate(fd, 0, 0, length);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  if (errno == EOPNOTSUPP || errno == ENOSYS) return WriteZeros(fd, path, bytes);
  return SystemError(errno, "allocate", path);
}

// Of statfs: linux/magic.h, and the man page of statfs for those that are not in it.
bool IsNetwork(uint32_t type) {
  switch (type) {
    case 0x6969:      // NFS
    case 0x517B:      // SMB
    case 0xFF534D42:  // CIFS
    case 0xFE534D42:  // SMB 2
    case 0x65735546:  // FUSE, virtiofs
    case 0x01021997:  // 9P
    case 0x00C36400:  // Ceph
    case 0x5346414F:  // AFS
    case 0x6B414653:  // AFS
    case 0x73757245:  // Coda
    case 0x564C:      // NCP
    case 0x0BD00BD0:  // Lustre
    case 0x47504653:  // GPFS
    case 0x19830326:  // BeeGFS
    case 0x20030528:  // OrangeFS
    case 0x786F4256:  // VirtualBox shared folder
      return true;
    default:
      return false;
  }
}

class PosixFiles final : public Files {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenToRead(const std::string& path) override;
  absl::StatusOr<FileKind> KindOf(const std::string& path) override;
  absl::StatusOr<std::string> ReadSmall(const std::string& path) override;
  absl::StatusOr<uint64_t> Size(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<UpdatableFile>> OpenForUpdate(const std::string& path) override;
  absl::Status Allocate(const std::string& path, uint64_t bytes) override;
  absl::StatusOr<DiskSpace> Space(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status Link(const std::string& from, const std::string& to) override;
  absl::Status RemoveDir(const std::string& path) override;
  absl::Status MakeDir(const std::string& path) override;
  absl::Status SyncDir(const std::string& path) override;
};

absl::StatusOr<std::unique_ptr<WritableFile>> PosixFiles::Create(const std::string& path) {
  const int fd = OpenFd(path, O_WRONLY | O_CREAT | O_EXCL);
  if (fd < 0 && errno == EEXIST) return AlreadyExists("cannot create %s: it exists", path);
  if (fd < 0) return SystemError(errno, "create", path);
  return std::make_unique<PosixWritableFile>(fd, path);
}

absl::StatusOr<std::unique_ptr<FileLock>> PosixFiles::Lock(const std::string& path) {
  ScopedFd fd(OpenFd(path, O_RDWR | O_CREAT));
  if (fd.get() < 0) return SystemError(errno, "open", path);
  int result = 0;
  do {
    result = ::flock(fd.get(), LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) {
    return FailedPrecondition("cannot lock %s: another process holds it", path);
  }
  if (result != 0) return SystemError(errno, "lock", path);
  return std::make_unique<PosixFileLock>(fd.release());
}

absl::StatusOr<std::unique_ptr<MappedFile>> PosixFiles::Map(const std::string& path) {
  const ScopedFd fd(OpenFd(path, O_RDONLY));
  if (fd.get() < 0) return ReadError(errno, "open", path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return ReadError(errno, "inspect", path);
  if (!S_ISREG(info.st_mode)) {
    return FailedPrecondition("cannot map %s: it is not a regular file", path);
  }
  const auto size = static_cast<size_t>(info.st_size);
  // mmap refuses a length of zero.
  if (size == 0) return std::make_unique<PosixMappedFile>(std::span<const std::byte>(), path, info);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) return ReadError(errno, "map", path);
  return std::make_unique<PosixMappedFile>(std::span(static_cast<const std::byte*>(address), size),
                                           path, info);
}

absl::StatusOr<std::unique_ptr<ReadableFile>> PosixFiles::OpenToRead(const std::string& path) {
  ScopedFd fd(OpenFd(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (fd.get() < 0 && errno != ELOOP && errno != ENXIO) return ReadError(errno, "open", path);
  if (fd.get() >= 0 && ::fstat(fd.get(), &info) != 0) return ReadError(errno, "inspect", path);
  if (fd.get() < 0 || !S_ISREG(info.st_mode)) {
    return InvalidArgument("cannot read %s: it is not a regular file", path);
  }
  return std::make_unique<PosixReadableFile>(fd.release(), path,
                                             static_cast<uint64_t>(info.st_size));
}

absl::StatusOr<FileKind> PosixFiles::KindOf(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return ReadError(errno, "inspect", path);
  if (S_ISREG(info.st_mode)) return FileKind::kFile;
  return S_ISDIR(info.st_mode) ? FileKind::kDirectory : FileKind::kOther;
}

absl::StatusOr<std::string> PosixFiles::ReadSmall(const std::string& path) {
  const ScopedFd fd(OpenFd(path, O_RDONLY));
  if (fd.get() < 0) return ReadError(errno, "open", path);
  std::string content;
  char chunk[4096];
  while (true) {
    const ssize_t count = ::read(fd.get(), chunk, sizeof(chunk));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ReadError(errno, "read", path);
    if (count == 0) return content;
    content.append(chunk, static_cast<size_t>(count));
    if (content.size() > kSmallFileBytesMax) {
      return ResourceExhausted("cannot read %s: it is longer than %d bytes", path,
                               kSmallFileBytesMax);
    }
  }
}

absl::StatusOr<uint64_t> PosixFiles::Size(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return ReadError(errno, "inspect", path);
  return static_cast<uint64_t>(info.st_size);
}

absl::StatusOr<std::unique_ptr<UpdatableFile>> PosixFiles::OpenForUpdate(const std::string& path) {
  const int fd = OpenFd(path, O_RDWR | O_CREAT);
  if (fd < 0) return SystemError(errno, "open", path);
  return std::make_unique<PosixUpdatableFile>(fd, path);
}

absl::Status PosixFiles::Allocate(const std::string& path, uint64_t bytes) {
  // What is there keeps its blocks, so that a file that has them all costs nothing.
  const ScopedFd fd(OpenFd(path, O_WRONLY | O_CREAT));
  if (fd.get() < 0) return SystemError(errno, "create", path);
  absl::Status status = AllocateBlocks(fd.get(), path, bytes);
  if (!status.ok()) ::unlink(path.c_str());
  return status;
}

absl::StatusOr<DiskSpace> PosixFiles::Space(const std::string& path) {
  struct statfs info {};
  int result = 0;
  do {
    result = ::statfs(path.c_str(), &info);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return ReadError(errno, "inspect the file system of", path);
  // Zero on old kernels.
  const auto block_bytes = static_cast<uint64_t>(info.f_frsize > 0 ? info.f_frsize : info.f_bsize);
  return DiskSpace{.capacity_bytes = info.f_blocks * block_bytes,
                   .free_bytes = info.f_bavail * block_bytes,
                   .network = IsNetwork(static_cast<uint32_t>(info.f_type))};
}

absl::StatusOr<std::vector<std::string>> PosixFiles::List(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), &::closedir);
  if (directory == nullptr) return ReadError(errno, "list", path);
  std::vector<std::string> names;
  while (true) {
    errno = 0;  // How readdir tells an error from the end.
    const struct dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return ReadError(errno, "list", path);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status PosixFiles::Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int code = errno;
    return SystemError(code, "rename", absl::StrCat(from, " to ", to));
  }
  return absl::OkStatus();
}

absl::Status PosixFiles::Remove(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return SystemError(errno, "remove", path);
  return absl::OkStatus();
}

absl::Status PosixFiles::Link(const std::string& from, const std::string& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  const int code = errno;
  if (code == EEXIST) return AlreadyExists("cannot link %s: it exists", to);
  // What is meant by EPERM the manual says: no support for it.
  if (code == EPERM || code == EXDEV || code == EMLINK || code == EOPNOTSUPP || code == ENOSYS) {
    return Unimplemented("cannot link %s to %s: %s", to, from,
                         std::generic_category().message(code));
  }
  return SystemError(code, "link", absl::StrCat(from, " to ", to));
}

absl::Status PosixFiles::RemoveDir(const std::string& path) {
  if (::rmdir(path.c_str()) != 0) return SystemError(errno, "remove directory", path);
  return absl::OkStatus();
}

absl::Status PosixFiles::MakeDir(const std::string& path) {
  if (::mkdir(path.c_str(), kDirectoryMode) == 0) return absl::OkStatus();
  const int code = errno;
  struct stat info {};
  if (code == EEXIST && ::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return absl::OkStatus();
    return FailedPrecondition("cannot make directory %s: a file of that name is there", path);
  }
  return SystemError(code, "make directory", path);
}

absl::Status PosixFiles::SyncDir(const std::string& path) {
  const ScopedFd fd(OpenFd(path, O_RDONLY | O_DIRECTORY));
  if (fd.get() < 0) return SystemError(errno, "open", path);
  if (::fsync(fd.get()) != 0) return SystemError(errno, "sync", path);
  return absl::OkStatus();
}

// Writes and syncs a new file.
absl::Status WriteNewFile(Files& files, const std::string& path, std::string_view content) {
  AZ_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, files.Create(path));
  AZ_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(content.data(), content.size()))));
  AZ_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

}  // namespace

Files& Files::Posix() {
  static PosixFiles files;
  return files;
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, Files& files) {
  return files.ReadSmall(path);
}

absl::Status RenameFile(const std::string& from, const std::string& to, Files& files) {
  return files.Rename(from, to);
}

absl::Status RemoveFile(const std::string& path, Files& files) {
  return files.Remove(path);
}

absl::Status SyncDirectory(const std::string& path, Files& files) {
  return files.SyncDir(path);
}

absl::Status MakeDirectory(const std::string& path, Files& files) {
  return files.MakeDir(path);
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path, Files& files) {
  return files.List(path);
}

absl::StatusOr<uint64_t> FileSize(const std::string& path, Files& files) {
  return files.Size(path);
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view content, Files& files) {
  const std::string temporary = path + ".tmp";
  // One may be left over from a crash.
  if (absl::Status removed = files.Remove(temporary); !removed.ok() && !absl::IsNotFound(removed)) {
    return removed;
  }
  absl::Status status = WriteNewFile(files, temporary, content);
  if (status.ok()) status = files.Rename(temporary, path);
  if (!status.ok()) {
    files.Remove(temporary).IgnoreError();  // The first error is the one to tell.
    return status;
  }
  return files.SyncDir(ParentDirectory(path));
}

std::string ParentDirectory(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

}  // namespace azimuth::storage
