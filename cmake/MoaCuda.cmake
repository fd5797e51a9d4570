# CUDA rows need no CUDA toolkit: Halide writes PTX, which the driver compiles. Where ptxas is found, machine code for the
# listed architectures goes beside it, so that the first plan need not wait for that.

# MOA_CUDA_TARGETS: the row targets of this build. Their host code is x86-64's.
set(MOA_CUDA_TARGETS "")
if(MOA_CUDA_ARCHS AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    set(MOA_CUDA_TARGETS cuda_80)
    if(90 IN_LIST MOA_CUDA_ARCHS)
        list(APPEND MOA_CUDA_TARGETS cuda_90a)
    endif()
endif()

# MOA_PTXAS: the assembler, or empty. The user's, the PATH's, a toolkit's, or that of the wheel nvidia-cuda-nvcc in .venv.
set(MOA_PTXAS "")
if(MOA_CUDA_TARGETS)
    if(MOA_CUDA_PTXAS)
        if(NOT EXISTS "${MOA_CUDA_PTXAS}")
            message(FATAL_ERROR "MOA_CUDA_PTXAS: there is no ${MOA_CUDA_PTXAS}")
        endif()
        set(MOA_PTXAS "${MOA_CUDA_PTXAS}")
    else()
        file(GLOB wheels "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/*/bin")
        find_program(MOA_FOUND_PTXAS ptxas PATHS "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin" /usr/local/cuda/bin ${wheels})
        mark_as_advanced(MOA_FOUND_PTXAS)
        if(MOA_FOUND_PTXAS)
            set(MOA_PTXAS "${MOA_FOUND_PTXAS}")
        endif()
    endif()
    if(MOA_PTXAS)
        message(STATUS "CUDA rows: PTX, and machine code for sm ${MOA_CUDA_ARCHS} by ${MOA_PTXAS}")
    else()
        message(STATUS "CUDA rows: PTX only; there is no ptxas")
    endif()
endif()
