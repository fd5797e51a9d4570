# For scripts that configure and build this project again, in ${WORK}.
function(run out)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
    list(JOIN ARGN " " command)
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "failed (${status}): ${command}\n${output}")
    endif()
    message(STATUS "${command}\n${output}")
    set(${out} "${output}" PARENT_SCOPE)
endfunction()

# Configures with the options given, whatever is left of an earlier run, and builds a target. The compiler's flags are
# those of the build that tests: a compiler cache has most objects then.
function(sub_build target)
    run(ignored
        "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${WORK}" -G Ninja --fresh
        "-DCMAKE_MAKE_PROGRAM=${NINJA}" "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}"
        -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=${FLAGS}" "-DCMAKE_COMPILE_WARNING_AS_ERROR=${WERROR}"
        "-DHalide_DIR=${HALIDE}" -DMOA_BUILD_TESTS=OFF ${ARGN})
    run(ignored "${CMAKE_COMMAND}" --build "${WORK}" --target ${target} --parallel 2)
endfunction()

function(expect text pattern)
    if(NOT text MATCHES "${pattern}")
        message(FATAL_ERROR "expected \"${pattern}\" in:\n${text}")
    endif()
endfunction()
