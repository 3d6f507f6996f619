# SPDX-License-Identifier: Apache-2.0
# The shared and the static library, of the same objects.

file(GLOB core_sources CONFIGURE_DEPENDS src/*.cc)
add_library(bnorm_core OBJECT ${core_sources})
target_include_directories(bnorm_core PUBLIC ${PROJECT_SOURCE_DIR}/include PRIVATE ${PROJECT_SOURCE_DIR}/src)
set_source_files_properties(src/dispatch.cc PROPERTIES COMPILE_DEFINITIONS "${bnorm_isa_definitions}")
if(BNORM_WITH_TBB)
  find_package(TBB REQUIRED)
  target_link_libraries(bnorm_core PRIVATE TBB::tbb)
  target_compile_definitions(bnorm_core PRIVATE BNORM_WITH_TBB)
endif()

set(all_objects $<TARGET_OBJECTS:bnorm_core>)
foreach(target bnorm_core ${bnorm_kernel_targets})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                                             VISIBILITY_INLINES_HIDDEN ON)
endforeach()
foreach(target ${bnorm_kernel_targets})
  list(APPEND all_objects $<TARGET_OBJECTS:${target}>)
endforeach()

add_library(bnorm_shared SHARED ${all_objects})
add_library(bnorm_static STATIC ${all_objects})
add_library(bnorm::bnorm ALIAS bnorm_shared)
add_library(bnorm::static ALIAS bnorm_static)

foreach(target bnorm_shared bnorm_static)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME bnorm LINKER_LANGUAGE CXX)
  target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                 $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  if(BNORM_WITH_TBB)
    target_link_libraries(${target} PRIVATE TBB::tbb)
  endif()
endforeach()

# The ABI is frozen: functions are added, structs grow at their end (./dev check --abi).
set_target_properties(bnorm_shared PROPERTIES EXPORT_NAME bnorm VERSION ${PROJECT_VERSION}
                                              SOVERSION ${PROJECT_VERSION_MAJOR}
                                              LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/bnorm.map)
# nodelete: oneTBB's threads outlive a call, and would run in unmapped code once a host had closed a plugin's library.
target_link_options(bnorm_shared PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/bnorm.map -Wl,-z,nodelete)
if(NOT BNORM_SANITIZE)
  target_link_options(bnorm_shared PRIVATE -Wl,--no-undefined)
endif()

# The public functions with the debug information of their types, for ./dev check --abi; without kernels.
add_library(bnorm_abi SHARED EXCLUDE_FROM_ALL ${core_sources})
target_include_directories(bnorm_abi PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_compile_options(bnorm_abi PRIVATE -O0 -g -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
set_target_properties(bnorm_abi PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                                           EXPORT_COMPILE_COMMANDS OFF) # clang-tidy reads these sources as bnorm_core

set_target_properties(bnorm_static PROPERTIES EXPORT_NAME static)
target_compile_definitions(bnorm_static INTERFACE BNORM_STATIC)
# For C programs, whose linker does not add them.
target_link_libraries(bnorm_static INTERFACE stdc++ m)
