// What every kernel begins with: how a kernel is declared, and where its shared memory comes from. nvcc sees CUDA; a host
// compiler sees the emulation of kernels/on_cpu, so that the same .cu file runs on a machine without a GPU.
//
//   KERNEL(128, rms_norm_forward_bf16)(const bf16* x, bf16* y) { ... }     at most 128 threads a block
//   EXPORT_KERNEL(128, rms_norm_forward_bf16);                              launched by this name
//
// Only the headers of this folder hold inline PTX, and only they know which compiler reads them: GPU(...) is what nvcc
// compiles and CPU(...) is what it means. GPU_SM90 needs sm_90a; other targets compile a trap in its place. A kernel that is
// launched on sm_90a alone spares them its body: if constexpr (HAS_SM90).
#pragma once
#ifdef __CUDACC__

#include <cstdint>
#include <cuda_bf16.h>

#define GPU(...) __VA_ARGS__
#define CPU(...)
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define GPU_SM90(...) __VA_ARGS__
#define HAS_SM90 true
#else
#define GPU_SM90(...) __trap()
#define HAS_SM90 false
#endif
#define AT_CALLER
#define ONLY_AT_CALLER
#define PASS_CALLER
#define ONLY_PASS_CALLER

#define DEV __device__ __forceinline__
#define KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads) name
#define EXPORT_KERNEL(threads, name) static_assert((threads) % 32 == 0, "whole warps")
#define SHARED_ARRAY(T, name, dims) __shared__ T name dims
// Declared once: in a template each instantiation would otherwise declare it with its own type.
extern __shared__ __align__(1024) unsigned char dynamic_shared_bytes[];
#define DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(dynamic_shared_bytes)

#else

#include "on_cpu/emulation/device.h"

#define GPU(...)
#define GPU_SM90(...)
#define CPU(...) __VA_ARGS__
#define HAS_SM90 true
// A last parameter that says where in the kernel a wrapper was called. Reports name that line.
#define ONLY_AT_CALLER on_cpu::Location where = on_cpu::Location::current()
#define AT_CALLER , ONLY_AT_CALLER
#define ONLY_PASS_CALLER where
#define PASS_CALLER , where

#define DEV inline __attribute__((always_inline))
#define KERNEL(threads, name) static __attribute__((noinline)) void name
#define EXPORT_KERNEL(threads, name)                                                                                   \
  static_assert((threads) % 32 == 0, "whole warps");                                                                   \
  static const on_cpu::Registration name##_registration(#name, &on_cpu::Entry<&name>::kernel, threads)
// `dims` may be several extents, as in [2][64][72]. The array is a reference into the block's checked shared memory.
#define SHARED_ARRAY(T, name, dims)                                                                                    \
  typedef T name##_type dims;                                                                                          \
  static const char name##_key = 0;                                                                                    \
  name##_type& name = *static_cast<name##_type*>(                                                                      \
      on_cpu::static_shared(&name##_key, sizeof(name##_type), alignof(name##_type), #name))
#define DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(on_cpu::dynamic_shared())

#endif

typedef __nv_bfloat16 bf16;
typedef __nv_bfloat162 bf162;

// The address in the shared window, which PTX and wgmma descriptors want.
DEV uint32_t smem_u32(const void* p) {
  GPU(return static_cast<uint32_t>(__cvta_generic_to_shared(p)));
  CPU(return on_cpu::shared_offset(p));
}
