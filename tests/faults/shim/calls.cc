// The calls that the shim stands before, by their names in libc: see fault_shim.h.

#include "shim/fault_shim.h"

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

using azimuth_shim::Call;
using azimuth_shim::JournalLock;
using azimuth_shim::Verdict;
using azimuth_shim::Visit;

// The function of this name that ours hides. `cached` is a static of the caller.
template <typename Function>
Function* Real(std::atomic<void*>& cached, const char* name, Function* /*type*/) {
  void* found = cached.load(std::memory_order_acquire);
  if (found == nullptr) {
    found = dlsym(RTLD_NEXT, name);
    if (found == nullptr) azimuth_shim::Refuse("libc has no", name);
    cached.store(found, std::memory_order_release);
  }
  return reinterpret_cast<Function*>(found);
}

#define REAL(name)                       \
  static std::atomic<void*> real_##name; \
  const auto real = Real(real_##name, #name, &::name)

// A failure if the verdict says so; else false.
bool Fails(const Verdict& verdict) {
  if (verdict.error == 0) return false;
  errno = verdict.error;
  return true;
}

size_t Half(const Verdict& verdict, size_t count) {
  return verdict.shortened && count > 1 ? count / 2 : count;
}

bool Exists(const char* below) {
  char full[azimuth_shim::kPathBytes];
  azimuth_shim::FullPath(below, full);
  struct stat info {};
  return lstat(full, &info) == 0;
}

template <typename Open>
int OpenAs(int directory, const char* path, int flags, const Open& open_really) {
  char below[azimuth_shim::kPathBytes];
  if (!azimuth_shim::PathBelow(directory, path, below)) return open_really();
  const bool changes = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
  if (Fails(Visit(changes ? Call::kCreate : Call::kOpen, below))) return -1;
  if (!changes || !azimuth_shim::Forgets()) {
    const int fd = open_really();
    azimuth_shim::FdOpened(fd, below, changes);
    return fd;
  }
  const JournalLock lock;
  const bool existed = Exists(below);
  if (existed && (flags & O_TRUNC) != 0) azimuth_shim::NoteTruncatePath(below);
  const int fd = open_really();
  const int error = errno;
  azimuth_shim::FdOpened(fd, below, changes);
  if (fd >= 0 && !existed) azimuth_shim::NoteCreated(fd, below);
  errno = error;
  return fd;
}

template <typename Write>
ssize_t WriteAs(int fd, Call call, size_t count, bool has_offset, int64_t offset,
                const Write& write_really) {
  const char* path = azimuth_shim::FdPath(fd);
  if (path == nullptr) return write_really(count);
  const Verdict verdict = Visit(call, path);
  if (Fails(verdict)) return -1;
  const size_t part = Half(verdict, count);
  const JournalLock lock;
  azimuth_shim::NoteWrite(fd, has_offset, offset, part);
  const ssize_t written = write_really(part);
  if (written >= 0) return written;
  const int error = errno;
  azimuth_shim::NoteFailed();
  errno = error;
  return written;
}

template <typename Read>
ssize_t ReadAs(int fd, Call call, size_t count, const Read& read_really) {
  const char* path = azimuth_shim::FdPath(fd);
  if (path == nullptr) return read_really(count);
  const Verdict verdict = Visit(call, path);
  return Fails(verdict) ? -1 : read_really(Half(verdict, count));
}

template <typename Sync>
int SyncAs(int fd, Call call, const Sync& sync_really) {
  const char* path = azimuth_shim::FdPath(fd);
  if (path == nullptr) return sync_really();
  const Verdict verdict = Visit(call, path);
  if (Fails(verdict)) return -1;
  if (verdict.skipped) return 0;
  const uint64_t began = azimuth_shim::SyncBegins();
  const int result = sync_really();
  if (result == 0) azimuth_shim::NoteSynced(fd, began);
  return result;
}

// Of a change of names: `note` before it, and a note if it fails.
template <typename Note, typename Change>
int ChangeAs(Call call, const char* below, const Note& note, const Change& change_really) {
  if (Fails(Visit(call, below))) return -1;
  const JournalLock lock;
  note();
  const int result = change_really();
  if (result == 0) return 0;
  const int error = errno;
  azimuth_shim::NoteFailed();
  errno = error;
  return result;
}

template <typename Rename>
int RenameAs(int from_directory, const char* from, int to_directory, const char* to,
             const Rename& rename_really) {
  char below[azimuth_shim::kPathBytes];
  char target[azimuth_shim::kPathBytes];
  if (!azimuth_shim::PathBelow(from_directory, from, below) ||
      !azimuth_shim::PathBelow(to_directory, to, target)) {
    return rename_really();
  }
  return ChangeAs(
      Call::kRename, below, [&] { azimuth_shim::NoteRename(below, target); }, rename_really);
}

template <typename Unlink>
int UnlinkAs(int directory, const char* path, const Unlink& unlink_really) {
  char below[azimuth_shim::kPathBytes];
  if (!azimuth_shim::PathBelow(directory, path, below)) return unlink_really();
  return ChangeAs(
      Call::kUnlink, below, [&] { azimuth_shim::NoteUnlink(below); }, unlink_really);
}

template <typename Make>
int MakeDirAs(int directory, const char* path, const Make& make_really) {
  char below[azimuth_shim::kPathBytes];
  if (!azimuth_shim::PathBelow(directory, path, below)) return make_really();
  if (Fails(Visit(Call::kMkdir, below))) return -1;
  const JournalLock lock;
  const int result = make_really();
  if (result == 0) azimuth_shim::NoteMadeDir(below);
  return result;
}

template <typename Truncate>
int TruncateAs(int fd, int64_t size, const Truncate& truncate_really) {
  const char* path = azimuth_shim::FdPath(fd);
  if (path == nullptr) return truncate_really();
  return ChangeAs(
      Call::kTruncate, path, [&] { azimuth_shim::NoteTruncate(fd, size); }, truncate_really);
}

// Of an allocation that makes the file longer.
template <typename Allocate>
int AllocateAs(int fd, bool grows, int64_t end, const Allocate& allocate_really) {
  const JournalLock lock;
  struct stat info {};
  const bool notes = grows && fstat(fd, &info) == 0 && info.st_size < end;
  if (notes) azimuth_shim::NoteTruncate(fd, end);
  const int result = allocate_really();
  if (result != 0 && notes) azimuth_shim::NoteFailed();
  return result;
}

template <typename Map>
void* MapAs(int fd, int flags, const Map& map_really) {
  const char* path = (flags & MAP_ANONYMOUS) != 0 ? nullptr : azimuth_shim::FdPath(fd);
  if (path != nullptr && Fails(Visit(Call::kMmap, path))) return MAP_FAILED;
  return map_really();
}

mode_t ModeOf(int flags, va_list& more) {
  const bool makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return makes ? va_arg(more, mode_t) : 0;
}

size_t BytesOf(const iovec* parts, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  return bytes;
}

// The first `bytes` bytes of them; `out` holds `count`.
int Cut(const iovec* parts, int count, size_t bytes, iovec* out) {
  int used = 0;
  for (; used < count && bytes > 0; ++used) {
    out[used] = parts[used];
    if (out[used].iov_len > bytes) out[used].iov_len = bytes;
    bytes -= out[used].iov_len;
  }
  return used;
}

constexpr int kPartsMax = 1024;  // IOV_MAX.

constexpr int64_t kSecond = 1000000000;
int64_t Nanos(const timespec& time) {
  return time.tv_sec * kSecond + time.tv_nsec;
}
timespec Timespec(int64_t ns) {
  return {ns / kSecond, ns % kSecond};
}

int64_t RealTimeReally() {
  timespec now{};
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  return Nanos(now);
}

// The kernel's time for a moment of the program's CLOCK_REALTIME. A moment of a clock that began at
// the start of the machine is left alone.
timespec ToKernel(const timespec& seen) {
  const int64_t real = RealTimeReally();
  const int64_t offset = azimuth_shim::RealTimeSeen(real) - real;
  return seen.tv_sec < 1000000000 ? seen : Timespec(Nanos(seen) - offset);
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// --- open and close

#define OPEN_LIKE(name)                                                            \
  EXPORT int name(const char* path, int flags, ...) {                              \
    REAL(name);                                                                    \
    va_list more;                                                                  \
    va_start(more, flags);                                                         \
    const mode_t mode = ModeOf(flags, more);                                       \
    va_end(more);                                                                  \
    return OpenAs(AT_FDCWD, path, flags, [&] { return real(path, flags, mode); }); \
  }
OPEN_LIKE(open)
OPEN_LIKE(open64)

#define OPENAT_LIKE(name)                                                                      \
  EXPORT int name(int directory, const char* path, int flags, ...) {                           \
    REAL(name);                                                                                \
    va_list more;                                                                              \
    va_start(more, flags);                                                                     \
    const mode_t mode = ModeOf(flags, more);                                                   \
    va_end(more);                                                                              \
    return OpenAs(directory, path, flags, [&] { return real(directory, path, flags, mode); }); \
  }
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)

#define CREAT_LIKE(name)                                                    \
  EXPORT int name(const char* path, mode_t mode) {                          \
    REAL(name);                                                             \
    const int flags = O_CREAT | O_WRONLY | O_TRUNC;                         \
    return OpenAs(AT_FDCWD, path, flags, [&] { return real(path, mode); }); \
  }
CREAT_LIKE(creat)
CREAT_LIKE(creat64)

// What fortified programs call.
EXPORT int __open_2(const char* path, int flags) {
  return open(path, flags);
}
EXPORT int __open64_2(const char* path, int flags) {
  return open64(path, flags);
}
EXPORT int __openat_2(int directory, const char* path, int flags) {
  return openat(directory, path, flags);
}
EXPORT int __openat64_2(int directory, const char* path, int flags) {
  return openat64(directory, path, flags);
}

EXPORT int close(int fd) {
  REAL(close);
  const char* path = azimuth_shim::FdPath(fd);
  if (path == nullptr) return real(fd);
  // That of a file that was only read says nothing about its bytes.
  const Verdict verdict = azimuth_shim::FdChanges(fd) ? Visit(Call::kClose, path) : Verdict{};
  azimuth_shim::FdClosed(fd);
  const int result = real(fd);
  return Fails(verdict) ? -1 : result;
}

// --- read and write

EXPORT ssize_t write(int fd, const void* bytes, size_t count) {
  REAL(write);
  return WriteAs(fd, Call::kWrite, count, false, 0,
                 [&](size_t part) { return real(fd, bytes, part); });
}

#define PWRITE_LIKE(name)                                                       \
  EXPORT ssize_t name(int fd, const void* bytes, size_t count, off_t offset) {  \
    REAL(name);                                                                 \
    return WriteAs(fd, Call::kPwrite, count, true, offset,                      \
                   [&](size_t part) { return real(fd, bytes, part, offset); }); \
  }
PWRITE_LIKE(pwrite)
PWRITE_LIKE(pwrite64)

EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  REAL(writev);
  if (azimuth_shim::FdPath(fd) == nullptr || count <= 0 || count > kPartsMax) {
    return real(fd, parts, count);
  }
  return WriteAs(fd, Call::kWrite, BytesOf(parts, count), false, 0, [&](size_t part) {
    iovec some[kPartsMax];
    return real(fd, some, Cut(parts, count, part, some));
  });
}

#define PWRITEV_LIKE(name)                                                        \
  EXPORT ssize_t name(int fd, const iovec* parts, int count, off_t offset) {      \
    REAL(name);                                                                   \
    if (azimuth_shim::FdPath(fd) == nullptr || count <= 0 || count > kPartsMax) { \
      return real(fd, parts, count, offset);                                      \
    }                                                                             \
    const size_t bytes = BytesOf(parts, count);                                   \
    return WriteAs(fd, Call::kPwrite, bytes, true, offset, [&](size_t part) {     \
      iovec some[kPartsMax];                                                      \
      return real(fd, some, Cut(parts, count, part, some), offset);               \
    });                                                                           \
  }
PWRITEV_LIKE(pwritev)
PWRITEV_LIKE(pwritev64)

EXPORT ssize_t read(int fd, void* bytes, size_t count) {
  REAL(read);
  return ReadAs(fd, Call::kRead, count, [&](size_t part) { return real(fd, bytes, part); });
}
EXPORT ssize_t __read_chk(int fd, void* bytes, size_t count, size_t /*room*/) {
  return read(fd, bytes, count);
}

#define PREAD_LIKE(name)                                                       \
  EXPORT ssize_t name(int fd, void* bytes, size_t count, off_t offset) {       \
    REAL(name);                                                                \
    return ReadAs(fd, Call::kPread, count,                                     \
                  [&](size_t part) { return real(fd, bytes, part, offset); }); \
  }
PREAD_LIKE(pread)
PREAD_LIKE(pread64)
EXPORT ssize_t __pread_chk(int fd, void* bytes, size_t count, off_t offset, size_t /*room*/) {
  return pread(fd, bytes, count, offset);
}
EXPORT ssize_t __pread64_chk(int fd, void* bytes, size_t count, off_t offset, size_t /*room*/) {
  return pread64(fd, bytes, count, offset);
}

#define MMAP_LIKE(name)                                                                            \
  EXPORT void* name(void* address, size_t length, int protection, int flags, int fd,               \
                    off_t offset) noexcept {                                                       \
    REAL(name);                                                                                    \
    return MapAs(fd, flags, [&] { return real(address, length, protection, flags, fd, offset); }); \
  }
MMAP_LIKE(mmap)
MMAP_LIKE(mmap64)

// --- sync

EXPORT int fsync(int fd) {
  REAL(fsync);
  return SyncAs(fd, Call::kFsync, [&] { return real(fd); });
}
EXPORT int fdatasync(int fd) {
  REAL(fdatasync);
  return SyncAs(fd, Call::kFdatasync, [&] { return real(fd); });
}
EXPORT int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags) {
  REAL(sync_file_range);
  const char* path = azimuth_shim::FdPath(fd);
  // It promises nothing: what it wrote is not noted as synced.
  // Without flags it only asks whether there is such a call, and no disk can make that fail.
  if (path != nullptr && flags != 0 && Fails(Visit(Call::kSyncRange, path))) return -1;
  return real(fd, offset, count, flags);
}

// --- names

EXPORT int rename(const char* from, const char* to) noexcept {
  REAL(rename);
  return RenameAs(AT_FDCWD, from, AT_FDCWD, to, [&] { return real(from, to); });
}
EXPORT int renameat(int from_directory, const char* from, int to_directory,
                    const char* to) noexcept {
  REAL(renameat);
  return RenameAs(from_directory, from, to_directory, to,
                  [&] { return real(from_directory, from, to_directory, to); });
}
EXPORT int renameat2(int from_directory, const char* from, int to_directory, const char* to,
                     unsigned flags) noexcept {
  REAL(renameat2);
  return RenameAs(from_directory, from, to_directory, to,
                  [&] { return real(from_directory, from, to_directory, to, flags); });
}
EXPORT int link(const char* from, const char* to) noexcept {
  REAL(link);
  char below[azimuth_shim::kPathBytes];
  char target[azimuth_shim::kPathBytes];
  if (!azimuth_shim::PathBelow(AT_FDCWD, from, below) ||
      !azimuth_shim::PathBelow(AT_FDCWD, to, target)) {
    return real(from, to);
  }
  if (Fails(Visit(Call::kLink, target))) return -1;
  const JournalLock lock;
  const int result = real(from, to);
  if (result == 0) azimuth_shim::NoteLinked(below, target);
  return result;
}
EXPORT int unlink(const char* path) noexcept {
  REAL(unlink);
  return UnlinkAs(AT_FDCWD, path, [&] { return real(path); });
}
EXPORT int unlinkat(int directory, const char* path, int flags) noexcept {
  REAL(unlinkat);
  return UnlinkAs(directory, path, [&] { return real(directory, path, flags); });
}
EXPORT int rmdir(const char* path) noexcept {
  REAL(rmdir);
  return UnlinkAs(AT_FDCWD, path, [&] { return real(path); });
}
EXPORT int remove(const char* path) noexcept {
  REAL(remove);
  return UnlinkAs(AT_FDCWD, path, [&] { return real(path); });
}
EXPORT int mkdir(const char* path, mode_t mode) noexcept {
  REAL(mkdir);
  return MakeDirAs(AT_FDCWD, path, [&] { return real(path, mode); });
}
EXPORT int mkdirat(int directory, const char* path, mode_t mode) noexcept {
  REAL(mkdirat);
  return MakeDirAs(directory, path, [&] { return real(directory, path, mode); });
}

// --- size

EXPORT int ftruncate(int fd, off_t size) noexcept {
  REAL(ftruncate);
  return TruncateAs(fd, size, [&] { return real(fd, size); });
}
EXPORT int ftruncate64(int fd, off64_t size) noexcept {
  REAL(ftruncate64);
  return TruncateAs(fd, size, [&] { return real(fd, size); });
}

#define FALLOCATE_LIKE(name)                                                  \
  EXPORT int name(int fd, int mode, off_t offset, off_t length) {             \
    REAL(name);                                                               \
    const char* path = azimuth_shim::FdPath(fd);                              \
    if (path == nullptr) return real(fd, mode, offset, length);               \
    if (Fails(Visit(Call::kAllocate, path))) return -1;                       \
    return AllocateAs(fd, (mode & FALLOC_FL_KEEP_SIZE) == 0, offset + length, \
                      [&] { return real(fd, mode, offset, length); });        \
  }
FALLOCATE_LIKE(fallocate)
FALLOCATE_LIKE(fallocate64)

// These return the error.
#define POSIX_FALLOCATE_LIKE(name)                                                          \
  EXPORT int name(int fd, off_t offset, off_t length) {                                     \
    REAL(name);                                                                             \
    const char* path = azimuth_shim::FdPath(fd);                                            \
    if (path == nullptr) return real(fd, offset, length);                                   \
    const Verdict verdict = Visit(Call::kAllocate, path);                                   \
    if (verdict.error != 0) return verdict.error;                                           \
    return AllocateAs(fd, true, offset + length, [&] { return real(fd, offset, length); }); \
  }
POSIX_FALLOCATE_LIKE(posix_fallocate)
POSIX_FALLOCATE_LIKE(posix_fallocate64)

// --- sockets

EXPORT int accept(int fd, sockaddr* address, socklen_t* length) {
  REAL(accept);
  return Fails(Visit(Call::kAccept, "")) ? -1 : real(fd, address, length);
}
EXPORT int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  REAL(accept4);
  return Fails(Visit(Call::kAccept, "")) ? -1 : real(fd, address, length, flags);
}

// --- the clock, and waits until a time of it

EXPORT int clock_gettime(clockid_t clock, timespec* time) noexcept {
  REAL(clock_gettime);
  const int result = real(clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    *time = Timespec(azimuth_shim::RealTimeSeen(Nanos(*time)));
  }
  return result;
}
EXPORT int gettimeofday(timeval* time, void* zone) noexcept {
  REAL(gettimeofday);
  const int result = real(time, zone);
  if (result == 0) {
    const timespec seen = Timespec(
        azimuth_shim::RealTimeSeen(time->tv_sec * kSecond + time->tv_usec * int64_t{1000}));
    *time = {seen.tv_sec, seen.tv_nsec / 1000};
  }
  return result;
}
EXPORT time_t time(time_t* out) noexcept {
  const time_t seen = azimuth_shim::RealTimeSeen(RealTimeReally()) / kSecond;
  if (out != nullptr) *out = seen;
  return seen;
}

EXPORT int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                                  const timespec* until) {
  // There is an older one of that name.
  static std::atomic<void*> cached;
  if (cached.load() == nullptr) {
    cached.store(dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2"));
  }
  const auto real = Real(cached, "pthread_cond_timedwait", &::pthread_cond_timedwait);
  const timespec kernel = ToKernel(*until);
  return real(condition, mutex, &kernel);
}

// Abseil's mutex waits with the system call.
EXPORT long syscall(long number, ...) noexcept {
  REAL(syscall);
  va_list more;
  va_start(more, number);
  long arguments[6];
  for (long& argument : arguments) argument = va_arg(more, long);
  va_end(more);
  timespec kernel{};
  const long operation = arguments[1];
  if (number == SYS_futex && (operation & FUTEX_CLOCK_REALTIME) != 0 && arguments[3] != 0) {
    kernel = ToKernel(*reinterpret_cast<const timespec*>(arguments[3]));
    arguments[3] = reinterpret_cast<long>(&kernel);
  }
  return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
              arguments[5]);
}
