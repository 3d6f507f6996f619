# SPDX-License-Identifier: Apache-2.0
# Headers, libraries, CMake package, pkg-config file, Debian package.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/bnorm)
install(DIRECTORY include/bnorm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/bnorm) # CMAKE_INSTALL_DOCDIR may be a parent's

# Two export sets: who links the shared library needs no oneTBB headers.
install(TARGETS bnorm_shared EXPORT bnormShared)
install(TARGETS bnorm_static EXPORT bnormStatic)
install(EXPORT bnormShared NAMESPACE bnorm:: DESTINATION ${package_dir})
install(EXPORT bnormStatic NAMESPACE bnorm:: DESTINATION ${package_dir})
configure_package_config_file(cmake/bnormConfig.cmake.in ${PROJECT_BINARY_DIR}/bnormConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bnormConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bnormConfig.cmake ${PROJECT_BINARY_DIR}/bnormConfigVersion.cmake
        DESTINATION ${package_dir})

# What a static link needs besides; not Requires.private, for which shared users would need libtbb-dev too.
set(bnorm_private_libs "-lstdc++ -lm -lpthread")
if(BNORM_WITH_TBB)
  set(bnorm_private_libs "-ltbb ${bnorm_private_libs}")
endif()
# The prefix in relation to the file, so that a moved or staged installation works; absolute folders stay as they are.
set(bnorm_pc_prefix "${CMAKE_INSTALL_PREFIX}")
if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  file(RELATIVE_PATH bnorm_pc_to_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  set(bnorm_pc_prefix "\${pcfiledir}/${bnorm_pc_to_prefix}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  set(bnorm_pc_${dir} "\${prefix}")
  cmake_path(APPEND bnorm_pc_${dir} "${CMAKE_INSTALL_${dir}}")
endforeach()
configure_file(cmake/bnorm.pc.in ${PROJECT_BINARY_DIR}/bnorm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/bnorm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(PROJECT_IS_TOP_LEVEL)
  set(CPACK_GENERATOR DEB)
  set(CPACK_PACKAGE_NAME libbnorm-dev)
  set(CPACK_PACKAGE_CONTACT "bnorm developers <bnorm@localhost>")
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  if(BNORM_WITH_TBB)
    set(CPACK_DEBIAN_PACKAGE_SUGGESTS libtbb-dev)
  endif()
  include(CPack)
endif()
