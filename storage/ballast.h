// Ballast: a file of blocks that are given up when the disk is full, so that deletes, changes of
// the catalog and a clean stop still fit.
//
// Thread safety: one thread at a time.
// Errors: those of Files.
#pragma once

#include "storage/file.h"

#include "absl/status/status.h"

#include <cstdint>
#include <string>
#include <utility>

namespace azimuth::storage {

class Ballast final {
 public:
  // `path` is the file. Nothing is touched before the first call.
  Ballast(std::string path, Files& files) : path_(std::move(path)), files_(&files) {}

  // Counts what an earlier process left as held, so that it can be given up.
  absl::Status Find();
  // Takes `bytes` (0: none, and a file that is there goes). Does nothing if it took as many before.
  // On an error none are held.
  absl::Status Hold(uint64_t bytes);
  // Gives them up. Does nothing if none are held.
  absl::Status Release();
  uint64_t held_bytes() const { return held_; }
  // The held bytes were only found: a crash may have left the file without its blocks.
  bool unsure() const { return held_ > 0 && !taken_; }

 private:
  const std::string path_;
  Files* files_;
  uint64_t held_ = 0;
  bool taken_ = false;  // By Hold, not only found.
};

}  // namespace azimuth::storage
