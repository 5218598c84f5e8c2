// Clock: where time comes from, so that tests can set it. Order never comes from a clock.
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
  // Milliseconds of a clock that only goes forward: for intervals, never shown to anybody.
  virtual int64_t SteadyMillis() const = 0;

  // The system's clock; lives for ever.
  static const Clock& System();
};

}  // namespace azimuth
