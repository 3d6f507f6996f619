# SPDX-License-Identifier: Apache-2.0
# Instruction set -> source file and flags. Each set is an OBJECT library of its own, so that no function compiled for a
# newer CPU can stand in for one of the baseline (tests check it by nm).

# Flags of one instruction set; `available` is false where the target processor has none of its kind. A set also turns
# off what lies above it, should the user's CXXFLAGS name a newer CPU.
function(bnorm_isa name available flags)
  set(x86_64 FALSE)
  set(aarch64 FALSE)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(x86_64 TRUE)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(aarch64 TRUE)
  endif()
  set(own_flags "")
  if(name STREQUAL "generic")
    set(fits TRUE)
  elseif(name STREQUAL "sse42")
    set(fits ${x86_64})
    set(own_flags -msse4.2 -mno-avx)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # Else it copies lanes of f64, structs of 8 registers, with "rep movs": backward planar 8x64x196 takes 0.87 without.
      list(APPEND own_flags -mstringop-strategy=unrolled_loop)
    endif()
  elseif(name STREQUAL "avx2")
    set(fits ${x86_64})
    set(own_flags -mavx2 -mfma -mf16c -mno-avx512f)
  elseif(name STREQUAL "avx512")
    set(fits ${x86_64})
    set(own_flags -mavx2 -mfma -mf16c -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
      # Its own headers make "undefined" vectors by self-initialization (GCC bug 105593).
      list(APPEND own_flags -Wno-uninitialized -Wno-maybe-uninitialized)
    endif()
  elseif(name STREQUAL "neon64")
    set(fits ${aarch64})
  else()
    message(FATAL_ERROR "src/isa_list.inc names the instruction set '${name}', for which cmake/isa.cmake has no flags")
  endif()
  set(${available} ${fits} PARENT_SCOPE)
  set(${flags} "${own_flags}" PARENT_SCOPE)
endfunction()

# -O3 even in debug builds: without inlining the lanes fall apart into weak functions. Nothing here may need the C++
# runtime or share code with other files.
# Nobody asks for the floating-point status flags, and only without -ftrapping-math does 1 / sqrt of f32 become vector
# code: 3 x at 2048 channels, with the same bits.
set(kernel_optimization -O3)
set(kernel_sanitizing "")
if(BNORM_SANITIZE)
  # GCC 12 would need over 10 minutes and 4 GB for one sanitized instruction set. At -O1, without the forced inlining,
  # without the poisoning of local variables at the end of their scope and without what AddressSanitizer finds anyway it
  # needs less than a minute. The bits are the same.
  set(kernel_optimization -O1)
  set(kernel_sanitizing -DBNORM_IN_LOOP= -DBNORM_FLAT=static -fno-sanitize-address-use-after-scope
                        -fno-sanitize=null,object-size)
endif()
set(BNORM_KERNEL_OPTIMIZATION ${kernel_optimization} CACHE STRING "Optimization of the kernels in every build type")
set(bnorm_kernel_flags ${BNORM_KERNEL_OPTIMIZATION} ${kernel_sanitizing} -fno-exceptions -fno-rtti -fno-math-errno
                       -fno-trapping-math -fno-threadsafe-statics -fno-lto)

set(BNORM_ISAS "" CACHE STRING "Instruction sets to build besides generic, e.g. avx2;avx512; empty: all of the target")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS src/isa_list.inc)
file(STRINGS src/isa_list.inc isa_lines REGEX "^BNORM_ISA_X")
set(bnorm_kernel_targets "")     # one OBJECT library per instruction set of this build
set(bnorm_isa_definitions "")    # BNORM_HAVE_<name>=0|1 for src/dispatch.cc
foreach(line IN LISTS isa_lines)
  string(REGEX REPLACE "^BNORM_ISA_X\\(([a-z0-9]+).*" "\\1" name "${line}")
  bnorm_isa(${name} available flags)
  if(BNORM_ISAS AND NOT name IN_LIST BNORM_ISAS AND NOT name STREQUAL "generic")
    set(available FALSE)
  endif()
  if(NOT available)
    list(APPEND bnorm_isa_definitions BNORM_HAVE_${name}=0)
    continue()
  endif()
  list(APPEND bnorm_isa_definitions BNORM_HAVE_${name}=1)
  set(target bnorm_kernels_${name})
  add_library(${target} OBJECT src/kernels/isa_${name}.cc)
  target_compile_options(${target} PRIVATE ${bnorm_kernel_flags} ${flags})
  target_link_libraries(${target} PRIVATE bnorm_headers_xsimd)
  list(APPEND bnorm_kernel_targets ${target})
endforeach()
