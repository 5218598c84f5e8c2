# azimuth_flags: compile and link flags that every target of ours has (sanitizers, failpoints,
# library assertions outside releases).
#
# azimuth_without_sanitizers(FILE...): compiles these source files of the current folder without any
# sanitizer. Only for code of others that is known to trip them: hnswlib 0.6.2 reads one neighbour
# past a full upper list and shares its level generator between threads without a lock.
add_library(azimuth_flags INTERFACE)
target_link_libraries(azimuth_flags INTERFACE Threads::Threads)

if(AZIMUTH_FAILPOINTS)
  target_compile_definitions(azimuth_flags INTERFACE AZ_FAILPOINTS_ENABLED=1)
endif()
if(NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_definitions(azimuth_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()
if(AZIMUTH_SANITIZE)
  set(flags "-fsanitize=${AZIMUTH_SANITIZE}" -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(azimuth_flags INTERFACE ${flags})
  target_link_options(azimuth_flags INTERFACE ${flags})
endif()
if(AZIMUTH_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "AZIMUTH_FUZZ needs clang; the compiler is ${CMAKE_CXX_COMPILER_ID} "
      "(use the preset fuzz)")
  endif()
  target_compile_options(azimuth_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(azimuth_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(azimuth_without_sanitizers)
  if(AZIMUTH_SANITIZE OR AZIMUTH_FUZZ)
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "-fno-sanitize=all")
  endif()
endfunction()
