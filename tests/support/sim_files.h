// SimFiles: a disk in memory below storage::Files and RocksDB at once, which can lose power, lose
// its process, and fail at any chosen operation. Deterministic from its seeds as long as one thread
// asks; RocksDB's background threads (flushes, merges of tables) bring in their own order.
//
//   SimFiles disk(seed);
//   options.files = &disk.process();          // and a data directory like "/data"
//   disk.FailAfter(17);                       // the 17th change from now fails, and all later ones
//   ... work until something is refused ...
//   disk.Crash(seed);                         // power is lost; or disk.KillProcess()
//   options.files = &disk.process();          // the new process
//   ... open again, check; then destroy the old database: it can no longer touch the disk ...
//
// The rules of what a power failure leaves are those of sim_disk.h: strict POSIX, in that syncing a
// file does not make its name durable. RocksDB 7.8 opens under them: it syncs the directory after
// it made a table, a manifest or CURRENT, and at the first synced write into a new log.
// A path begins with a slash; "/" is there from the start. RocksDB's text log is not written.
//
// Ownership: what process() returned lives as long as the SimFiles, and everything opened through
// it must be gone before that.
// Thread safety: all of it.
#pragma once

#include "storage/file.h"

#include "absl/status/status.h"

#include <cstdint>
#include <memory>
#include <string_view>

namespace azimuth::testing {

class SimFiles final {
 public:
  // `seed` chooses how much is written by the write that FailAfter cuts short.
  explicit SimFiles(uint64_t seed);
  ~SimFiles();
  SimFiles(const SimFiles&) = delete;
  SimFiles& operator=(const SimFiles&) = delete;

  // The file system as the process that runs now sees it, with RocksDB's Env for it.
  storage::Files& process();

  // The power is lost. Of each file the synced bytes stay and, as `seed` has it, some of the rest:
  // a prefix that may end anywhere; and of each unsynced write over synced bytes nothing, all or a
  // prefix. Changes of directories that were not synced are kept or undone.
  // Everything that was opened before, and every earlier process(), answers Unavailable for ever
  // (what is mapped stays readable). Locks are free and FailAfter is forgotten.
  void Crash(uint64_t seed);
  // kill -9: the same, but everything written stays, synced or not.
  void KillProcess();

  // Lets the nth operation from now that changes something fail (n from 1), and all that follow, up
  // to Crash or KillProcess. Reads go on. If it is a write, a part of its bytes may be written.
  void FailAfter(uint64_t n);
  // Lets the nth operation `what` ("create", "write", "sync", "rename", "remove", "link") from now
  // of a path that has `part` in it fail with `status`, and no other.
  void FailOnce(std::string_view what, std::string_view part, absl::Status status, uint64_t n = 1);
  // Whether a failure of FailAfter has happened since the last Crash or KillProcess.
  bool failed() const;
  // The disk has room for `bytes` bytes of files, or for as many more than it holds now; endless at
  // first. What does not fit is ResourceExhausted (of a write the part that fits is written), and
  // so is a new name when nothing is free. Names and directories themselves take no room.
  void SetCapacity(uint64_t bytes);
  void SetFree(uint64_t bytes);
  // What Files::Space says of it.
  void SetNetwork(bool network);
  // Operations so far that changed something or failed: create, write, sync, rename, remove,
  // make or sync a directory.
  uint64_t operations() const;

 private:
  struct Rep;
  std::unique_ptr<Rep> rep_;
};

}  // namespace azimuth::testing
