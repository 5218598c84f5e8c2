# azimuth_proto(NAME <name> ROOT <folder> FILES file... [GRPC file...])
#
#   Makes the static library azimuth_<name> (alias azimuth::<name>) from .proto files, named
#   relative to the include root <folder>. Messages come from FILES and services from GRPC. The code
#   is generated into the build tree, compiled without our warnings, and included as a SYSTEM header:
#   #include "azimuth/v1/search.grpc.pb.h".

function(azimuth_proto)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;ROOT" "FILES;GRPC")
  get_filename_component(source_root "${arg_ROOT}" ABSOLUTE)
  set(out "${PROJECT_BINARY_DIR}/roots/${arg_NAME}")
  file(MAKE_DIRECTORY "${out}")

  set(generated "")
  foreach(file IN LISTS arg_FILES)
    string(REGEX REPLACE "\\.proto$" "" stem "${file}")
    set(outputs "${out}/${stem}.pb.cc" "${out}/${stem}.pb.h")
    set(plugin "")
    if(file IN_LIST arg_GRPC)
      list(APPEND outputs "${out}/${stem}.grpc.pb.cc" "${out}/${stem}.grpc.pb.h")
      set(plugin "--grpc_out=${out}" "--plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>")
    endif()
    # Any .proto file may import any other of the set, so each depends on all.
    set(sources ${arg_FILES})
    list(TRANSFORM sources PREPEND "${source_root}/")
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND protobuf::protoc "--proto_path=${source_root}" "--cpp_out=${out}" ${plugin} "${file}"
      DEPENDS ${sources}
      COMMENT "Generating C++ from ${file}"
      VERBATIM)
    list(APPEND generated ${outputs})
  endforeach()

  set(target azimuth_${arg_NAME})
  add_library(${target} STATIC ${generated})
  target_include_directories(${target} SYSTEM PUBLIC "${out}")
  target_link_libraries(${target}
    PUBLIC protobuf::libprotobuf gRPC::grpc++
    PRIVATE azimuth_flags)
  add_library(azimuth::${arg_NAME} ALIAS ${target})
endfunction()
