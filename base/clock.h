// Clock: where wall time comes from, so that tests can set it. Order never comes from a clock.
//
// Thread safety: any number of threads.
#pragma once

#include <cstdint>

namespace azimuth {

class Clock {
 public:
  virtual ~Clock() = default;
  // Microseconds since 1970-01-01 UTC.
  virtual int64_t NowUnixMicros() const = 0;

  // The system's clock; lives for ever.
  static const Clock& System();
};

// Milliseconds of the steady clock: for intervals, never shown to anybody.
int64_t SteadyMillis();

}  // namespace azimuth
