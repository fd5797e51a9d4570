# Builds with one of the options that leave rows out: what is left is what was asked for, and works.
# cmake -DOPTIONS=<-DMOA_...> -DROWS=<pattern that every row matches> -DDTYPE=<of the run> ... -P options.cmake
cmake_minimum_required(VERSION 3.28)
include("${CMAKE_CURRENT_LIST_DIR}/sub_build.cmake")

sub_build(moa_tool "-DMOA_COMPILED_ROWS=${ROWS_OF}" "-DMOA_GENERATORS=${GENERATORS}" -DMOA_CROSS_TARGETS= ${OPTIONS})
run(listed "${WORK}/tools/moa" rows)
string(REGEX MATCHALL "[a-z_]+__[a-z0-9_]+" rows "${listed}")
list(LENGTH rows count)
if(count LESS 20)
    message(FATAL_ERROR "only ${count} rows were built:\n${listed}")
endif()
foreach(row IN LISTS rows)
    expect("${row}" "${ROWS}")
endforeach()
run(ignored "${WORK}/tools/moa" run --dtype ${DTYPE} "${SOURCE}/tests/golden/moa_self_e1_h8.safetensors" -o "${WORK}/out.safetensors")
