// Whether a sanitizer slows this build: what is repeated for its statistics need not be as often.
#pragma once

namespace azimuth::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace azimuth::testing
