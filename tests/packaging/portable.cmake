# A build with nothing but portable rows passes the recorded cases.
cmake_minimum_required(VERSION 3.28)
include("${CMAKE_CURRENT_LIST_DIR}/sub_build.cmake")

sub_build(moa_tool
    -DMOA_CPU_TARGETS=x86 -DMOA_DTYPES=f32 -DMOA_HEAD_DIMS=64 -DMOA_CUDA_ARCHS= -DMOA_CROSS_TARGETS= "-DMOA_GENERATORS=${GENERATORS}" "-DMOA_COMPILED_ROWS=${ROWS_OF}")
run(listed "${WORK}/tools/moa" rows)
if(listed MATCHES "avx")
    message(FATAL_ERROR "rows of other targets were built:\n${listed}")
endif()
file(GLOB cases "${SOURCE}/tests/golden/*.safetensors")
run(verified "${WORK}/tools/moa" verify ${cases})
