// Barriers below a block's own: named barriers among some warps, mbarriers in shared memory, and the fences between
// ordinary accesses and the copies and tensor cores that work on their own (the asynchronous proxy).
#pragma once
#include "kernel.cuh"

// Waits until `threads` threads (a multiple of 32) have come to barrier `id` (1 to 15; 0 is __syncthreads).
DEV void named_sync(int id, int threads AT_CALLER) {
  GPU(asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"));
  CPU(on_cpu::named_barrier(id, threads, on_cpu::Arrival::WAITS, where));
}

// Counts as one of the threads that named_sync waits for, and goes on.
DEV void named_arrive(int id, int threads AT_CALLER) {
  GPU(asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"));
  CPU(on_cpu::named_barrier(id, threads, on_cpu::Arrival::GOES_ON, where));
}

// True in every thread of the warpgroup that comes last of `groups` to the counter, which is zero before the launch; that
// one sees what all others wrote. Its 128 threads meet at named barrier `id`, which serves nothing else.
DEV bool last_warpgroup(unsigned* counter, unsigned groups, int id AT_CALLER) {
  SHARED_ARRAY(unsigned, tickets, [16]);
  __threadfence();
  named_sync(id, 128 PASS_CALLER);
  if (threadIdx.x % 128 == 0) tickets[id] = atomicAdd(counter, 1u);
  named_sync(id, 128 PASS_CALLER);
  const bool last = tickets[id] == groups - 1;
  if (last) __threadfence();
  return last;
}

// How many registers a thread of this warpgroup may use from here on.
template <int N> DEV void setmaxnreg_inc() { GPU_SM90(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N))); }
template <int N> DEV void setmaxnreg_dec() { GPU_SM90(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N))); }

// An mbarrier whose phases end after `count` arrivals and all bytes that were announced.
DEV void mbar_init(uint64_t* bar, unsigned count AT_CALLER) {
  GPU_SM90(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_u32(bar)), "r"(count) : "memory"));
  CPU(on_cpu::mbar_init(bar, count, where));
}

// Makes the initialisation of mbarriers visible to the asynchronous proxy.
DEV void fence_mbar_init() {
  GPU_SM90(asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"));
  CPU(on_cpu::fence_proxy_async());
}

// Makes this thread's accesses to shared memory visible to the asynchronous proxy.
DEV void fence_proxy_async() {
  GPU_SM90(asm volatile("fence.proxy.async.shared::cta;" ::: "memory"));
  CPU(on_cpu::fence_proxy_async());
}

DEV void mbar_arrive(uint64_t* bar AT_CALLER) {
  GPU_SM90(asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_u32(bar)) : "memory"));
  CPU(on_cpu::mbar_arrive(bar, 0, where));
}

// Arrives, and announces bytes that copies will deliver in this phase.
DEV void mbar_arrive_expect_tx(uint64_t* bar, unsigned bytes AT_CALLER) {
  GPU_SM90(asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_u32(bar)), "r"(bytes)
                        : "memory"));
  CPU(on_cpu::mbar_arrive(bar, bytes, where));
}

// Waits until the phase of this parity is over. The first phase has parity 0.
DEV void mbar_wait(uint64_t* bar, unsigned parity AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred over;\n"
                        "AGAIN:\n"
                        "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
                        "@!over bra AGAIN;\n}" ::"r"(smem_u32(bar)),
                        "r"(parity)
                        : "memory"));
  CPU(on_cpu::mbar_wait(bar, parity, where));
}
