# Portable rows are compiled here for another machine.
cmake_minimum_required(VERSION 3.28)
include("${CMAKE_CURRENT_LIST_DIR}/sub_build.cmake")

sub_build(moa_cross_rows
    -DMOA_CUDA_ARCHS= -DMOA_CROSS_TARGETS=arm64 -DMOA_CPU_TARGETS=x86 -DMOA_DTYPES=f32 -DMOA_HEAD_DIMS=64
    "-DMOA_ONLY_OPS=project\;attention" "-DMOA_GENERATORS=${GENERATORS}" -DMOA_BUILD_TOOLS=OFF)
run(headers "${READELF}" -h "${WORK}/runtime/libmoa_cross_rows.a")
string(REGEX MATCHALL "Machine:[^\n]*" machines "${headers}")
list(LENGTH machines count)
if(count LESS 2)
    message(FATAL_ERROR "only ${count} rows were built")
endif()
foreach(machine IN LISTS machines)
    expect("${machine}" "AArch64")
endforeach()
