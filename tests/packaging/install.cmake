# Installs the build, moves the result, and builds and runs tests/consumer with nothing else.
# cmake -DBUILD=<build tree> -DSOURCE=<tree> -DWORK=<scratch> -DCXX=<compiler> -DNINJA=<program> -DTOOL=<ON|OFF>
#       -DLINK_FLAGS=<flags of a sanitized library> -P install.cmake
cmake_minimum_required(VERSION 3.28)

function(run)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(NOT status EQUAL 0)
        list(JOIN ARGN " " command)
        message(FATAL_ERROR "failed (${status}): ${command}\n${output}")
    endif()
    message(STATUS "${output}")
endfunction()

file(REMOVE_RECURSE "${WORK}")
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/first")
file(RENAME "${WORK}/first" "${WORK}/prefix")

file(GLOB_RECURSE installed RELATIVE "${WORK}/prefix" "${WORK}/prefix/*")
foreach(expected include/moa/version.h include/moa/mixture_of_attention.h cmake/moa/moaConfig.cmake pkgconfig/moa.pc LICENSE LICENSE.Halide.txt NOTICE)
    if(NOT installed MATCHES "(^|/|;)${expected}(;|$)")
        message(SEND_ERROR "${expected} is not installed, only ${installed}")
    endif()
endforeach()
foreach(file IN LISTS installed)
    if(file MATCHES "[.](h|cmake|pc)$")
        file(STRINGS "${WORK}/prefix/${file}" leaks REGEX "([Hh]alide[._:/]|${BUILD}|${SOURCE})")
        if(leaks)
            message(SEND_ERROR "${file} refers to this machine or to Halide: ${leaks}")
        endif()
    endif()
endforeach()
if(TOOL)
    run("${WORK}/prefix/bin/moa" --help)
endif()

run("${CMAKE_COMMAND}" -S "${SOURCE}/tests/consumer" -B "${WORK}/consumer" -G Ninja
    "-DCMAKE_MAKE_PROGRAM=${NINJA}" "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_EXE_LINKER_FLAGS=${LINK_FLAGS}"
    "-DCMAKE_PREFIX_PATH=${WORK}/prefix" -DCMAKE_BUILD_TYPE=Release)
run("${CMAKE_COMMAND}" --build "${WORK}/consumer")
run("${WORK}/consumer/consumer")

find_program(PKG_CONFIG pkg-config)
if(PKG_CONFIG)
    file(GLOB_RECURSE pc "${WORK}/prefix/*/moa.pc")
    get_filename_component(pc_dir "${pc}" DIRECTORY)
    get_filename_component(lib_dir "${pc_dir}" DIRECTORY)
    set(ENV{PKG_CONFIG_PATH} "${pc_dir}")
    execute_process(COMMAND "${PKG_CONFIG}" --static --cflags --libs moa OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY OUTPUT_STRIP_TRAILING_WHITESPACE)
    separate_arguments(flags UNIX_COMMAND "${flags} ${LINK_FLAGS}")
    run("${CXX}" "${SOURCE}/tests/consumer/main.cpp" -o "${WORK}/consumer_pkg_config" ${flags} "-Wl,-rpath,${lib_dir}")
    run("${WORK}/consumer_pkg_config")
endif()
