#pragma once

#include <HalideRuntime.h>

#include <cstddef>
#include <cstdint>

// Halide's runtime under the names that it has in this library (generators/codegen/object_file.h): kernels call these
// and nothing named halide_*. The definitions inside the runtime object are weak, so the library replaces a function
// by defining it; no setter has to run before the first kernel.
extern "C" {

void *moa_halide_malloc(void *user_context, size_t size);
void moa_halide_free(void *user_context, void *memory);
void moa_halide_error(void *user_context, const char *message);
void moa_halide_print(void *user_context, const char *message);
int moa_halide_do_par_for(void *user_context, halide_task_t task, int min, int size, uint8_t *closure);
int moa_halide_do_task(void *user_context, halide_task_t task, int index, uint8_t *closure);
int moa_halide_do_loop_task(void *user_context, halide_loop_task_t task, int min, int extent, uint8_t *closure, void *task_parent);
int moa_halide_do_parallel_tasks(void *user_context, int count, halide_parallel_task_t *tasks, void *task_parent);

}  // extern "C"
