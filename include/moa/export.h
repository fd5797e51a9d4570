#pragma once

// Shared builds hide every symbol but these.
#if defined(_WIN32)
#define MOA_EXPORT
#else
#define MOA_EXPORT __attribute__((visibility("default")))
#endif
