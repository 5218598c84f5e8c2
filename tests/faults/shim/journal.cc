// Forget mode: a journal of what a power failure may take back. unsynced.py reads it.
//
// <AZIMUTH_FORGET>/journal is a sequence of records: a Header, the first path, the second path, old
// bytes. A record is written before its change, and so the last one may have no change, or after it
// (created, made, linked, synced), and so the last change may have no record. Both are fine: such a
// change was not synced. <AZIMUTH_FORGET>/trash/<sequence number> is a hard link of what the change
// of that number unlinked or replaced.

#include "shim/fault_shim.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace azimuth_shim {
namespace {

constexpr uint32_t kMagic = 0x4a465a41;  // "AZFJ"
// Of what is written over, so much can be brought back; our files replace a few hundred bytes.
constexpr size_t kOldBytesMax = size_t{1} << 16;

enum class Kind : uint32_t {
  kCreated = 1,
  kMadeDir = 2,
  kLinked = 3,
  kWrite = 4,
  kTruncate = 5,
  kRename = 6,
  kUnlink = 7,
  kFailed = 8,
  kSynced = 9,
};

struct Header {
  uint32_t magic = kMagic;
  Kind kind{};
  uint64_t seq = 0;
  uint64_t inode = 0;   // Of the file; of a rename, of what is renamed.
  uint64_t offset = 0;  // Of a truncation: the new size. Of a sync: the last number it covers.
  uint64_t length = 0;
  uint64_t old_size = 0;
  uint64_t replaced = 0;  // Of a rename: the inode that had the new name, or 0.
  uint32_t path_length = 0;
  uint32_t other_length = 0;
  uint32_t data_length = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(Header) == 72);

pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
uint64_t g_seq = 0;        // Under g_mutex.
char g_old[kOldBytesMax];  // Under g_mutex.
int g_journal = -1;
char g_trash[kPathBytes];

__attribute__((constructor)) void Begin() {
  const char* folder = getenv("AZIMUTH_FORGET");
  if (folder == nullptr || *folder == 0) return;
  char path[kPathBytes];
  if (strlen(folder) + 32 >= kPathBytes) Refuse("AZIMUTH_FORGET is too long:", folder);
  strcat(strcpy(g_trash, folder), "/trash/");
  strcat(strcpy(path, folder), "/journal");
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  g_journal = static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, 0644));
  struct stat info {};
  if (g_journal < 0 || stat(g_trash, &info) != 0) Refuse("no journal or no trash in", folder);
  // A second program goes on where the first one was killed; numbers need only grow.
  if (stat(path, &info) == 0) g_seq = static_cast<uint64_t>(info.st_size);
}

void Write(Header header, const char* path, const char* other, const char* data) {
  header.seq = ++g_seq;
  header.path_length = path == nullptr ? 0 : static_cast<uint32_t>(strlen(path));
  header.other_length = other == nullptr ? 0 : static_cast<uint32_t>(strlen(other));
  const iovec parts[] = {{&header, sizeof(header)},
                         {const_cast<char*>(path), header.path_length},
                         {const_cast<char*>(other), header.other_length},
                         {const_cast<char*>(data), header.data_length}};
  const size_t bytes =
      sizeof(header) + header.path_length + header.other_length + header.data_length;
  if (syscall(SYS_writev, g_journal, parts, 4) != static_cast<long>(bytes)) {
    Refuse("cannot write the journal for", path == nullptr ? "a file" : path);
  }
}

// Keeps what `full` names under the number of the next record.
void Keep(const char* full) {
  char name[kPathBytes];
  char digits[24];
  size_t at = sizeof(digits) - 1;
  digits[at] = 0;
  for (uint64_t rest = g_seq + 1; rest > 0; rest /= 10) {
    digits[--at] = static_cast<char>('0' + rest % 10);
  }
  strcat(strcpy(name, g_trash), digits + at);
  if (syscall(SYS_linkat, AT_FDCWD, full, AT_FDCWD, name, 0) != 0) Refuse("cannot keep", full);
}

// The inode of a path below; 0 if there is none.
uint64_t InodeOf(const char* below, mode_t* mode = nullptr) {
  char full[kPathBytes];
  FullPath(below, full);
  struct stat info {};
  if (lstat(full, &info) != 0) return 0;
  if (mode != nullptr) *mode = info.st_mode;
  return info.st_ino;
}

// Reads what a change takes away, [begin, end) of the file, to g_old.
size_t ReadOld(int fd, uint64_t begin, uint64_t end) {
  const size_t wanted = end - begin < kOldBytesMax ? end - begin : kOldBytesMax;
  char name[64] = "/proc/self/fd/";
  char digits[12];
  size_t at = sizeof(digits) - 1;
  digits[at] = 0;
  int rest = fd;
  do {
    digits[--at] = static_cast<char>('0' + rest % 10);
    rest /= 10;
  } while (rest > 0);
  strcat(name, digits + at);
  // Its own descriptor may be open for writing only.
  const auto reader = static_cast<int>(syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC));
  if (reader < 0) Refuse("cannot read what is written over in", FdPath(fd));
  const long got = syscall(SYS_pread64, reader, g_old, wanted, static_cast<off_t>(begin));
  syscall(SYS_close, reader);
  return got > 0 ? static_cast<size_t>(got) : 0;
}

}  // namespace

bool Forgets() {
  return g_journal >= 0;
}

JournalLock::JournalLock() {
  if (Forgets()) pthread_mutex_lock(&g_mutex);
}
JournalLock::~JournalLock() {
  if (Forgets()) pthread_mutex_unlock(&g_mutex);
}

void NoteCreated(int fd, const char* below) {
  if (!Forgets()) return;
  struct stat info {};
  if (fstat(fd, &info) != 0) Refuse("cannot inspect", below);
  Write({.kind = Kind::kCreated, .inode = info.st_ino}, below, nullptr, nullptr);
}

void NoteMadeDir(const char* below) {
  if (!Forgets()) return;
  Write({.kind = Kind::kMadeDir, .inode = InodeOf(below)}, below, nullptr, nullptr);
}

void NoteLinked(const char* from, const char* to) {
  if (!Forgets()) return;
  Write({.kind = Kind::kLinked, .inode = InodeOf(to)}, from, to, nullptr);
}

void NoteWrite(int fd, bool has_offset, int64_t offset, size_t length) {
  if (!Forgets()) return;
  struct stat info {};
  if (fstat(fd, &info) != 0) Refuse("cannot inspect", FdPath(fd));
  const auto size = static_cast<uint64_t>(info.st_size);
  auto begin = static_cast<uint64_t>(offset);
  if (!has_offset) {
    const bool appends = (fcntl(fd, F_GETFL) & O_APPEND) != 0;
    begin = appends ? size : static_cast<uint64_t>(lseek(fd, 0, SEEK_CUR));
  }
  const uint64_t end = begin + length;
  size_t old = 0;
  if (begin < size) old = ReadOld(fd, begin, end < size ? end : size);
  Header header{.kind = Kind::kWrite, .inode = info.st_ino, .offset = begin, .length = length};
  header.old_size = size;
  header.data_length = static_cast<uint32_t>(old);
  Write(header, FdPath(fd), nullptr, g_old);
}

void NoteTruncate(int fd, int64_t size) {
  if (!Forgets()) return;
  struct stat info {};
  if (fstat(fd, &info) != 0) Refuse("cannot inspect", FdPath(fd));
  Header header{.kind = Kind::kTruncate, .inode = info.st_ino};
  header.offset = static_cast<uint64_t>(size);
  header.old_size = static_cast<uint64_t>(info.st_size);
  if (header.offset < header.old_size) {
    header.data_length = static_cast<uint32_t>(ReadOld(fd, header.offset, header.old_size));
  }
  Write(header, FdPath(fd), nullptr, g_old);
}

void NoteTruncatePath(const char* below) {
  if (!Forgets()) return;
  char full[kPathBytes];
  FullPath(below, full);
  const auto fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, full, O_RDONLY | O_CLOEXEC));
  if (fd < 0) return;
  NoteTruncate(fd, 0);
  syscall(SYS_close, fd);
}

void NoteRename(const char* from, const char* to) {
  if (!Forgets()) return;
  mode_t mode = 0;
  const uint64_t replaced = InodeOf(to, &mode);
  if (replaced != 0 && !S_ISDIR(mode)) {
    char full[kPathBytes];
    FullPath(to, full);
    Keep(full);
  }
  Write({.kind = Kind::kRename, .inode = InodeOf(from), .replaced = replaced}, from, to, nullptr);
}

void NoteUnlink(const char* below) {
  if (!Forgets()) return;
  mode_t mode = 0;
  const uint64_t inode = InodeOf(below, &mode);
  if (inode != 0 && !S_ISDIR(mode)) {
    char full[kPathBytes];
    FullPath(below, full);
    Keep(full);
  }
  Write({.kind = Kind::kUnlink, .inode = inode}, below, nullptr, nullptr);
}

void NoteFailed() {
  if (Forgets()) Write({.kind = Kind::kFailed, .offset = g_seq}, nullptr, nullptr, nullptr);
}

uint64_t SyncBegins() {
  if (!Forgets()) return 0;
  const JournalLock lock;
  return g_seq;
}

void NoteSynced(int fd, uint64_t began) {
  if (!Forgets()) return;
  struct stat info {};
  if (fstat(fd, &info) != 0) Refuse("cannot inspect", FdPath(fd));
  const JournalLock lock;
  Write({.kind = Kind::kSynced, .inode = info.st_ino, .offset = began}, FdPath(fd), nullptr,
        nullptr);
}

}  // namespace azimuth_shim
