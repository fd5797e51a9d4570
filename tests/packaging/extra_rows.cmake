# A user's row and schedule from outside of the tree are built, listed, selected first, checked and timed.
cmake_minimum_required(VERSION 3.28)
include("${CMAKE_CURRENT_LIST_DIR}/sub_build.cmake")

set(row row_statistics__serial_x86_f32_rows2)
file(REMOVE_RECURSE "${WORK}_rows")
file(COPY "${SOURCE}/tests/extra_rows/" DESTINATION "${WORK}_rows")
sub_build(moa_tool
    "-DMOA_EXTRA_ROWS=${WORK}_rows/row_statistics.json" -DMOA_ONLY_OPS=row_statistics
    -DMOA_CPU_TARGETS=x86 -DMOA_DTYPES=f32 -DMOA_CUDA_ARCHS= -DMOA_CROSS_TARGETS=)
run(listed "${WORK}/tools/moa" rows)
expect("${listed}" "${row}.*row_statistics__cpu_x86_f32")
run(selected "${WORK}/tools/moa" bench --op row_statistics)
expect("${selected}" "${row}")
