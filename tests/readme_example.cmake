# SPDX-License-Identifier: Apache-2.0
# The first C block of README.md is compiled as strict C99 and run; the text block behind it is what it must print.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/README.md)
file(READ ${PROJECT_SOURCE_DIR}/README.md readme)

# The text between the first line "```<language>" and the next "```".
function(bnorm_readme_block language block)
  string(FIND "${readme}" "```${language}\n" begin)
  if(begin EQUAL -1)
    message(FATAL_ERROR "README.md has no block of ${language}")
  endif()
  string(LENGTH "```${language}\n" fence)
  math(EXPR begin "${begin} + ${fence}")
  string(SUBSTRING "${readme}" ${begin} -1 rest)
  string(FIND "${rest}" "```" end)
  string(SUBSTRING "${rest}" 0 ${end} text)
  set(${block} "${text}" PARENT_SCOPE)
endfunction()

bnorm_readme_block(c source)
bnorm_readme_block(text output)
file(CONFIGURE OUTPUT readme_example.c CONTENT "${source}" @ONLY)
file(CONFIGURE OUTPUT readme_example.txt CONTENT "${output}" @ONLY)

add_executable(bnorm_readme_example ${CMAKE_CURRENT_BINARY_DIR}/readme_example.c)
target_compile_options(bnorm_readme_example PRIVATE -std=c99 -pedantic -Wall -Werror)
target_link_libraries(bnorm_readme_example PRIVATE bnorm_shared)
add_test(NAME readme.example
         COMMAND sh -c "\"$@\" | diff -u '${CMAKE_CURRENT_BINARY_DIR}/readme_example.txt' -" sh
                 ${CMAKE_CROSSCOMPILING_EMULATOR} $<TARGET_FILE:bnorm_readme_example>)
set_tests_properties(readme.example PROPERTIES LABELS abi)
