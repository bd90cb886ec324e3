// Lanes, warps and blocks that agree on a value.
#pragma once
#include "kernel.cuh"

constexpr unsigned FULL_WARP = 0xffffffffu;

DEV int lane_id() { return threadIdx.x & 31; }

// Which warpgroup of the block this is, known to the compiler to be the same in all lanes.
DEV int warpgroup_id() { return __shfl_sync(FULL_WARP, static_cast<int>(threadIdx.x / 128), 0); }

DEV float shuffle_xor(float v, int lanes AT_CALLER) {
  GPU(return __shfl_xor_sync(FULL_WARP, v, lanes));
  CPU(return __shfl_xor_sync(FULL_WARP, v, lanes, 32, where));
}

DEV void sync_block(ONLY_AT_CALLER) {
  GPU(__syncthreads());
  CPU(__syncthreads(where));
}

// The sum over the warp, the same bits in every lane: a tree over distances 16, 8, 4, 2, 1.
DEV float warp_sum(float v AT_CALLER) {
#pragma unroll
  for (int distance = 16; distance > 0; distance >>= 1) v += shuffle_xor(v, distance PASS_CALLER);
  return v;
}

DEV float warp_max(float v AT_CALLER) {
#pragma unroll
  for (int distance = 16; distance > 0; distance >>= 1) v = fmaxf(v, shuffle_xor(v, distance PASS_CALLER));
  return v;
}

// The sum over a block of exactly THREADS threads, in every thread: warp sums added from zero in warp order. May be
// called again at once: the first barrier keeps the parts of the last call until everyone has read them.
template <int THREADS> DEV float block_sum(float v AT_CALLER) {
  SHARED_ARRAY(float, parts, [THREADS / 32]);
  v = warp_sum(v PASS_CALLER);
  sync_block(ONLY_PASS_CALLER);
  if (lane_id() == 0) parts[threadIdx.x / 32] = v;
  sync_block(ONLY_PASS_CALLER);
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < THREADS / 32; i++) sum += parts[i];
  return sum;
}

template <int THREADS> DEV float block_max(float v AT_CALLER) {
  SHARED_ARRAY(float, parts, [THREADS / 32]);
  v = warp_max(v PASS_CALLER);
  sync_block(ONLY_PASS_CALLER);
  if (lane_id() == 0) parts[threadIdx.x / 32] = v;
  sync_block(ONLY_PASS_CALLER);
  float most = parts[0];
#pragma unroll
  for (int i = 1; i < THREADS / 32; i++) most = fmaxf(most, parts[i]);
  return most;
}

// True in every thread of the block that finishes last of `blocks`; that block sees what all others wrote. The counter
// is zero before the launch.
DEV bool last_block(unsigned* counter, unsigned blocks AT_CALLER) {
  SHARED_ARRAY(unsigned, ticket, [1]);
  __threadfence();
  sync_block(ONLY_PASS_CALLER);
  if (threadIdx.x == 0) ticket[0] = atomicAdd(counter, 1u);
  sync_block(ONLY_PASS_CALLER);
  const bool last = ticket[0] == blocks - 1;
  if (last) __threadfence();
  return last;
}

// The same of warps that each wrote their own part: true in every lane of the one that finishes last of `warps`. No other
// warp of the block waits.
DEV bool last_warp(unsigned* counter, unsigned warps AT_CALLER) {
  __threadfence();
  GPU(__syncwarp());
  CPU(__syncwarp(FULL_WARP, where));
  unsigned ticket = 0;
  if (lane_id() == 0) ticket = atomicAdd(counter, 1u);
  GPU(ticket = __shfl_sync(FULL_WARP, ticket, 0));
  CPU(ticket = __shfl_sync(FULL_WARP, ticket, 0, 32, where));
  const bool last = ticket == warps - 1;
  if (last) {
    GPU(__syncwarp());
    CPU(__syncwarp(FULL_WARP, where));
    __threadfence();
  }
  return last;
}
