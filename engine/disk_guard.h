// DiskGuard: how much of the disk is left, and what may still be written to it.
//
// Writes that add data are refused below a floor, merges and builds stop earlier; deletes, changes
// of the catalog and flushes go on until nothing is left. Then a ballast file is given up, so that
// they still fit, and taken again once there is room.
//
// Thread safety: Refresh by one thread at a time; the rest from any thread.
#pragma once

#include "base/mutex.h"
#include "storage/ballast.h"
#include "storage/file.h"

#include "absl/status/status.h"

#include <atomic>
#include <cstdint>
#include <string>

namespace azimuth::engine {

class DiskGuard final {
 public:
  struct Limits {
    uint64_t floor_bytes = 0;  // 0: the smaller of 5 % of the disk and 1 GiB.
    // At most a sixteenth of the disk is taken.
    uint64_t ballast_bytes = 0;
  };
  struct Info {
    uint64_t capacity_bytes = 0;
    uint64_t free_bytes = 0;
    uint64_t floor_bytes = 0;
    uint64_t ballast_bytes = 0;
    bool low = false;
  };

  // `directory` is where the data lies. `files` outlives it.
  DiskGuard(std::string directory, std::string ballast_path, storage::Files& files, Limits limits);

  // Looks at the disk and acts on it. Errors of looking are logged, and change nothing.
  void Refresh();
  // A write found the disk full.
  void NoteFull() { met_full_.store(true, std::memory_order_release); }

  // ResourceExhausted, with numbers, while less than the floor is free.
  absl::Status AdmitWrite() const;
  // False while a build or a merge might take what is left.
  bool BuildsAllowed() const { return !tight_.load(std::memory_order_acquire); }
  Info info() const;

 private:
  const std::string directory_;
  storage::Files& files_;
  const Limits limits_;
  storage::Ballast ballast_;  // Used by Refresh only.
  std::atomic<bool> met_full_{false};
  std::atomic<bool> low_{false};
  std::atomic<bool> tight_{false};
  bool look_failed_ = false;  // Said so once.
  mutable Mutex mu_;
  Info info_ AZ_GUARDED_BY(mu_);
};

}  // namespace azimuth::engine
