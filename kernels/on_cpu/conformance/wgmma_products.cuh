// Products by wgmma of tiles laid out by hand, against sums: what the kernels right_wgmma_* of right.cu do.
#pragma once
#include "vector.cuh"
#include "wgmma.cuh"

// Where a tile of rows of 64 bf16 keeps element (row, column) under the 128-byte swizzle.
DEV int swizzled_128(int row, int column) { return row * 64 + ((column / 8) ^ (row % 8)) * 8 + column % 8; }

DEV float a_element(const float* in, int m, int k) { return in[(m * 64 + k) % 256] * static_cast<float>(1 + m % 3); }
DEV float b_element(const float* in, int k, int n) { return in[(k * 64 + n) * 7 % 1021]; }

// d of C = A B, A 64 x 64 and B 64 x N, against sums of bf16 products.
template <int N> DEV void check_product(const float* in, const float (&d)[N / 2]) {
  const int t = threadIdx.x;
#pragma unroll
  for (int j = 0; j < N / 2; j++) {
    const int row = t / 32 * 16 + t % 32 / 4 + (j >> 1 & 1) * 8, column = j / 4 * 8 + t % 4 * 2 + (j & 1);
    float want = 0.f;
#pragma unroll 1
    for (int k = 0; k < 64; k++) {
      const float2 pair = unpack_bf16(pack_bf16(a_element(in, row, k), b_element(in, k, column)));
      want = fmaf(pair.x, pair.y, want);
    }
    if (!(fabsf(want - d[j]) <= 1e-3f)) __trap();
  }
}

// Rows of 64 bf16: A as [m][k] (K-major), or as [k][m] (M-major); B as [n][k] (K-major), or as [k][n] in panels of 64 columns
// (N-major).
template <bool M_MAJOR> DEV void store_a(const float* in, bf16* a) {
  for (int i = threadIdx.x; i < 64 * 64; i += 128) {
    const int row = i / 64, column = i % 64;
    const float x = M_MAJOR ? a_element(in, column, row) : a_element(in, row, column);
    a[swizzled_128(row, column)] = __float2bfloat16(x);
  }
}
template <int N, bool N_MAJOR> DEV void store_b(const float* in, bf16* b) {
  for (int i = threadIdx.x; i < N * 64; i += 128) {
    const int row = i / 64, column = i % 64;
    const float x = N_MAJOR ? b_element(in, row % 64, row / 64 * 64 + column) : b_element(in, column, row);
    b[swizzled_128(row, column)] = __float2bfloat16(x);
  }
}

template <bool N_MAJOR, bool M_MAJOR> DEV void multiply(float (&d)[8], uint64_t a, uint64_t b, int keep) {
  wgmma_m64n16k16_bf16<N_MAJOR, M_MAJOR>(d, a, b, keep);
}
template <bool N_MAJOR, bool M_MAJOR> DEV void multiply(float (&d)[32], uint64_t a, uint64_t b, int keep) {
  wgmma_m64n64k16_bf16<N_MAJOR, M_MAJOR>(d, a, b, keep);
}
template <bool N_MAJOR, bool M_MAJOR> DEV void multiply(float (&d)[64], uint64_t a, uint64_t b, int keep) {
  wgmma_m64n128k16_bf16<N_MAJOR, M_MAJOR>(d, a, b, keep);
}
template <bool N_MAJOR, bool M_MAJOR> DEV void multiply(float (&d)[96], uint64_t a, uint64_t b, int keep) {
  wgmma_m64n192k16_bf16<N_MAJOR, M_MAJOR>(d, a, b, keep);
}
template <bool N_MAJOR, bool M_MAJOR> DEV void multiply(float (&d)[128], uint64_t a, uint64_t b, int keep) {
  wgmma_m64n256k16_bf16<N_MAJOR, M_MAJOR>(d, a, b, keep);
}
template <bool N_MAJOR> DEV void multiply(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int keep) {
  wgmma_m64n64k16_bf16<N_MAJOR>(d, a, b, keep);
}
template <bool N_MAJOR> DEV void multiply(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int keep) {
  wgmma_m64n128k16_bf16<N_MAJOR>(d, a, b, keep);
}
template <bool N_MAJOR> DEV void multiply(float (&d)[128], const uint32_t (&a)[4], uint64_t b, int keep) {
  wgmma_m64n256k16_bf16<N_MAJOR>(d, a, b, keep);
}

// The descriptors of 16 of the depth of A and of B.
template <bool M_MAJOR> DEV uint64_t part_of_a(const bf16* a, int k) {
  return wgmma_desc(M_MAJOR ? a + k * 16 * 64 : a + k * 16, M_MAJOR ? 8192 : 16, 1024, SWIZZLE_128);
}
template <bool N_MAJOR> DEV uint64_t part_of_b(const bf16* b, int k) {
  return wgmma_desc(N_MAJOR ? b + k * 16 * 64 : b + k * 16, N_MAJOR ? 8192 : 16, 1024, SWIZZLE_128);
}

// What stands in d before the first step is not added: it is there to be seen if it were.
template <int N, bool N_MAJOR, bool M_MAJOR = false> DEV void multiply_shared(const float* in, float* out) {
  DYN_SHARED(bf16, a);
  bf16* b = a + 64 * 64;
  store_a<M_MAJOR>(in, a);
  store_b<N, N_MAJOR>(in, b);
  fence_proxy_async();
  __syncthreads();
  float d[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; i++) d[i] = 1e6f;
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; k++)
    multiply<N_MAJOR, M_MAJOR>(d, part_of_a<M_MAJOR>(a, k), part_of_b<N_MAJOR>(b, k), k > 0);
  wgmma_commit();
  wgmma_wait<0>(d);
  check_product<N>(in, d);
  out[threadIdx.x] = in[threadIdx.x];
}

template <int N, bool N_MAJOR> DEV void multiply_registers(const float* in, float* out) {
  DYN_SHARED(bf16, b);
  store_b<N, N_MAJOR>(in, b);
  fence_proxy_async();
  __syncthreads();
  const int row = threadIdx.x / 32 * 16 + lane_id() / 4, column = lane_id() % 4 * 2;
  uint32_t a[4][4];
#pragma unroll
  for (int k = 0; k < 4; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int m = row + i % 2 * 8, at = k * 16 + column + i / 2 * 8;
      a[k][i] = pack_bf16(a_element(in, m, at), a_element(in, m, at + 1));
    }
  float d[N / 2] = {};
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; k++) multiply<N_MAJOR>(d, a[k], part_of_b<N_MAJOR>(b, k), 1);
  wgmma_commit();
  wgmma_wait<0>(d);
  check_product<N>(in, d);
  out[threadIdx.x] = in[threadIdx.x];
}
