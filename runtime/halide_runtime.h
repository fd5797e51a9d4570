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

// Not Halide's: rows of CPUs ask it when they have checked their arguments, and return if they are only rehearsed
// (generators/codegen/checks.h).
int moa_rehearses(void *user_context);

// CUDA rows call these; Halide's own runtime for CUDA is in no object of this library.
const struct halide_device_interface_t *moa_halide_cuda_device_interface();
int moa_halide_cuda_initialize_kernels(void *user_context, void **state, const char *code, int bytes);
void moa_halide_cuda_finalize_kernels(void *user_context, void *state);
int moa_halide_cuda_run(void *user_context, void *state, const char *kernel, int blocks_x, int blocks_y, int blocks_z, int threads_x, int threads_y,
                        int threads_z, int shared_bytes, size_t sizes[], void *arguments[], int8_t is_buffer[]);
int moa_halide_device_malloc(void *user_context, struct halide_buffer_t *buffer, const struct halide_device_interface_t *interface);
int moa_halide_device_free(void *user_context, struct halide_buffer_t *buffer);
int moa_halide_device_and_host_malloc(void *user_context, struct halide_buffer_t *buffer, const struct halide_device_interface_t *interface);
int moa_halide_device_and_host_free(void *user_context, struct halide_buffer_t *buffer);
int moa_halide_copy_to_device(void *user_context, struct halide_buffer_t *buffer, const struct halide_device_interface_t *interface);
int moa_halide_copy_to_host(void *user_context, struct halide_buffer_t *buffer);
int moa_halide_device_sync(void *user_context, struct halide_buffer_t *buffer);

}  // extern "C"
