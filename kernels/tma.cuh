// Bulk copies by the tensor memory accelerator (sm_90): one thread asks, an mbarrier counts the bytes that arrive.
#pragma once
#include "barrier.cuh"

// As large and as aligned as CUtensorMap; passed by value: const __grid_constant__ TensorMap.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

// Fetches the map itself ahead of its first use.
DEV void tma_prefetch(const TensorMap* map) {
  GPU_SM90(asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"));
  CPU((void)map);
}

// The box at column c0, row c1 of a matrix; elements outside it arrive as zeros. `dst` is 128-byte aligned, and 1024-byte
// aligned where the map swizzles.
DEV void tma_load_2d(void* dst, const TensorMap* map, int c0, int c1, uint64_t* bar AT_CALLER) {
  GPU_SM90(asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                        "[%0], [%1, {%3, %4}], [%2];" ::"r"(smem_u32(dst)),
                        "l"(map), "r"(smem_u32(bar)), "r"(c0), "r"(c1)
                        : "memory"));
  CPU(const int corner[2] = {c0, c1}; on_cpu::tma_load(dst, map, corner, 2, bar, where));
}

DEV void tma_load_3d(void* dst, const TensorMap* map, int c0, int c1, int c2, uint64_t* bar AT_CALLER) {
  GPU_SM90(asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                        "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(smem_u32(dst)),
                        "l"(map), "r"(smem_u32(bar)), "r"(c0), "r"(c1), "r"(c2)
                        : "memory"));
  CPU(const int corner[3] = {c0, c1, c2}; on_cpu::tma_load(dst, map, corner, 3, bar, where));
}

// `bytes` (a multiple of 16) from one place to another, both 16-byte aligned.
DEV void bulk_load(void* dst, const void* src, unsigned bytes, uint64_t* bar AT_CALLER) {
  GPU_SM90(asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                            smem_u32(dst)),
                        "l"(src), "r"(bytes), "r"(smem_u32(bar))
                        : "memory"));
  CPU(on_cpu::bulk_load(dst, src, bytes, bar, where));
}
