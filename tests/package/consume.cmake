# SPDX-License-Identifier: Apache-2.0
# cmake -D HOW=cmake|pkgconfig -D KIND=shared|static -D PREFIX=... -D LIBDIR=... -D WORK=... -D CC=... -D READELF=...
#       -D GENERATOR=... -P consume.cmake
# Builds the consumer against the package installed in PREFIX, runs it, and checks that it was linked as asked.
cmake_minimum_required(VERSION 3.25)

set(source ${CMAKE_CURRENT_LIST_DIR})
set(program ${WORK}/consumer)
file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})

if(HOW STREQUAL "cmake")
  execute_process(COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -S ${source} -B ${WORK} -D KIND=${KIND}
                          -D CMAKE_PREFIX_PATH=${PREFIX} -D CMAKE_C_COMPILER=${CC} COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${WORK} COMMAND_ERROR_IS_FATAL ANY)
else()
  set(ENV{PKG_CONFIG_PATH} ${PREFIX}/${LIBDIR}/pkgconfig)
  if(KIND STREQUAL "static")
    set(flags "$(pkg-config --static --cflags --libs bnorm | sed 's/-lbnorm/-l:libbnorm.a/')")
  else()
    set(flags "$(pkg-config --cflags --libs bnorm)")
  endif()
  # pkg-config escapes blanks in paths, which eval undoes.
  set(compile "'${CC}' -o '${program}' '${source}/consumer.c' ${flags}")
  execute_process(COMMAND sh -e -x -c "pkg-config --exists bnorm; eval \"${compile}\"" COMMAND_ERROR_IS_FATAL ANY)
endif()

execute_process(COMMAND ${READELF} -d ${program} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
set(linked static)
if(dynamic MATCHES "NEEDED[^\n]*libbnorm\\.so\\.1")
  set(linked shared)
endif()
if(NOT linked STREQUAL KIND)
  message(FATAL_ERROR "the ${KIND} consumer was linked with the ${linked} library")
endif()

set(ENV{LD_LIBRARY_PATH} ${PREFIX}/${LIBDIR}) # the package is not in a system folder
execute_process(COMMAND ${program} COMMAND_ERROR_IS_FATAL ANY)
