// Fault shim: a library to preload (LD_PRELOAD) that makes system calls of an unchanged program
// fail, or notes what a power failure would forget.
//
// Only calls on files under AZIMUTH_FAULT_DIR (an absolute path) count, and accept on any socket.
//
// Environment:
//   AZIMUTH_FAULTS=rules           what fails, see below
//   AZIMUTH_FAULT_CONTROL=path     an existing file of kControlBytes with rules that can change
//                                  while the program runs; they replace AZIMUTH_FAULTS
//   AZIMUTH_FAULT_COUNTS=path      a file that is made and always has the numbers of calls so far
//   AZIMUTH_FORGET=folder          keeps a journal of what is not synced (journal.cc) in it
//
// Rules: "call[(glob)]@n[-m]=ACTION[:sticky]", separated by semicolons. The nth (to mth; sticky: to
// the last) call of this kind on a file whose path below AZIMUTH_FAULT_DIR matches the glob meets
// the action; each rule counts for itself. Calls: those of kCallNames; "sync" is fsync and
// fdatasync, "space" is all that take space, "change" is all that change the disk, "any" is all on
// files. In a glob * is any text (slashes too) and ? one character.
// Actions: an errno name of kErrors; "short" (half of a write or read); "sleep:MS"; "kill" (SIGKILL
// before the call); "skip" (of a sync: it says that it worked, and does nothing); for "clock" also
// "offset:MS" and "freeze" (CLOCK_REALTIME only).
// Rules that cannot be read end the program with code 70 and a line on stderr.
//
// Thread safety: all of it, and no call allocates memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/types.h>

namespace azimuth_shim {

enum Call : int {
  kOpen,  // Without the right to change anything.
  kCreate,
  kClose,
  kRead,
  kPread,
  kWrite,
  kPwrite,
  kFsync,
  kFdatasync,
  kSyncRange,
  kRename,
  kUnlink,
  kMkdir,
  kTruncate,
  kAllocate,
  kMmap,
  kLink,
  kAccept,
  kClock,
  kCallCount
};

inline constexpr const char* kCallNames[kCallCount] = {
    "open",     "create",    "close",      "read",   "pread",  "write", "pwrite",
    "fsync",    "fdatasync", "sync_range", "rename", "unlink", "mkdir", "truncate",
    "allocate", "mmap",      "link",       "accept", "clock"};

// The control file: u64 generation (odd while it is written), u64 length, the text.
inline constexpr size_t kControlBytes = 4096;
// The file of counts: u64 calls of each kind, in order; u64 actions at kHitsOffset; then the call
// and path of the first and of the last action since the rules changed, as text that ends with 0.
inline constexpr size_t kCountsBytes = 4096;
inline constexpr size_t kHitsOffset = 512;
inline constexpr size_t kFirstHitOffset = 1024;
inline constexpr size_t kLastHitOffset = 2048;
inline constexpr size_t kHitBytes = 512;

// What the rules say of one call.
struct Verdict {
  int error = 0;  // An errno, or 0: it happens.
  bool shortened = false;
  bool skipped = false;
};

// --- rules.cc

// Counts a call, sleeps or dies as the rules want it, and returns the rest.
Verdict Visit(Call call, const char* path);
// CLOCK_REALTIME, nanoseconds, as the program is to see it.
int64_t RealTimeSeen(int64_t real_ns);
// Ends the program: the shim cannot do what it was told.
[[noreturn]] void Refuse(const char* what, const char* detail);

// --- paths.cc: which files count

inline constexpr size_t kPathBytes = 512;

// Writes the path below AZIMUTH_FAULT_DIR to `out` (empty for the folder itself); false if it lies
// elsewhere. `directory` is that of openat and its like.
bool PathBelow(int directory, const char* path, char (&out)[kPathBytes]);
// The full path of one below.
void FullPath(const char* below, char (&out)[kPathBytes]);
// `changes`: it was opened to be written.
void FdOpened(int fd, const char* below, bool changes);
bool FdChanges(int fd);
void FdClosed(int fd);
// Null if it does not count.
const char* FdPath(int fd);

// --- journal.cc: what is not synced

bool Forgets();
// Held over a change and its record; does nothing unless Forgets().
class JournalLock final {
 public:
  JournalLock();
  ~JournalLock();
  JournalLock(const JournalLock&) = delete;
  JournalLock& operator=(const JournalLock&) = delete;
};
// Under the lock. After it happened:
void NoteCreated(int fd, const char* below);
void NoteMadeDir(const char* below);
void NoteLinked(const char* from, const char* to);
// Before it happens; if it then does not, NoteFailed.
void NoteWrite(int fd, bool has_offset, int64_t offset, size_t length);
void NoteTruncate(int fd, int64_t size);
void NoteTruncatePath(const char* below);  // To nothing, if it is there.
void NoteRename(const char* from, const char* to);
void NoteUnlink(const char* below);
void NoteFailed();
// Without the lock: before a sync, and after one that worked.
uint64_t SyncBegins();
void NoteSynced(int fd, uint64_t began);

}  // namespace azimuth_shim
