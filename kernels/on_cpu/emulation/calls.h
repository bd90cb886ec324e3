// What kernels call in the emulation. All state lives behind these functions, so that kernels may be compiled with
// instrumentation and the emulation without.
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <type_traits>
#include <utility>

#include "vector_types.h"

#pragma GCC visibility push(default)
namespace on_cpu {
using Location = std::source_location;

// A kernel as launches find it.
struct Kernel {
  void (*run)(void** parameters);
  uint32_t parameters;
  const uint32_t* parameter_bytes;
};

// Enters a kernel into the table of names when its shared object is loaded.
struct Registration {
  Registration(const char* name, const Kernel* kernel, uint32_t most_threads);
};

// These do not change while a fiber lives, so a compiler may keep what they return.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) dim3 block_extent();
__attribute__((const)) dim3 grid_extent();
__attribute__((const)) unsigned char* dynamic_shared();
void* static_shared(const void* key, size_t bytes, size_t alignment, const char* name);
unsigned shared_offset(const void* address);

enum class Vote : int { COUNT, AND, OR };
void block_barrier(Location where);
unsigned block_vote(bool vote, Vote kind, Location where);
enum class Arrival { WAITS, GOES_ON };
void named_barrier(int id, int threads, Arrival arrival, Location where);

enum class Shuffle : int { INDEX, UP, DOWN, XOR };
enum class Reduce : int { BALLOT, ADD, MAX_UNSIGNED, MAX_SIGNED, MIN_UNSIGNED, MIN_SIGNED, AND, OR, XOR, MATCH };
void sync_warp(unsigned mask, Location where);
uint64_t shuffle(unsigned mask, uint64_t value, int argument, Shuffle kind, int width, Location where);
uint64_t reduce(unsigned mask, uint64_t value, Reduce kind, Location where);

void cp_async(void* dst, const void* src, int bytes, int source_bytes, Location where);
void cp_async_commit();
void cp_async_wait(int pending);

enum class Order { ROWS, COLUMNS };
void ldmatrix(uint32_t* registers, int matrices, Order order, const void* row, Location where);
void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, Location where);

void mbar_init(void* bar, unsigned count, Location where);
void mbar_arrive(void* bar, unsigned announced_bytes, Location where);
void mbar_wait(void* bar, unsigned parity, Location where);
void fence_proxy_async();
void tma_load(void* dst, const void* map, const int* corner, int rank, void* bar, Location where);
void bulk_load(void* dst, const void* src, unsigned bytes, void* bar, Location where);

struct WgmmaForm {
  bool keep_d, transpose_a, transpose_b;
  bool operator==(const WgmmaForm&) const = default;
};
void wgmma_fence(Location where);
void wgmma(float* d, int n, uint64_t a, const uint32_t* a_registers, uint64_t b, WgmmaForm form, Location where);
void wgmma_commit(Location where);
void wgmma_wait(int pending, Location where);

enum class Atomic : int { ADD, MAX, MIN, EXCHANGE, AND, OR, XOR };
template <class T> __attribute__((visibility("default"))) T atomic(T* address, T value, Atomic kind);
template <class T> __attribute__((visibility("default"))) T compare_and_swap(T* address, T expected, T value);
void fence_global();
[[noreturn]] void trap(const char* why, Location where);

// Hands the parameters, each behind a pointer, to kernel F.
template <auto F> struct Entry;
template <class... A, void (*F)(A...)> struct Entry<F> {
  template <size_t... I>
  __attribute__((no_sanitize("thread"))) static void call(void** parameters, std::index_sequence<I...>) {
    F(*static_cast<std::remove_reference_t<A>*>(parameters[I])...);
  }
  __attribute__((no_sanitize("thread"))) static void run(void** parameters) {
    call(parameters, std::index_sequence_for<A...>{});
  }
  static constexpr uint32_t bytes[sizeof...(A) + 1] = {sizeof(A)..., 0};
  static constexpr Kernel kernel{run, sizeof...(A), bytes};
};
} // namespace on_cpu
#pragma GCC visibility pop
