// How the crate calls the emulation.
#pragma once
#include "launch.h"

#pragma GCC visibility push(default)
extern "C" {

// Zero where memory is exhausted.
uintptr_t on_cpu_allocate(size_t bytes);
// These return whether the bytes lie within one live allocation, and do nothing where they do not.
bool on_cpu_free(uintptr_t address);
bool on_cpu_upload(uintptr_t to, const void* from, size_t bytes);
bool on_cpu_download(void* to, uintptr_t from, size_t bytes);
bool on_cpu_fill(uintptr_t to, uint8_t byte, size_t bytes);
bool on_cpu_copy(uintptr_t to, uintptr_t from, size_t bytes);
// The first byte of the range that nothing has written yet; `bytes` if there is none.
bool on_cpu_first_unwritten(uintptr_t address, size_t bytes, size_t* first);

// Null where no loaded kernel has this name.
const on_cpu::NamedKernel* on_cpu_find(const char* name);
const char* on_cpu_source(const on_cpu::NamedKernel* kernel); // the path of its shared object
uint32_t on_cpu_parameters(const on_cpu::NamedKernel* kernel, const uint32_t** bytes);
uint32_t on_cpu_most_threads(const on_cpu::NamedKernel* kernel);
// True where nothing was found wrong; otherwise on_cpu_last_reports() of this OS thread says what was.
bool on_cpu_launch(const on_cpu::NamedKernel* kernel, const on_cpu::Configuration* shape, void** parameters,
                   on_cpu::Counters* counters);
const char* on_cpu_last_reports();

// The shape of cuTensorMapEncodeTiled; `map` has 128 bytes. False where the GPU would refuse it.
bool on_cpu_tensor_map(void* map, uintptr_t base, uint32_t rank, const uint64_t* extent, const uint64_t* stride,
                       const uint32_t* box, uint32_t element_bytes, uint32_t swizzle);
}
#pragma GCC visibility pop
