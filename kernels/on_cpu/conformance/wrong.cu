// Kernels in which one thing is wrong, which the checks must report. Not for a device.
#include "async_copy.cuh"
#include "tensor_core.cuh"
#include "tma.cuh"
#include "vector.cuh"
#include "warp.cuh"
#include "wgmma.cuh"

KERNEL(256, wrong_missing_barrier)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [256]);
  x[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = x[255 - threadIdx.x];
}
EXPORT_KERNEL(256, wrong_missing_barrier);

KERNEL(256, wrong_overwrites_too_early)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [256]);
  for (int i = 0; i < 2; i++) {
    x[threadIdx.x] = in[i * 256 + threadIdx.x];
    __syncthreads();
    out[i * 256 + threadIdx.x] = x[255 - threadIdx.x];
  }
}
EXPORT_KERNEL(256, wrong_overwrites_too_early);

KERNEL(256, wrong_shared_index)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [256]);
  x[threadIdx.x + 1] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = x[255 - threadIdx.x];
}
EXPORT_KERNEL(256, wrong_shared_index);

KERNEL(256, wrong_dynamic_shared_index)(const float* in, float* out) {
  DYN_SHARED(float, x);
  x[threadIdx.x + 1] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = x[255 - threadIdx.x];
}
EXPORT_KERNEL(256, wrong_dynamic_shared_index);

KERNEL(256, wrong_global_index)(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x + 1024 - 255]; }
EXPORT_KERNEL(256, wrong_global_index);

KERNEL(256, wrong_negative_index)(const float* in, float* out) { out[threadIdx.x] = in[static_cast<int>(threadIdx.x) - 1]; }
EXPORT_KERNEL(256, wrong_negative_index);

// Shuffles do not order memory.
KERNEL(256, wrong_shuffle_for_barrier)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [256]);
  x[threadIdx.x] = in[threadIdx.x];
  const float one = __shfl_xor_sync(FULL_WARP, 1.f, 1);
  out[threadIdx.x] = x[threadIdx.x ^ 31] * one;
}
EXPORT_KERNEL(256, wrong_shuffle_for_barrier);

KERNEL(256, wrong_divergent_shuffle)(const float* in, float* out) {
  float x = in[threadIdx.x];
  if (lane_id() < 16) x += __shfl_xor_sync(FULL_WARP, x, 1);
  out[threadIdx.x] = x;
}
EXPORT_KERNEL(256, wrong_divergent_shuffle);

KERNEL(256, wrong_mask)(const float* in, float* out) { out[threadIdx.x] = __shfl_xor_sync(0xfffffffeu, in[threadIdx.x], 1); }
EXPORT_KERNEL(256, wrong_mask);

KERNEL(256, wrong_two_barriers)(const float* in, float* out) {
  if (threadIdx.x < 128) __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(256, wrong_two_barriers);

KERNEL(256, wrong_barrier_in_branch)(const float* in, float* out) {
  if (threadIdx.x < 100) __syncthreads();
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(256, wrong_barrier_in_branch);

KERNEL(256, wrong_early_return)(const float* in, float* out) {
  if (threadIdx.x == 9) return;
  out[threadIdx.x] = block_sum<256>(in[threadIdx.x]);
}
EXPORT_KERNEL(256, wrong_early_return);

KERNEL(256, wrong_uninitialised_shared)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [256]);
  if (threadIdx.x != 77) x[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = x[255 - threadIdx.x];
}
EXPORT_KERNEL(256, wrong_uninitialised_shared);

KERNEL(256, wrong_uninitialised_global)(const float* in, float* out) { out[threadIdx.x] += in[threadIdx.x]; }
EXPORT_KERNEL(256, wrong_uninitialised_global);

KERNEL(256, wrong_plain_counter)(const float* in, float* out) {
  SHARED_ARRAY(int, count, [1]);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  count[0] += 1;
  __syncthreads();
  out[threadIdx.x] = in[threadIdx.x] + static_cast<float>(count[0]);
}
EXPORT_KERNEL(256, wrong_plain_counter);

KERNEL(256, wrong_read_beside_atomics)(const float* in, float* out) {
  SHARED_ARRAY(int, count, [1]);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  atomicAdd(&count[0], 1);
  out[threadIdx.x] = in[threadIdx.x] + static_cast<float>(count[0]);
}
EXPORT_KERNEL(256, wrong_read_beside_atomics);

KERNEL(256, wrong_race_in_block)(const float* in, float* out) { out[threadIdx.x / 2] = in[threadIdx.x]; }
EXPORT_KERNEL(256, wrong_race_in_block);

KERNEL(64, wrong_race_between_blocks)(const float* in, float* out) { out[threadIdx.x] = in[blockIdx.x]; }
EXPORT_KERNEL(64, wrong_race_between_blocks);

KERNEL(64, wrong_reads_other_block)(const float* in, float* out) {
  if (blockIdx.x == 0) out[threadIdx.x] = in[threadIdx.x];
  else out[64 * blockIdx.x + threadIdx.x] = out[threadIdx.x];
}
EXPORT_KERNEL(64, wrong_reads_other_block);

// Four blocks write and take tickets; the last one reads what all wrote. out[256] is the counter, zero before the launch.
enum TicketMistake { NO_FENCE_BEFORE, NO_FENCE_BEHIND };

template <TicketMistake MISTAKE> DEV void ticket_body(const float* in, float* out) {
  SHARED_ARRAY(unsigned, ticket, [1]);
  out[blockIdx.x * 64 + threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
  if (MISTAKE != NO_FENCE_BEFORE) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) ticket[0] = atomicAdd(reinterpret_cast<unsigned*>(out + 256), 1u);
  __syncthreads();
  if (ticket[0] != 3) return;
  if (MISTAKE != NO_FENCE_BEHIND) __threadfence();
  out[512 + threadIdx.x] = out[threadIdx.x];
}
KERNEL(64, wrong_no_fence_before_ticket)(const float* in, float* out) { ticket_body<NO_FENCE_BEFORE>(in, out); }
EXPORT_KERNEL(64, wrong_no_fence_before_ticket);
KERNEL(64, wrong_no_fence_behind_ticket)(const float* in, float* out) { ticket_body<NO_FENCE_BEHIND>(in, out); }
EXPORT_KERNEL(64, wrong_no_fence_behind_ticket);

// Each thread has waited for its own copies, but not for those of the others.
KERNEL(64, wrong_copy_without_barrier)(const float* in, float* out) {
  DYN_SHARED(float, x);
  cp_async_16(x + threadIdx.x * 4, in + threadIdx.x * 4);
  cp_async_commit();
  cp_async_wait<0>();
  out[threadIdx.x] = x[threadIdx.x];
}
EXPORT_KERNEL(64, wrong_copy_without_barrier);

KERNEL(64, wrong_copy_not_waited_for)(const float* in, float* out) {
  DYN_SHARED(float, x);
  cp_async_16(x + threadIdx.x * 4, in + threadIdx.x * 4);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
  cp_async_wait<0>();
}
EXPORT_KERNEL(64, wrong_copy_not_waited_for);

KERNEL(64, wrong_copy_not_committed)(const float* in, float* out) {
  DYN_SHARED(float, x);
  cp_async_16(x + threadIdx.x * 4, in + threadIdx.x * 4);
  cp_async_wait<0>();
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
EXPORT_KERNEL(64, wrong_copy_not_committed);

KERNEL(64, wrong_exit_with_copies)(const float* in, float* out) {
  DYN_SHARED(float, x);
  cp_async_16(x + threadIdx.x * 4, in + threadIdx.x * 4);
  cp_async_commit();
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(64, wrong_exit_with_copies);

KERNEL(256, wrong_alignment)(const float* in, float* out) {
  const float4 x = load_4(in + 1 + threadIdx.x % 4);
  out[threadIdx.x] = x.x + x.y + x.z + x.w;
}
EXPORT_KERNEL(256, wrong_alignment);

struct FourFloats {
  float at[4];
};
KERNEL(256, wrong_register_array)(const float* in, float* out) {
  FourFloats x;
  for (unsigned i = 0; i <= 4; i++) x.at[i] = in[threadIdx.x + i];
  out[threadIdx.x] = x.at[0] + x.at[3];
}
EXPORT_KERNEL(256, wrong_register_array);

KERNEL(256, wrong_register_vectors)(const float* in, float* out) {
  float4 x[2];
  for (unsigned i = 0; i <= 2; i++) x[i] = load_4(in + i * 4);
  out[threadIdx.x] = x[0].x + x[1].w;
}
EXPORT_KERNEL(256, wrong_register_vectors);

KERNEL(256, wrong_stack)(const float* in, float* out) {
  volatile float big[40000];
  for (int i = 0; i < 40000; i += 100) big[i] = in[threadIdx.x];
  out[threadIdx.x] = big[100];
}
EXPORT_KERNEL(256, wrong_stack);

KERNEL(256, wrong_shift)(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x] + static_cast<float>(1u << (in[0] < 1e30f ? 32 + threadIdx.x % 2 : 0));
}
EXPORT_KERNEL(256, wrong_shift);

KERNEL(32, wrong_endless_loop)(const float* in, float* out) {
  volatile float* flag = out;
  flag[threadIdx.x] = in[threadIdx.x];
  while (flag[threadIdx.x] < 1e30f) {
  }
}
EXPORT_KERNEL(32, wrong_endless_loop);

KERNEL(64, wrong_mbarrier_parity)(const float* in, float* out) {
  SHARED_ARRAY(uint64_t, bar, [1]);
  if (threadIdx.x == 0) {
    mbar_init(bar, 64);
    fence_mbar_init();
  }
  __syncthreads();
  mbar_arrive(bar);
  mbar_wait(bar, 0);
  if (threadIdx.x > 0) mbar_arrive(bar);
  mbar_wait(bar, 1);
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(64, wrong_mbarrier_parity);

KERNEL(64, wrong_mbarrier_not_ordered)(const float* in, float* out) {
  SHARED_ARRAY(uint64_t, bar, [1]);
  if (threadIdx.x == 0) mbar_init(bar, 64);
  mbar_arrive(bar);
  mbar_wait(bar, 0);
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(64, wrong_mbarrier_not_ordered);

// The producer does not wait for the consumer.
KERNEL(64, wrong_mbarrier_handoff)(const float* in, float* out) {
  SHARED_ARRAY(uint64_t, full, [1]);
  SHARED_ARRAY(float, x, [32]);
  if (threadIdx.x == 0) {
    mbar_init(full, 32);
    fence_mbar_init();
  }
  __syncthreads();
  for (int i = 0; i < 2; i++) {
    if (threadIdx.x < 32) {
      if (i > 0) mbar_wait(full, (i - 1) & 1);
      x[lane_id()] = in[i * 32 + lane_id()];
      mbar_arrive(full);
    } else {
      mbar_wait(full, i & 1);
      out[i * 32 + lane_id()] = x[31 - lane_id()];
    }
  }
}
EXPORT_KERNEL(64, wrong_mbarrier_handoff);

KERNEL(256, wrong_named_barriers)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [128]);
  const int i = threadIdx.x % 128;
  for (int round = 0; round < 3; round++) {
    if (threadIdx.x < 128) {
      x[i] = in[round * 128 + i];
      named_arrive(1, 256);
    } else {
      named_sync(1, 256);
      out[round * 128 + i] = x[127 - i];
    }
  }
}
EXPORT_KERNEL(256, wrong_named_barriers);

enum Mistake { NO_FENCE_AT_INIT, NO_WAIT, TOO_MANY_BYTES, REFILLED_TOO_EARLY };

template <Mistake MISTAKE> DEV void bulk_body(const float* in, float* out) {
  SHARED_ARRAY(float, x, [64]);
  SHARED_ARRAY(uint64_t, full, [1]);
  if (threadIdx.x == 0) {
    mbar_init(full, 1);
    if (MISTAKE != NO_FENCE_AT_INIT) fence_mbar_init();
  }
  __syncthreads();
  for (int i = 0; i < 2; i++) {
    if (threadIdx.x == 0) {
      mbar_arrive_expect_tx(full, MISTAKE == TOO_MANY_BYTES ? 512 : 256);
      bulk_load(x, in + i * 64, 256, full);
    }
    if (MISTAKE != NO_WAIT) mbar_wait(full, i & 1);
    out[i * 64 + threadIdx.x] = x[63 - threadIdx.x];
    if (MISTAKE != REFILLED_TOO_EARLY) __syncthreads();
  }
}
KERNEL(64, wrong_bulk_no_fence)(const float* in, float* out) { bulk_body<NO_FENCE_AT_INIT>(in, out); }
EXPORT_KERNEL(64, wrong_bulk_no_fence);
KERNEL(64, wrong_bulk_no_wait)(const float* in, float* out) { bulk_body<NO_WAIT>(in, out); }
EXPORT_KERNEL(64, wrong_bulk_no_wait);
KERNEL(64, wrong_bulk_bytes)(const float* in, float* out) { bulk_body<TOO_MANY_BYTES>(in, out); }
EXPORT_KERNEL(64, wrong_bulk_bytes);
KERNEL(64, wrong_bulk_refilled_too_early)(const float* in, float* out) { bulk_body<REFILLED_TOO_EARLY>(in, out); }
EXPORT_KERNEL(64, wrong_bulk_refilled_too_early);

enum WgmmaMistake { NO_PROXY_FENCE, NO_BARRIER, NO_REGISTER_FENCE, NO_COMMIT, NO_WGMMA_WAIT, OVERWRITTEN };

// The values do not matter, so the tiles need no swizzle to be put in.
template <WgmmaMistake MISTAKE> DEV void wgmma_body(const float* in, float* out) {
  DYN_SHARED(bf16, tiles);
  for (int i = threadIdx.x; i < 2 * 64 * 64; i += 128) tiles[i] = __float2bfloat16(in[i % 1024]);
  if (MISTAKE != NO_PROXY_FENCE) fence_proxy_async();
  if (MISTAKE != NO_BARRIER) __syncthreads();
  float d[32];
  for (int i = 0; i < 32; i++) d[i] = 0.f;
  if (MISTAKE != NO_REGISTER_FENCE) wgmma_fence();
  wgmma_m64n64k16_bf16(d, wgmma_desc(tiles, 16, 1024, SWIZZLE_128), wgmma_desc(tiles + 4096, 16, 1024, SWIZZLE_128), 1);
  if (MISTAKE != NO_COMMIT) wgmma_commit();
  if (MISTAKE == OVERWRITTEN) {
    __syncthreads();
    tiles[threadIdx.x] = __float2bfloat16(0.f);
  }
  if (MISTAKE != NO_WGMMA_WAIT) wgmma_wait<0>(d);
  if (!(d[0] < 1e30f)) __trap();
  out[threadIdx.x] = d[0];
}
KERNEL(128, wrong_wgmma_no_proxy_fence)(const float* in, float* out) { wgmma_body<NO_PROXY_FENCE>(in, out); }
EXPORT_KERNEL(128, wrong_wgmma_no_proxy_fence);
KERNEL(128, wrong_wgmma_no_barrier)(const float* in, float* out) { wgmma_body<NO_BARRIER>(in, out); }
EXPORT_KERNEL(128, wrong_wgmma_no_barrier);
KERNEL(128, wrong_wgmma_no_fence)(const float* in, float* out) { wgmma_body<NO_REGISTER_FENCE>(in, out); }
EXPORT_KERNEL(128, wrong_wgmma_no_fence);
KERNEL(128, wrong_wgmma_no_commit)(const float* in, float* out) { wgmma_body<NO_COMMIT>(in, out); }
EXPORT_KERNEL(128, wrong_wgmma_no_commit);
KERNEL(128, wrong_wgmma_no_wait)(const float* in, float* out) { wgmma_body<NO_WGMMA_WAIT>(in, out); }
EXPORT_KERNEL(128, wrong_wgmma_no_wait);
KERNEL(128, wrong_wgmma_overwritten)(const float* in, float* out) { wgmma_body<OVERWRITTEN>(in, out); }
EXPORT_KERNEL(128, wrong_wgmma_overwritten);

KERNEL(32, wrong_ldmatrix_alignment)(const float* in, float* out) {
  DYN_SHARED(bf16, tile);
  for (int i = threadIdx.x; i < 512; i += 32) tile[i] = __float2bfloat16(in[i]);
  __syncwarp();
  uint32_t r[4];
  ldmatrix_x4(r, tile + lane_id() * 12);
  out[threadIdx.x] = unpack_bf16(r[0]).x;
}
EXPORT_KERNEL(32, wrong_ldmatrix_alignment);
