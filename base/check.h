// AZ_CHECK and AZ_DCHECK: assertions about the program itself, never about input or bytes from
// disk.
//
// AZ_CHECK is always on. AZ_DCHECK is compiled in unless NDEBUG is set: for hot loops.
#pragma once

namespace azimuth {

// Prints the place and the condition to stderr and aborts. Never returns.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace azimuth

#define AZ_CHECK(condition)                            \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::azimuth::CheckFailed(__FILE__, __LINE__, #condition))

#ifdef NDEBUG
#define AZ_DCHECK(condition) static_cast<void>(0)
#else
#define AZ_DCHECK(condition) AZ_CHECK(condition)
#endif
