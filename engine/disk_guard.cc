#include "engine/disk_guard.h"

#include "base/logging.h"
#include "base/status.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr uint64_t kFloorBytesMax = uint64_t{1} << 30;
constexpr uint64_t kFloorPart = 20;    // Of the disk.
constexpr uint64_t kBallastPart = 16;  // Of the disk.

}  // namespace

DiskGuard::DiskGuard(std::string directory, std::string ballast_path, storage::Files& files,
                     Limits limits)
    : directory_(std::move(directory)),
      files_(files),
      limits_(limits),
      ballast_(std::move(ballast_path), files) {
  // Of an earlier process; if it cannot be looked at, it is made anew.
  ballast_.Find().IgnoreError();
}

void DiskGuard::Refresh() {
  const absl::StatusOr<storage::DiskSpace> space = files_.Space(directory_);
  if (!space.ok()) {
    if (!look_failed_)
      LogWarning("cannot tell how much of the disk is free: %s",
                 std::string(space.status().message()));
    look_failed_ = true;
    return;
  }
  look_failed_ = false;
  const uint64_t floor = limits_.floor_bytes > 0
                             ? limits_.floor_bytes
                             : std::min(space->capacity_bytes / kFloorPart, kFloorBytesMax);
  const uint64_t wanted = std::min(limits_.ballast_bytes, space->capacity_bytes / kBallastPart);
  uint64_t free = space->free_bytes;
  const bool met_full = met_full_.exchange(false);
  absl::Status status;
  if (ballast_.held_bytes() > 0 && (met_full || free < floor / 4)) {
    LogWarning("the disk is full: the ballast of %d bytes is given up", ballast_.held_bytes());
    const uint64_t held = ballast_.held_bytes();
    status = ballast_.Release();
    if (status.ok()) free += held;
  } else if ((ballast_.held_bytes() != wanted || ballast_.unsure()) && free >= 2 * floor + wanted) {
    status = ballast_.Hold(wanted);
    if (status.ok()) free -= std::min(free, wanted);
  }
  if (!status.ok()) LogWarning("ballast: %s", std::string(status.message()));

  // What was given up is for deletes and the catalog, not for more data.
  const uint64_t missing = wanted - std::min(wanted, ballast_.held_bytes());
  const bool was_low = low_.load(std::memory_order_relaxed);
  const uint64_t least = floor + missing;
  // Some more must be free again before writes go on, so that they do not stop at once.
  const bool low = free < (was_low ? least + floor / 8 : least);
  if (low != was_low) {
    if (low) {
      LogWarning("%d bytes of the disk are free, fewer than %d: writes but deletes are refused",
                 free, least);
    } else {
      LogInfo("%d bytes of the disk are free: writes are taken again", free);
    }
  }
  low_.store(low, std::memory_order_release);
  tight_.store(free < least + floor / 2, std::memory_order_release);
  MutexLock lock(mu_);
  info_ = {.capacity_bytes = space->capacity_bytes,
           .free_bytes = free,
           .floor_bytes = least,
           .ballast_bytes = ballast_.held_bytes(),
           .low = low};
}

absl::Status DiskGuard::AdmitWrite() const {
  if (!low_.load(std::memory_order_acquire)) return absl::OkStatus();
  const Info now = info();
  return ResourceExhausted(
      "%d bytes of the disk are free, and writes need %d; delete records or make room; deletes are "
      "still taken; outcome: not_applied",
      now.free_bytes, now.floor_bytes);
}

DiskGuard::Info DiskGuard::info() const {
  MutexLock lock(mu_);
  return info_;
}

}  // namespace azimuth::engine
