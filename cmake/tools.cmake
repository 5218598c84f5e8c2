# ccache and mold make builds faster; both are used when found and nothing depends on them.
find_program(AZIMUTH_CCACHE ccache)
if(AZIMUTH_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${AZIMUTH_CCACHE}")
endif()

find_program(AZIMUTH_MOLD mold)
if(AZIMUTH_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
