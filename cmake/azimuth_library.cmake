# azimuth_library(NAME <layer>
#                 [SOURCES file...] [HEADERS file...] [INTERNAL_HEADERS file...]
#                 [PUBLIC target...] [PRIVATE target...])
#
#   Makes the static library azimuth_<layer> (alias azimuth::<layer>) from files of the current
#   folder; with no SOURCES it is header-only. Paths are relative to the folder.
#   HEADERS are what the layers above may include: the preset lint compiles each one alone with
#   nothing but the PUBLIC targets. INTERNAL_HEADERS are for the layer itself and its own tests.
#   PUBLIC and PRIVATE are link targets. What HEADERS do not need must be PRIVATE: this is how
#   server does not see the headers of index and storage.
#
#     azimuth_library(NAME index
#       SOURCES graph/search.cc
#       HEADERS graph/search.h
#       PUBLIC azimuth::base
#       PRIVATE hwy::hwy)
#
# azimuth_executable(NAME <binary> SOURCES file... DEPS target...)
#
#   Makes an executable of ours with the same warnings and flags, in the build folder that mirrors
#   the source folder.
#
# azimuth_include_root(<layer> <variable>)
#
#   Sets <variable> to the layer's include root: a folder of the build tree that holds only a link
#   to the layer's source folder, so that "index/graph/search.h" is found by whoever links
#   azimuth::index and by nobody else.

function(azimuth_include_root layer variable)
  set(root "${PROJECT_BINARY_DIR}/roots/${layer}")
  file(MAKE_DIRECTORY "${root}")
  file(CREATE_LINK "${PROJECT_SOURCE_DIR}/${layer}" "${root}/${layer}" SYMBOLIC)
  set(${variable} "${root}" PARENT_SCOPE)
endfunction()

function(azimuth_library)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME"
    "SOURCES;HEADERS;INTERNAL_HEADERS;PUBLIC;PRIVATE")
  if(NOT arg_NAME OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "azimuth_library: NAME is missing or an argument is unknown: "
      "'${arg_UNPARSED_ARGUMENTS}'")
  endif()
  set(target azimuth_${arg_NAME})
  azimuth_include_root(${arg_NAME} root)

  # Headers are named through the link, where the include root's file set expects them.
  set(headers ${arg_HEADERS})
  list(TRANSFORM headers PREPEND "${root}/${arg_NAME}/")

  if(arg_SOURCES)
    add_library(${target} STATIC ${arg_SOURCES} ${arg_INTERNAL_HEADERS})
    target_include_directories(${target} PUBLIC "${root}")
    target_link_libraries(${target}
      PUBLIC ${arg_PUBLIC}
      PRIVATE ${arg_PRIVATE} azimuth_warnings azimuth_flags)
    target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS "${root}" FILES ${headers})
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE "${root}")
    target_link_libraries(${target} INTERFACE ${arg_PUBLIC})
    target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS "${root}" FILES ${headers})
  endif()
  add_library(azimuth::${arg_NAME} ALIAS ${target})
endfunction()

function(azimuth_executable)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "SOURCES;DEPS")
  if(NOT arg_NAME OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "azimuth_executable: NAME or SOURCES is missing or an argument is unknown: "
      "'${arg_UNPARSED_ARGUMENTS}'")
  endif()
  add_executable(${arg_NAME} ${arg_SOURCES})
  target_link_libraries(${arg_NAME} PRIVATE ${arg_DEPS} azimuth_warnings azimuth_flags)
endfunction()
