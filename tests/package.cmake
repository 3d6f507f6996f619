# SPDX-License-Identifier: Apache-2.0
# The package as its users meet it: installed into the build folder, found by CMake and by pkg-config.
set(prefix ${CMAKE_CURRENT_BINARY_DIR}/installed)
add_test(NAME package.install
         COMMAND ${CMAKE_COMMAND} --install ${PROJECT_BINARY_DIR} --config $<CONFIG> --prefix ${prefix})
set_tests_properties(package.install PROPERTIES LABELS package FIXTURES_SETUP package)

string(REPLACE " Multi-Config" "" generator "${CMAKE_GENERATOR}")
foreach(how cmake pkgconfig)
  foreach(kind shared static)
    set(test package.${how}.${kind})
    add_test(NAME ${test}
             COMMAND ${CMAKE_COMMAND} -D HOW=${how} -D KIND=${kind} -D PREFIX=${prefix} -D LIBDIR=${CMAKE_INSTALL_LIBDIR}
                     -D WORK=${CMAKE_CURRENT_BINARY_DIR}/${test} -D CC=${CMAKE_C_COMPILER} -D READELF=${CMAKE_READELF}
                     -D GENERATOR=${generator} -P ${CMAKE_CURRENT_SOURCE_DIR}/package/consume.cmake)
    set_tests_properties(${test} PROPERTIES LABELS package FIXTURES_REQUIRED package)
  endforeach()
endforeach()
