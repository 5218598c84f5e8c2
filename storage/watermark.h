// Watermark: the last commit that is known to be synced, kept outside of RocksDB, so that a log
// that went missing or lost its end is noticed: RocksDB alone would open with less and say nothing.
//
// File WATERMARK of the data directory, two slots written in turns: a torn write leaves the other
// one. Byte table: docs/FORMATS.md, "Watermark".
//
// Thread safety: any number of threads.
// Errors: those of Files. After a failed Write or Reset no other one is tried and each answers the
// first error: the failed sync may have dropped the bytes, and a later one would then answer OK.
// ResourceExhausted is the exception: a full disk heals, and the next Write writes the slot anew.
#pragma once

#include "base/ids.h"
#include "storage/file.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace azimuth::storage {

class Watermark final {
 public:
  struct Mark {
    Seq seq{};
    bool clean = false;  // Written by a shutdown after which nothing was committed.
    friend bool operator==(const Mark&, const Mark&) = default;
  };
  struct Found {
    std::optional<Mark> mark;  // The newest of the slots that can be read.
    bool missing = false;      // There is no such file.
    // The file is there and no slot of it is right, or the disk cannot read it; or one of the two
    // is damaged. Then `mark` is that of the other one, and later marks may have been written.
    bool damaged = false;
  };

  // Reads without changing anything. `instance` is that of the data directory: slots of another one
  // count as damaged.
  static absl::StatusOr<Found> Read(const std::string& path, uint64_t instance,
                                    Files& files = Files::Posix());
  // Reads, and makes the file (with its name synced) if it is missing, with marks of zero. What is
  // damaged stays so until the first Write or Reset.
  static absl::StatusOr<std::unique_ptr<Watermark>> Open(const std::string& path, uint64_t instance,
                                                         Files& files = Files::Posix());

  ~Watermark();
  Watermark(const Watermark&) = delete;
  Watermark& operator=(const Watermark&) = delete;

  // What the file had when it was opened.
  const Found& found() const { return found_; }
  // The last mark that is on disk; zero if there is none.
  Seq written() const;

  // Writes and syncs. Does nothing (OK) if `seq` is less than the last one, or equal with the same
  // `clean` and no slot was damaged. A mark never goes back, except by Reset.
  absl::Status Write(Seq seq, bool clean);
  // Begins again at `seq` whatever was there: an accepted loss, a restore.
  absl::Status Reset(Seq seq);

 private:
  struct Rep;
  Watermark(std::unique_ptr<Rep> rep, Found found);
  std::unique_ptr<Rep> rep_;
  const Found found_;
};

}  // namespace azimuth::storage
