# What `cmake --install` installs: the library, its headers, the CMake package, a pkg-config file and the licences. None
# of it needs Halide or Python.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/moa")
install(
    TARGETS moa
    EXPORT moaTargets
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
)
install(EXPORT moaTargets NAMESPACE moa:: DESTINATION "${package_dir}")

configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/moaConfig.cmake.in" "${PROJECT_BINARY_DIR}/moaConfig.cmake"
    INSTALL_DESTINATION "${package_dir}"
    NO_SET_AND_CHECK_MACRO
)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/moaConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/moaConfig.cmake" "${PROJECT_BINARY_DIR}/moaConfigVersion.cmake" DESTINATION "${package_dir}")

# Relative paths: the installed tree may be moved.
file(RELATIVE_PATH include_from_pc "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/moa.pc.in" "${PROJECT_BINARY_DIR}/moa.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/moa.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
install(
    FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/LICENSE.Halide.txt" "${PROJECT_SOURCE_DIR}/NOTICE"
    DESTINATION "${CMAKE_INSTALL_DOCDIR}"
)
