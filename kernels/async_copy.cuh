// cp.async (sm_80): global to shared memory past the registers. A copy is done for the thread that issued it once
// cp_async_wait has let its group through; for other threads after a barrier behind that.
#pragma once
#include "kernel.cuh"

// Copies 16 bytes, or writes zeros where !valid: `src` is then not read.
DEV void cp_async_16(void* dst, const void* src, bool valid = true AT_CALLER) {
  GPU(asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(dst)), "l"(src), "r"(valid ? 16 : 0)
                   : "memory"));
  CPU(on_cpu::cp_async(dst, src, 16, valid ? 16 : 0, where));
}

// The copies since the last commit are one group.
DEV void cp_async_commit() {
  GPU(asm volatile("cp.async.commit_group;" ::: "memory"));
  CPU(on_cpu::cp_async_commit());
}

// Waits until at most N of the groups committed by this thread are under way.
template <int N> DEV void cp_async_wait() {
  GPU(asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"));
  CPU(on_cpu::cp_async_wait(N));
}
