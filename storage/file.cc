#include "storage/file.h"

#include "base/status.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

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
      return absl::ResourceExhaustedError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::FailedPreconditionError(text);
    default:
      return absl::UnavailableError(text);
  }
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

}  // namespace

absl::StatusOr<WritableFile> WritableFile::Create(const std::string& path) {
  const int fd = OpenFd(path, O_WRONLY | O_CREAT | O_EXCL);
  if (fd < 0 && errno == EEXIST) return AlreadyExists("cannot create %s: it exists", path);
  if (fd < 0) return SystemError(errno, "create", path);
  return WritableFile(fd, path);
}

WritableFile::WritableFile(WritableFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), size_(other.size_), path_(std::move(other.path_)) {}

WritableFile& WritableFile::operator=(WritableFile&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    size_ = other.size_;
    path_ = std::move(other.path_);
  }
  return *this;
}

WritableFile::~WritableFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status WritableFile::Append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError(errno, "write", path_);
    bytes = bytes.subspan(static_cast<size_t>(written));
    size_ += static_cast<uint64_t>(written);
  }
  return absl::OkStatus();
}

absl::Status WritableFile::Sync() {
  // Not again after a failure: the kernel may have dropped the pages and would then answer OK.
  if (::fsync(fd_) != 0) return SystemError(errno, "sync", path_);
  return absl::OkStatus();
}

absl::Status WritableFile::Close() {
  // Linux frees the descriptor even when it reports an error, EINTR too: never close twice.
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) {
    return SystemError(errno, "close", path_);
  }
  return absl::OkStatus();
}

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path) {
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
  return FileLock(fd.release());
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  const ScopedFd fd(OpenFd(path, O_RDONLY));
  if (fd.get() < 0) return SystemError(errno, "open", path);
  std::string content;
  char chunk[4096];
  while (true) {
    const ssize_t count = ::read(fd.get(), chunk, sizeof(chunk));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(errno, "read", path);
    if (count == 0) return content;
    content.append(chunk, static_cast<size_t>(count));
    if (content.size() > kSmallFileBytesMax) {
      return ResourceExhausted("cannot read %s: it is longer than %d bytes", path,
                               kSmallFileBytesMax);
    }
  }
}

namespace {

// Writes and syncs a new file.
absl::Status WriteNewFile(const std::string& path, std::string_view content) {
  AZ_ASSIGN_OR_RETURN(WritableFile file, WritableFile::Create(path));
  AZ_RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(content.data(), content.size()))));
  AZ_RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".tmp";
  // One may be left over from a crash.
  if (absl::Status removed = RemoveFile(temporary); !removed.ok() && !absl::IsNotFound(removed)) {
    return removed;
  }
  absl::Status status = WriteNewFile(temporary, content);
  if (status.ok()) status = RenameFile(temporary, path);
  if (!status.ok()) {
    RemoveFile(temporary).IgnoreError();  // The first error is the one to tell.
    return status;
  }
  return SyncDirectory(ParentDirectory(path));
}

absl::Status RenameFile(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int code = errno;
    return SystemError(code, "rename", absl::StrCat(from, " to ", to));
  }
  return absl::OkStatus();
}

absl::Status RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return SystemError(errno, "remove", path);
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  const ScopedFd fd(OpenFd(path, O_RDONLY | O_DIRECTORY));
  if (fd.get() < 0) return SystemError(errno, "open", path);
  if (::fsync(fd.get()) != 0) return SystemError(errno, "sync", path);
  return absl::OkStatus();
}

std::string ParentDirectory(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

absl::Status MakeDirectory(const std::string& path) {
  if (::mkdir(path.c_str(), kDirectoryMode) == 0) return absl::OkStatus();
  const int code = errno;
  struct stat info {};
  if (code == EEXIST && ::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return absl::OkStatus();
    return FailedPrecondition("cannot make directory %s: a file of that name is there", path);
  }
  return SystemError(code, "make directory", path);
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), &::closedir);
  if (directory == nullptr) return SystemError(errno, "list", path);
  std::vector<std::string> names;
  while (true) {
    errno = 0;  // How readdir tells an error from the end.
    const struct dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return SystemError(errno, "list", path);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<uint64_t> FileSize(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return SystemError(errno, "inspect", path);
  return static_cast<uint64_t>(info.st_size);
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const ScopedFd fd(OpenFd(path, O_RDONLY));
  if (fd.get() < 0) return SystemError(errno, "open", path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return SystemError(errno, "inspect", path);
  if (!S_ISREG(info.st_mode)) {
    return FailedPrecondition("cannot map %s: it is not a regular file", path);
  }
  const auto size = static_cast<size_t>(info.st_size);
  // mmap refuses a length of zero.
  if (size == 0) return std::unique_ptr<MappedFile>(new MappedFile({}));
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) return SystemError(errno, "map", path);
  return std::unique_ptr<MappedFile>(
      new MappedFile({static_cast<const std::byte*>(address), size}));
}

MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  // munmap takes void* for memory that was never writable through this class.
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace azimuth::storage
