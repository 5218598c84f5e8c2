#include "server/rpc/handler_times.h"

#include <algorithm>

namespace azimuth::server {
namespace {

constexpr uint64_t kUnit = 64;  // Nanoseconds.
constexpr uint64_t kHalf = uint64_t{1} << 32;
constexpr uint64_t kMost = kHalf - 1;
constexpr uint64_t kWeight = 8;   // One time counts an eighth.
constexpr uint64_t kOutlier = 8;  // Times the average.

}  // namespace

std::chrono::nanoseconds HandlerTimes::Expected(uint64_t kind,
                                                std::chrono::nanoseconds unknown) const {
  const uint64_t entry = entries_[IndexOf(kind)].load(std::memory_order_relaxed);
  if (entry == 0 || entry / kHalf != kind / kHalf) return unknown;
  return std::chrono::nanoseconds(entry % kHalf * kUnit);
}

void HandlerTimes::Note(uint64_t kind, std::chrono::nanoseconds took) {
  std::atomic<uint64_t>& place = entries_[IndexOf(kind)];
  const uint64_t entry = place.load(std::memory_order_relaxed);
  const auto took_ns = static_cast<uint64_t>(std::max<int64_t>(took.count(), 0));
  const uint64_t time = std::clamp<uint64_t>(took_ns / kUnit, 1, kMost);
  uint64_t average = time;
  if (entry != 0 && entry / kHalf == kind / kHalf) {
    const uint64_t before = entry % kHalf;
    const uint64_t counted = std::min(time, before * kOutlier);
    // Rounded towards `counted`, so that it is reached.
    average = counted > before ? before + (counted - before + kWeight - 1) / kWeight
                               : before - (before - counted + kWeight - 1) / kWeight;
  }
  place.store(kind / kHalf * kHalf + std::min(average, kMost), std::memory_order_relaxed);
}

}  // namespace azimuth::server
