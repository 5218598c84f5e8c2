// FakeClock: time that a test sets.
//
// Thread safety: any number of threads.
#pragma once

#include "base/clock.h"

#include <atomic>
#include <cstdint>

namespace azimuth::testing {

class FakeClock final : public Clock {
 public:
  static constexpr int64_t kStart = int64_t{1800000000} * 1000000;  // In 2027.

  int64_t NowUnixMicros() const override { return kStart + passed_us_.load(); }
  int64_t SteadyMillis() const override { return passed_us_.load() / 1000; }
  void AdvanceMicros(int64_t us) { passed_us_.fetch_add(us); }
  void AdvanceMillis(int64_t ms) { AdvanceMicros(ms * 1000); }

 private:
  std::atomic<int64_t> passed_us_{0};
};

}  // namespace azimuth::testing
