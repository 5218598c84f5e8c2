# Finds hnswlib, which is headers only and has no CMake file of its own.
#
# Makes Hnswlib::hnswlib and Hnswlib_INCLUDE_DIR. Its header defines non-inline functions: only one
# source file may include it (index/graph/hnsw_builder.cc).
find_path(Hnswlib_INCLUDE_DIR NAMES hnswlib/hnswlib.h)
mark_as_advanced(Hnswlib_INCLUDE_DIR)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Hnswlib REQUIRED_VARS Hnswlib_INCLUDE_DIR)

if(Hnswlib_FOUND AND NOT TARGET Hnswlib::hnswlib)
  add_library(Hnswlib::hnswlib INTERFACE IMPORTED)
  set_target_properties(Hnswlib::hnswlib PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${Hnswlib_INCLUDE_DIR}")
endif()
