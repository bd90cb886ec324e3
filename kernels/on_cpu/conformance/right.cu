// Kernels in which nothing is wrong: each wrapper against its definition. On the CPU the checks must find nothing; on a
// device the same kernels tell whether the wrappers, and so the emulation, mean what the hardware does. A kernel traps where
// it finds another value than the definition's, and copies something of `in` to `out` where it does not: right.rs says what.
#include "async_copy.cuh"
#include "exponential.cuh"
#include "tensor_core.cuh"
#include "tma.cuh"
#include "vector.cuh"
#include "warp.cuh"
#include "wgmma_products.cuh"

KERNEL(256, right_transpose)(const float* in, float* out) {
  SHARED_ARRAY(float, tile, [32][33]);
  const int column = threadIdx.x % 32;
  for (int row = threadIdx.x / 32; row < 32; row += 8) tile[row][column] = in[row * 32 + column];
  __syncthreads();
  for (int row = threadIdx.x / 32; row < 32; row += 8) out[row * 32 + column] = tile[column][row];
}
EXPORT_KERNEL(256, right_transpose);

KERNEL(256, right_warp_exchange)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [256]);
  x[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  out[threadIdx.x] = x[threadIdx.x ^ 31];
}
EXPORT_KERNEL(256, right_warp_exchange);

KERNEL(256, right_half_warp_shuffles)(const float* in, float* out) {
  float x = in[threadIdx.x];
  if (lane_id() < 16) x += __shfl_xor_sync(0xffffu, x, 1);
  else x += __shfl_xor_sync(0xffff0000u, x, 2);
  out[threadIdx.x] = x;
}
EXPORT_KERNEL(256, right_half_warp_shuffles);

KERNEL(256, right_shared_atomics)(const float* in, float* out) {
  SHARED_ARRAY(int, count, [1]);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  atomicAdd(&count[0], 1);
  __syncthreads();
  if (count[0] != 256) __trap();
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(256, right_shared_atomics);

KERNEL(256, right_block_sum)(const float* in, float* out) {
  const float sum = block_sum<256>(static_cast<float>(threadIdx.x)), again = block_sum<256>(1.f);
  const float most = block_max<256>(static_cast<float>(threadIdx.x ^ 77));
  if (sum != 32640.f || again != 256.f || most != 255.f) __trap();
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(256, right_block_sum);

// Four blocks of 64 threads write; the last one reads what all wrote. out[256] is the counter, zero before the launch.
KERNEL(64, right_last_block)(const float* in, float* out) {
  out[blockIdx.x * 64 + threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
  if (!last_block(reinterpret_cast<unsigned*>(out + 256), gridDim.x)) return;
  float sum = 0.f;
  for (int i = 0; i < 4; i++) sum += out[i * 64 + threadIdx.x];
  out[512 + threadIdx.x] = sum;
}
EXPORT_KERNEL(64, right_last_block);

// The same warp by warp, each with a counter of its own.
KERNEL(64, right_last_warp)(const float* in, float* out) {
  out[blockIdx.x * 64 + threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
  if (!last_warp(reinterpret_cast<unsigned*>(out + 256 + threadIdx.x / 32), gridDim.x)) return;
  float sum = 0.f;
  for (int i = 0; i < 4; i++) sum += out[i * 64 + threadIdx.x];
  out[512 + threadIdx.x] = sum;
}
EXPORT_KERNEL(64, right_last_warp);

// The same of two blocks of two warpgroups, whose second waits for nobody of the first. out[512] is the counter.
KERNEL(256, right_last_warpgroup)(const float* in, float* out) {
  const int group = threadIdx.x / 128, at = (blockIdx.x * 2 + group) * 128 + threadIdx.x % 128;
  out[at] = in[at];
  if (group == 0) return;
  if (!last_warpgroup(reinterpret_cast<unsigned*>(out + 512), gridDim.x, 3)) return;
  out[640 + threadIdx.x % 128] = out[128 + threadIdx.x % 128] + out[384 + threadIdx.x % 128];
}
EXPORT_KERNEL(256, right_last_warpgroup);

KERNEL(256, right_fast_exp2)(const float* in, float* out) {
  const float x = static_cast<float>(static_cast<int>(threadIdx.x) - 128) + in[threadIdx.x];
  const float got = fast_exp2(x), want = exp2f(x);
  if (x < -126.f ? got != 0.f : !(fabsf(got - want) <= 0x1p-21f * want)) __trap();
  if (fast_exp2(-INFINITY) != 0.f || fast_exp2(0.f) != 1.f) __trap();
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(256, right_fast_exp2);

// Three stages in two buffers, each filled while the other is read.
KERNEL(64, right_async_pipeline)(const float* in, float* out) {
  SHARED_ARRAY(float, stage, [2][256]);
  const int at = threadIdx.x * 4;
  cp_async_16(&stage[0][at], in + at);
  cp_async_commit();
  for (int i = 0; i < 3; i++) {
    if (i < 2) cp_async_16(&stage[(i + 1) & 1][at], in + (i + 1) * 256 + at, threadIdx.x < 60);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    for (int j = threadIdx.x; j < 256; j += 64) out[i * 256 + j] = stage[i & 1][255 - j];
    __syncthreads();
  }
}
EXPORT_KERNEL(64, right_async_pipeline);

KERNEL(256, right_warp_operations)(const float* in, float* out) {
  const int lane = lane_id(), t = threadIdx.x;
  bool wrong = false;
  for (int width = 1; width <= 32; width *= 2) {
    const int segment = lane / width * width, end = segment + width;
    wrong |= __shfl_sync(FULL_WARP, t * 3, 5, width) != (t / 32 * 32 + segment + 5 % width) * 3;
    wrong |= __shfl_up_sync(FULL_WARP, static_cast<long long>(t), 3, width) != (lane - 3 < segment ? t : t - 3);
    wrong |= __shfl_down_sync(FULL_WARP, static_cast<double>(t), 3, width) != (lane + 3 >= end ? t : t + 3);
    wrong |= __shfl_xor_sync(FULL_WARP, t, 5, width) != ((lane ^ 5) >= end ? t : (t ^ 5));
  }
  wrong |= __ballot_sync(FULL_WARP, lane % 3 == 0) != 0x49249249u;
  wrong |= !__any_sync(FULL_WARP, lane == 7) || __all_sync(FULL_WARP, lane < 31) || !__all_sync(FULL_WARP, lane < 32);
  wrong |= __reduce_add_sync(FULL_WARP, lane - 40) != -784 || __reduce_max_sync(FULL_WARP, lane - 40) != -9;
  wrong |= __reduce_min_sync(FULL_WARP, lane - 40) != -40;
  wrong |= __reduce_max_sync(FULL_WARP, static_cast<unsigned>(lane - 16)) != 0xffffffffu;
  wrong |= __reduce_or_sync(FULL_WARP, 1u << lane) != 0xffffffffu;
  wrong |= __reduce_and_sync(FULL_WARP, static_cast<unsigned>(lane) | 64u) != 64u;
  wrong |= __match_any_sync(FULL_WARP, lane % 4) != 0x11111111u << (lane % 4);
  wrong |= __syncthreads_count(t < 100) != 100;
  wrong |= !__syncthreads_or(t == 200);
  wrong |= __syncthreads_and(t != 3) != 0;
  if (wrong) __trap();
  out[t] = in[t];
}
EXPORT_KERNEL(256, right_warp_operations);

// Fragments by CUTLASS's thread-value layouts of SM80_16x8x16: offsets into column-major A (16x16), B (8x16), C (16x8).
KERNEL(32, right_mma_layout)(const float* in, float* out) {
  const int t = lane_id() % 4, g = lane_id() / 4;
  const auto a_of = [&](int m, int k) { return in[(m * 16 + k) % 256]; };
  const auto b_of = [&](int n, int k) { return in[(n * 31 + k * 5) % 256]; };
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; i++) {
    const int at = t * 32 + g + i % 2 * 8 + i / 2 * 128;
    a[i] = pack_bf16(a_of(at % 16, at / 16), a_of((at + 16) % 16, (at + 16) / 16));
  }
  for (int i = 0; i < 2; i++) {
    const int at = t * 16 + g + i * 64;
    b[i] = pack_bf16(b_of(at % 8, at / 8), b_of((at + 8) % 8, (at + 8) / 8));
  }
  float d[4] = {1.f, 2.f, 3.f, 4.f};
  mma_m16n8k16_bf16(d, a, b[0], b[1]);
  for (int i = 0; i < 4; i++) {
    const int at = t * 32 + g + i % 2 * 16 + i / 2 * 8;
    float want = static_cast<float>(i + 1);
    for (int k = 0; k < 16; k++)
      want += unpack_bf16(pack_bf16(a_of(at % 16, k), 0.f)).x * unpack_bf16(pack_bf16(b_of(at / 16, k), 0.f)).x;
    if (!(fabsf(want - d[i]) < 1e-4f)) __trap();
  }
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(32, right_mma_layout);

// Register i of lane l holds elements 2 * (l % 4) and the next of row l / 4 of matrix i; of column l / 4 if transposed.
KERNEL(32, right_ldmatrix_layout)(const float* in, float* out) {
  SHARED_ARRAY(uint16_t, matrices, [4][8][8]);
  const int l = lane_id();
  for (int i = l; i < 256; i += 32) matrices[i / 64][i / 8 % 8][i % 8] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t rows[4], columns[4];
  ldmatrix_x4(rows, matrices[l / 8][l % 8]);
  ldmatrix_x4_trans(columns, matrices[l / 8][l % 8]);
  for (int i = 0; i < 4; i++) {
    const uint32_t along = l / 4 * 8 + l % 4 * 2, across = l % 4 * 2 * 8 + l / 4;
    const uint32_t first = i * 64 + along, above = i * 64 + across;
    if (rows[i] != (first | (first + 1) << 16) || columns[i] != (above | (above + 8) << 16)) __trap();
  }
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(32, right_ldmatrix_layout);

// Rows 128 bytes apart lie in the same banks: right, and eight times as slow as it could be.
KERNEL(32, right_ldmatrix_conflicts)(const float* in, float* out) {
  SHARED_ARRAY(uint16_t, rows, [32][64]);
  const int l = lane_id();
  for (int i = 0; i < 8; i++) rows[l][i] = static_cast<uint16_t>(l * 8 + i);
  __syncwarp();
  uint32_t matrices[4];
  ldmatrix_x4(matrices, rows[l]);
  for (int i = 0; i < 4; i++) {
    const uint32_t first = i * 64 + l / 4 * 8 + l % 4 * 2;
    if (matrices[i] != (first | (first + 1) << 16)) __trap();
  }
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(32, right_ldmatrix_conflicts);

// Threads 0 to 127 produce for 128 to 255, and wait until they may overwrite.
KERNEL(256, right_named_barriers)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [128]);
  const int i = threadIdx.x % 128;
  for (int round = 0; round < 3; round++) {
    if (threadIdx.x < 128) {
      if (round > 0) named_sync(2, 256);
      x[i] = in[round * 128 + i];
      named_arrive(1, 256);
    } else {
      named_sync(1, 256);
      out[round * 128 + i] = x[127 - i];
      if (round < 2) named_arrive(2, 256);
    }
  }
}
EXPORT_KERNEL(256, right_named_barriers);

// Warp 0 produces for warp 1, which hands the buffer back.
KERNEL(64, right_mbarrier_handoff)(const float* in, float* out) {
  SHARED_ARRAY(uint64_t, full, [1]);
  SHARED_ARRAY(uint64_t, empty, [1]);
  SHARED_ARRAY(float, x, [32]);
  if (threadIdx.x == 0) {
    mbar_init(full, 32);
    mbar_init(empty, 32);
    fence_mbar_init();
  }
  __syncthreads();
  const int lane = lane_id();
  for (int i = 0; i < 4; i++) {
    if (threadIdx.x < 32) {
      if (i > 0) mbar_wait(empty, (i - 1) & 1);
      x[lane] = in[i * 32 + lane];
      mbar_arrive(full);
    } else {
      mbar_wait(full, i & 1);
      out[i * 32 + lane] = x[31 - lane];
      mbar_arrive(empty);
    }
  }
}
EXPORT_KERNEL(64, right_mbarrier_handoff);

// Bulk copies through two buffers; four of them, so that each buffer is filled twice.
KERNEL(64, right_bulk_pipeline)(const float* in, float* out) {
  SHARED_ARRAY(float, x, [2][64]);
  SHARED_ARRAY(uint64_t, full, [2]);
  if (threadIdx.x == 0) {
    mbar_init(&full[0], 1);
    mbar_init(&full[1], 1);
    fence_mbar_init();
  }
  __syncthreads();
  for (int i = 0; i < 5; i++) {
    if (i < 4 && threadIdx.x == 0) {
      mbar_arrive_expect_tx(&full[i & 1], 256);
      bulk_load(x[i & 1], in + i * 64, 256, &full[i & 1]);
    }
    if (i > 0) {
      mbar_wait(&full[(i - 1) & 1], ((i - 1) >> 1) & 1);
      out[(i - 1) * 64 + threadIdx.x] = x[(i - 1) & 1][63 - threadIdx.x];
    }
    __syncthreads();
  }
}
EXPORT_KERNEL(64, right_bulk_pipeline);

// Boxes of COLUMNS x 16 of a matrix of 64 x 16 elements of 2 bytes, half beyond its right edge and six rows below its
// end: there are zeros. Under a swizzle byte `at` of the box stands at at ^ (at / 8 & MASK).
template <int COLUMNS, int MASK> DEV void check_box(const float* in, float* out, const TensorMap* map) {
  DYN_SHARED(uint16_t, box);
  SHARED_ARRAY(uint64_t, full, [1]);
  const uint16_t* matrix = reinterpret_cast<const uint16_t*>(in);
  if (threadIdx.x == 0) {
    mbar_init(full, 1);
    fence_mbar_init();
    mbar_arrive_expect_tx(full, COLUMNS * 16 * 2);
    tma_load_2d(box, map, 64 - COLUMNS / 2, 6, full);
  }
  __syncthreads();
  mbar_wait(full, 0);
  for (int i = threadIdx.x; i < COLUMNS * 16; i += 128) {
    const int row = 6 + i / COLUMNS, column = 64 - COLUMNS / 2 + i % COLUMNS, at = i * 2;
    const int want = row < 16 && column < 64 ? matrix[row * 64 + column] : 0;
    if (box[(at ^ (at / 8 & MASK)) / 2] != want) __trap();
  }
  out[threadIdx.x] = in[threadIdx.x];
}

KERNEL(128, right_tma_box)(const float* in, float* out, const __grid_constant__ TensorMap map) {
  check_box<64, 0>(in, out, &map);
}
EXPORT_KERNEL(128, right_tma_box);
KERNEL(128, right_tma_box_swizzled_32)(const float* in, float* out, const __grid_constant__ TensorMap map) {
  check_box<16, 0x10>(in, out, &map);
}
EXPORT_KERNEL(128, right_tma_box_swizzled_32);
KERNEL(128, right_tma_box_swizzled_64)(const float* in, float* out, const __grid_constant__ TensorMap map) {
  check_box<32, 0x30>(in, out, &map);
}
EXPORT_KERNEL(128, right_tma_box_swizzled_64);
KERNEL(128, right_tma_box_swizzled_128)(const float* in, float* out, const __grid_constant__ TensorMap map) {
  check_box<64, 0x70>(in, out, &map);
}
EXPORT_KERNEL(128, right_tma_box_swizzled_128);

// A box of 64 x 2 x 2 of a tensor of 64 x 4 x 4, at its last row of planes 1 and 2, under the swizzle of 128 bytes.
KERNEL(128, right_tma_box_3d)(const float* in, float* out, const __grid_constant__ TensorMap map) {
  DYN_SHARED(uint16_t, box);
  SHARED_ARRAY(uint64_t, full, [1]);
  const uint16_t* tensor = reinterpret_cast<const uint16_t*>(in);
  if (threadIdx.x == 0) {
    mbar_init(full, 1);
    fence_mbar_init();
    mbar_arrive_expect_tx(full, 512);
    tma_load_3d(box, &map, 0, 3, 1, full);
  }
  __syncthreads();
  mbar_wait(full, 0);
  for (int i = threadIdx.x; i < 256; i += 128) {
    const int plane = 1 + i / 128, row = 3 + i / 64 % 2, at = i * 2;
    const int want = row < 4 ? tensor[(plane * 4 + row) * 64 + i % 64] : 0;
    if (box[(at ^ (at / 8 & 0x70)) / 2] != want) __trap();
  }
  out[threadIdx.x] = in[threadIdx.x];
}
EXPORT_KERNEL(128, right_tma_box_3d);

KERNEL(128, right_wgmma_n16_k_major)(const float* in, float* out) { multiply_shared<16, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n16_k_major);
KERNEL(128, right_wgmma_n64_k_major)(const float* in, float* out) { multiply_shared<64, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n64_k_major);
KERNEL(128, right_wgmma_n64_n_major)(const float* in, float* out) { multiply_shared<64, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n64_n_major);
KERNEL(128, right_wgmma_n128_k_major)(const float* in, float* out) { multiply_shared<128, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n128_k_major);
KERNEL(128, right_wgmma_n128_n_major)(const float* in, float* out) { multiply_shared<128, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n128_n_major);
KERNEL(128, right_wgmma_n192_k_major)(const float* in, float* out) { multiply_shared<192, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n192_k_major);
KERNEL(128, right_wgmma_n192_n_major)(const float* in, float* out) { multiply_shared<192, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n192_n_major);
KERNEL(128, right_wgmma_m_major)(const float* in, float* out) { multiply_shared<64, false, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_m_major);
KERNEL(128, right_wgmma_m_major_n_major)(const float* in, float* out) { multiply_shared<192, true, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_m_major_n_major);
KERNEL(128, right_wgmma_n256_k_major)(const float* in, float* out) { multiply_shared<256, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n256_k_major);
KERNEL(128, right_wgmma_n256_n_major)(const float* in, float* out) { multiply_shared<256, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n256_n_major);
KERNEL(128, right_wgmma_n64_k_major_registers)(const float* in, float* out) { multiply_registers<64, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n64_k_major_registers);
KERNEL(128, right_wgmma_n64_n_major_registers)(const float* in, float* out) { multiply_registers<64, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n64_n_major_registers);
KERNEL(128, right_wgmma_n128_k_major_registers)(const float* in, float* out) { multiply_registers<128, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n128_k_major_registers);
KERNEL(128, right_wgmma_n128_n_major_registers)(const float* in, float* out) { multiply_registers<128, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n128_n_major_registers);
KERNEL(128, right_wgmma_n256_k_major_registers)(const float* in, float* out) { multiply_registers<256, false>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n256_k_major_registers);
KERNEL(128, right_wgmma_n256_n_major_registers)(const float* in, float* out) { multiply_registers<256, true>(in, out); }
EXPORT_KERNEL(128, right_wgmma_n256_n_major_registers);
