# Hardening of every target of ours. Fortified calls and the stack protector only in releases:
# the sanitizers do not go together with _FORTIFY_SOURCE.
target_compile_options(azimuth_flags INTERFACE -fPIE)
target_link_options(azimuth_flags INTERFACE -pie -Wl,-z,relro,-z,now)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(azimuth_flags INTERFACE -fstack-protector-strong)
  target_compile_definitions(azimuth_flags INTERFACE _FORTIFY_SOURCE=2)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    target_compile_options(azimuth_flags INTERFACE -fcf-protection)
  endif()
endif()
