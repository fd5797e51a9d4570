# Rows of the variant tables as build rules. The program moa_rows, compiled while configuring, knows the format of the
# row files and the symbol names; CMake only asks it.

# Sets `out` to the path of moa_rows, which is compiled unless it is up to date or another build's.
function(moa_build_row_lister out)
    if(MOA_GENERATORS)
        set(${out} "${MOA_GENERATORS}/moa_rows" PARENT_SCOPE)
        return()
    endif()
    set(sources generators/codegen/row.cpp generators/codegen/row_list.cpp)
    set(program "${PROJECT_BINARY_DIR}/generators/moa_rows")
    list(TRANSFORM sources PREPEND "${PROJECT_SOURCE_DIR}/")
    set(inputs ${sources} "${PROJECT_SOURCE_DIR}/generators/codegen/row.h")
    set_property(DIRECTORY "${PROJECT_SOURCE_DIR}" APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${inputs})
    set(stale FALSE)
    foreach(input IN LISTS inputs)
        if("${input}" IS_NEWER_THAN "${program}")
            set(stale TRUE)
        endif()
    endforeach()
    if(stale)
        message(STATUS "Compiling the program that lists rows")
        get_target_property(json_includes nlohmann_json::nlohmann_json INTERFACE_INCLUDE_DIRECTORIES)
        try_compile(
            built
            SOURCES ${sources}
            COPY_FILE "${program}"
            CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR};${json_includes}"
            CXX_STANDARD 20
            CXX_STANDARD_REQUIRED ON
            OUTPUT_VARIABLE log
            NO_CACHE
        )
        if(NOT built)
            message(FATAL_ERROR "moa_rows does not compile:\n${log}")
        endif()
    endif()
    set(${out} "${program}" PARENT_SCOPE)
endfunction()

# Sets `out` to lines "symbol<TAB>algorithm<TAB>schedule source", one a row of the files that is built for the targets;
# writes the rows and the table variants.cpp to `directory`.
function(moa_list_rows out directory targets files)
    moa_build_row_lister(lister)
    set(table "${PROJECT_SOURCE_DIR}/variants/targets.json")
    set_property(DIRECTORY "${PROJECT_SOURCE_DIR}" APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${table} ${files})
    list(REMOVE_ITEM targets "")
    if(NOT targets)
        set(${out} "" PARENT_SCOPE)
        return()
    endif()
    set(filter "")
    foreach(item "row-targets:${targets}" "dtypes:${MOA_DTYPES}" "head-dims:${MOA_HEAD_DIMS}")
        string(REPLACE ";" "," item "${item}")
        string(REGEX MATCH "^([^:]*):(.*)$" item "${item}")
        if(NOT CMAKE_MATCH_2 STREQUAL "")
            list(APPEND filter "--${CMAKE_MATCH_1}" "${CMAKE_MATCH_2}")
        endif()
    endforeach()
    execute_process(
        COMMAND "${lister}" --targets "${table}" --schedules "${PROJECT_SOURCE_DIR}/schedules" --output "${directory}" ${filter} ${files}
        OUTPUT_VARIABLE lines
        ERROR_VARIABLE message
        RESULT_VARIABLE status
        OUTPUT_STRIP_TRAILING_WHITESPACE
        ERROR_STRIP_TRAILING_WHITESPACE
    )
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "${message}")
    endif()
    string(REPLACE "\n" ";" lines "${lines}")
    set(${out} "${lines}" PARENT_SCOPE)
endfunction()

# Splits a line of moa_list_rows into <prefix>_symbol, <prefix>_algorithm and <prefix>_schedule.
macro(moa_split_row prefix line)
    string(REGEX MATCH "^([^\t]*)\t([^\t]*)\t(.*)$" ${prefix}_matched "${line}")
    set(${prefix}_symbol "${CMAKE_MATCH_1}")
    set(${prefix}_algorithm "${CMAKE_MATCH_2}")
    set(${prefix}_schedule "${CMAKE_MATCH_3}")
endmacro()

# Whether MOA_COMPILED_ROWS has the object of a row: of the same row, and if it is one for GPUs, with the same machine code.
function(moa_is_compiled out directory symbol assembler compiled_assembler)
    set(${out} FALSE PARENT_SCOPE)
    set(theirs "${MOA_COMPILED_ROWS}/${symbol}")
    if(NOT MOA_COMPILED_ROWS OR NOT EXISTS "${theirs}.o" OR NOT EXISTS "${theirs}.json")
        return()
    endif()
    if(symbol MATCHES "_cuda_[0-9]+a?_" AND NOT assembler STREQUAL compiled_assembler)
        return()
    endif()
    file(READ "${directory}/${symbol}.json" row)
    file(READ "${theirs}.json" their_row)
    if(row STREQUAL their_row)
        set(${out} TRUE PARENT_SCOPE)
    endif()
endfunction()

# Rules that compile rows to objects in `directory`, one command a row; sets `out` to the objects. They belong to the
# calling directory, as the target that uses them must.
function(moa_compile_rows out directory rows)
    set(objects "")
    # What objects depend on beside their rows and generators, for builds that take them from this folder.
    set(assembler "${MOA_PTXAS} ${MOA_CUDA_ARCHS}")
    file(WRITE "${directory}/assembler.txt" "${assembler}")
    set(compiled_assembler "")
    if(MOA_COMPILED_ROWS AND EXISTS "${MOA_COMPILED_ROWS}/assembler.txt")
        file(READ "${MOA_COMPILED_ROWS}/assembler.txt" compiled_assembler)
    endif()
    foreach(line IN LISTS rows)
        moa_split_row(row "${line}")
        set(object "${directory}/${row_symbol}.o")
        moa_is_compiled(compiled "${directory}" "${row_symbol}" "${assembler}" "${compiled_assembler}")
        if(compiled)
            list(APPEND objects "${MOA_COMPILED_ROWS}/${row_symbol}.o")
            continue()
        endif()
        set(machine_code "")
        if(MOA_PTXAS AND row_symbol MATCHES "_cuda_[0-9]+a?_")
            string(REPLACE ";" "," architectures "${MOA_CUDA_ARCHS}")
            set(machine_code --ptxas "${MOA_PTXAS}" --cubins "${architectures}")
        endif()
        add_custom_command(
            OUTPUT "${object}"
            COMMAND moa_generator_${row_algorithm} --row "${directory}/${row_symbol}.json" -o "${object}" ${machine_code}
            DEPENDS moa_generator_${row_algorithm} "${directory}/${row_symbol}.json"
            COMMENT "Compiling row ${row_symbol}"
            VERBATIM
        )
        list(APPEND objects "${object}")
    endforeach()
    if(objects)
        set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    endif()
    set(${out} ${objects} PARENT_SCOPE)
endfunction()

# A rule that makes Halide's runtime for a Halide target.
function(moa_compile_halide_runtime object halide_target)
    add_custom_command(
        OUTPUT "${object}"
        COMMAND moa_generator_runtime --runtime ${halide_target} -o "${object}"
        DEPENDS moa_generator_runtime
        COMMENT "Making Halide's runtime for ${halide_target}"
        VERBATIM
    )
    set_source_files_properties("${object}" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
endfunction()

# Sets `out` to the row files in the order of preference: the user's own first.
function(moa_row_files out)
    set(files "")
    foreach(file IN LISTS MOA_EXTRA_ROWS)
        get_filename_component(file "${file}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}")
        list(APPEND files "${file}")
    endforeach()
    foreach(op IN LISTS MOA_OPS)
        list(APPEND files "${PROJECT_SOURCE_DIR}/variants/${op}.json")
    endforeach()
    set(${out} ${files} PARENT_SCOPE)
endfunction()
