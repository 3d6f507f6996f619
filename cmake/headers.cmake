# SPDX-License-Identifier: Apache-2.0
# Header-only dependencies, by file rather than by package: they serve any target processor, but the host's include
# folder as a whole would put the host's libc in front of a cross compiler's.

# Makes an interface target `name` for the headers in the folder `folder` of which `header` is one.
function(bnorm_find_headers name folder header)
  find_path(BNORM_${name}_INCLUDE_DIR ${folder}/${header} REQUIRED)
  set(include_dir ${BNORM_${name}_INCLUDE_DIR})
  if(CMAKE_CROSSCOMPILING)
    set(include_dir ${PROJECT_BINARY_DIR}/headers/${name})
    file(MAKE_DIRECTORY ${include_dir})
    file(CREATE_LINK ${BNORM_${name}_INCLUDE_DIR}/${folder} ${include_dir}/${folder} SYMBOLIC)
  endif()
  add_library(bnorm_headers_${name} INTERFACE)
  target_include_directories(bnorm_headers_${name} SYSTEM INTERFACE ${include_dir})
endfunction()

bnorm_find_headers(xsimd xsimd xsimd.hpp)
if(BNORM_BUILD_TESTS)
  bnorm_find_headers(doctest doctest doctest.h)
  bnorm_find_headers(boost boost multiprecision/cpp_int.hpp)
  bnorm_find_headers(dlpack dlpack dlpack.h)
endif()
