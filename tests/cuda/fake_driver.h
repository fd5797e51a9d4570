#pragma once

// A driver for tests, found by the name of NVIDIA's: its device is the host's memory, its kernels do nothing, and it fails on
// request. With MOA_FAKE_DRIVER=none in the environment it has no device, with MOA_FAKE_DRIVER=stub it is a toolkit's stub;
// MOA_FAKE_CAPABILITY is its first compute capability. In a child of fork() of the process that opened it, it aborts.
namespace moa::tests {

struct FakeDriver {
    int devices = 1;
    int capability = 90;
    int shared_bytes = 227 * 1024;
    int load_error = 0;        // of loading modules
    int memory_error = 0;      // of allocating memory
    int launch_error = 0;      // of launching kernels
    int allocated = 0;         // blocks of memory
    int modules = 0;           // loaded so far
    int launches = 0;          // so far
    int largest_shared = 0;    // that a launch asked for
    int synchronisations = 0;  // so far
    int copies = 0;            // between places of the device, so far
};

}  // namespace moa::tests

// Exported by the library.
extern "C" moa::tests::FakeDriver *moa_fake_driver();
