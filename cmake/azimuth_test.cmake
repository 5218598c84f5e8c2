# azimuth_test(NAME <binary> SOURCES file... [DEPS target...] [LABELS label...] [TIMEOUT seconds]
#              [SHARDS count])
#
#   Makes a GoogleTest binary with gtest_main and gmock, and one CTest entry of the same name
#   (./dev test counts its single cases from the XML it writes). One binary per layer, which links
#   only its own layer: azimuth_index_tests has DEPS azimuth::index. "tests/support/..." is on the
#   include path. LABELS defaults to unit, to which the folder under tests/ is added; TIMEOUT is 600
#   when not given. The target tests_<folder> builds all test binaries of a folder. With SHARDS the
#   cases are shared out among so many CTest entries, which run at the same time: of the names
#   <binary>, <binary>_2, ..., links to the binary, since GoogleTest names its XML by them.
#
#     azimuth_test(NAME azimuth_index_tests SOURCES graph/search_test.cc DEPS azimuth::index)
#
# azimuth_test_support(NAME <name> [SOURCES file...] [DEPS target...])
#
#   Makes azimuth_<name> (alias azimuth::<name>), helpers that several test binaries share.
#
# azimuth_bench(NAME <binary> SOURCES file... [DEPS target...])
#
#   Makes a Google Benchmark binary with benchmark_main. `./dev bench X` runs azimuth_X_bench.
#
# azimuth_fuzz(NAME <binary> SOURCES file... [DEPS target...] CORPUS <folder>)
#
#   Makes a libFuzzer binary when AZIMUTH_FUZZ is on, else nothing.
#
# azimuth_fuzz_list()
#
#   Called once, after all azimuth_fuzz: makes the target fuzz_targets, and writes
#   <build>/fuzz_targets.txt for `./dev fuzz`, one line "<binary> <corpus folder>" per target.

function(azimuth_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;TIMEOUT;SHARDS" "SOURCES;DEPS;LABELS")
  if(NOT arg_NAME OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "azimuth_test: NAME or SOURCES is missing or an argument is unknown: "
      "'${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  azimuth_include_root(tests root)
  azimuth_executable(NAME ${arg_NAME} SOURCES ${arg_SOURCES}
    DEPS ${arg_DEPS} GTest::gtest_main GTest::gmock)
  target_include_directories(${arg_NAME} PRIVATE "${root}")

  file(RELATIVE_PATH folder "${PROJECT_SOURCE_DIR}/tests" "${CMAKE_CURRENT_SOURCE_DIR}")
  string(REGEX REPLACE "/.*" "" folder "${folder}")
  if(NOT TARGET tests_${folder})
    add_custom_target(tests_${folder})
  endif()
  add_dependencies(tests_${folder} ${arg_NAME})
  add_test(NAME ${arg_NAME} COMMAND ${arg_NAME})
  set_tests_properties(${arg_NAME} PROPERTIES
    LABELS "${arg_LABELS};${folder}" TIMEOUT ${arg_TIMEOUT})
  if(NOT arg_SHARDS)
    return()
  endif()
  set_tests_properties(${arg_NAME} PROPERTIES
    ENVIRONMENT "GTEST_TOTAL_SHARDS=${arg_SHARDS};GTEST_SHARD_INDEX=0")
  foreach(shard RANGE 2 ${arg_SHARDS})
    set(link ${arg_NAME}_${shard})
    math(EXPR index "${shard} - 1")
    add_custom_command(TARGET ${arg_NAME} POST_BUILD COMMAND
      "${CMAKE_COMMAND}" -E create_symlink "$<TARGET_FILE_NAME:${arg_NAME}>"
      "$<TARGET_FILE_DIR:${arg_NAME}>/${link}")
    add_test(NAME ${link} COMMAND "$<TARGET_FILE_DIR:${arg_NAME}>/${link}")
    set_tests_properties(${link} PROPERTIES
      LABELS "${arg_LABELS};${folder}" TIMEOUT ${arg_TIMEOUT}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${arg_SHARDS};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()

function(azimuth_test_support)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "SOURCES;DEPS")
  azimuth_include_root(tests root)
  set(target azimuth_${arg_NAME})
  if(arg_SOURCES)
    add_library(${target} STATIC ${arg_SOURCES})
    target_include_directories(${target} PUBLIC "${root}")
    target_link_libraries(${target}
      PUBLIC ${arg_DEPS} GTest::gtest GTest::gmock
      PRIVATE azimuth_warnings azimuth_flags)
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE "${root}")
    target_link_libraries(${target} INTERFACE ${arg_DEPS} GTest::gtest GTest::gmock)
  endif()
  add_library(azimuth::${arg_NAME} ALIAS ${target})
endfunction()

function(azimuth_bench)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "SOURCES;DEPS")
  azimuth_include_root(bench root)
  azimuth_executable(NAME ${arg_NAME} SOURCES ${arg_SOURCES}
    DEPS ${arg_DEPS} benchmark::benchmark_main)
  target_include_directories(${arg_NAME} PRIVATE "${root}")
endfunction()

function(azimuth_fuzz)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;CORPUS" "SOURCES;DEPS")
  if(NOT AZIMUTH_FUZZ)
    return()
  endif()
  azimuth_include_root(tests root)
  azimuth_executable(NAME ${arg_NAME} SOURCES ${arg_SOURCES} DEPS ${arg_DEPS})
  target_include_directories(${arg_NAME} PRIVATE "${root}")
  target_link_options(${arg_NAME} PRIVATE -fsanitize=fuzzer)
  get_filename_component(corpus "${arg_CORPUS}" ABSOLUTE)
  set_property(GLOBAL APPEND PROPERTY AZIMUTH_FUZZ_TARGETS ${arg_NAME})
  set_property(GLOBAL APPEND_STRING PROPERTY AZIMUTH_FUZZ_LIST
    "$<TARGET_FILE:${arg_NAME}> ${corpus}\n")
endfunction()

function(azimuth_fuzz_list)
  get_property(targets GLOBAL PROPERTY AZIMUTH_FUZZ_TARGETS)
  get_property(list GLOBAL PROPERTY AZIMUTH_FUZZ_LIST)
  if(targets)
    add_custom_target(fuzz_targets DEPENDS ${targets})
    file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/fuzz_targets.txt" CONTENT "${list}")
  endif()
endfunction()
