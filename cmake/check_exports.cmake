# SPDX-License-Identifier: Apache-2.0
# cmake -D NM=... -D LIBRARY=libbnorm.so -D HEADER=bnorm.h -P check_exports.cmake
# The shared library exports exactly the functions that the header declares.
cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND ${NM} -D --defined-only -P ${LIBRARY} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
list(TRANSFORM symbols REPLACE " .*" "" OUTPUT_VARIABLE exported)

file(READ ${HEADER} header)
string(REGEX MATCHALL "BNORM_API [^(;]*bnorm_[a-z0-9_]+\\(" declarations "${header}")
list(TRANSFORM declarations REPLACE ".*[ *](bnorm_[a-z0-9_]+)\\($" "\\1" OUTPUT_VARIABLE declared)
list(LENGTH declared count)
if(count EQUAL 0)
  message(FATAL_ERROR "no declarations found in ${HEADER}")
endif()

set(bad "")
foreach(name IN LISTS exported)
  if(NOT name IN_LIST declared)
    list(APPEND bad "exported but not declared: ${name}")
  endif()
endforeach()
foreach(name IN LISTS declared)
  if(NOT name IN_LIST exported)
    list(APPEND bad "declared but not exported: ${name}")
  endif()
endforeach()
if(bad)
  list(JOIN bad "\n  " lines)
  message(FATAL_ERROR "exports differ from ${HEADER}:\n  ${lines}")
endif()
message(STATUS "${count} functions, each declared and exported, nothing else exported")
