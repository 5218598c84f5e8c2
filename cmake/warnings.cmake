# azimuth_warnings: the warnings of our own code, all of them errors. Headers of imported targets
# are SYSTEM and generated code does not link this target, so neither is held to them.
add_library(azimuth_warnings INTERFACE)
target_compile_options(azimuth_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # clang counts sign conversions under -Wconversion and g++ does not: one rule for both.
  target_compile_options(azimuth_warnings INTERFACE -Wno-sign-conversion)
  if(AZIMUTH_THREAD_SAFETY)
    target_compile_options(azimuth_warnings INTERFACE -Wthread-safety -Wthread-safety-beta)
  endif()
elseif(AZIMUTH_THREAD_SAFETY)
  message(FATAL_ERROR "AZIMUTH_THREAD_SAFETY needs clang; the compiler is "
    "${CMAKE_CXX_COMPILER_ID} (use the preset lint)")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 with optimisation reports every std::variant that is moved out of a StatusOr, and "x" +
  # std::string (GCC bug 105651); clang and the sanitizers look for the real cases.
  target_compile_options(azimuth_warnings INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
endif()
