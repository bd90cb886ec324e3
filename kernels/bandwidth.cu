// Equation: read: sums[b] = exclusive or of the 32-bit words of block b's part of x; copy: y = x; fill: x[i] = uniform
//   in -1..1, a function of seed and i alone; nothing: nothing.
// Shapes: x, y [count] pieces of 16 bytes of any dtype; sums [grid] u32; fill: x [count] pieces of bf16 or f32.
// Traffic: read: x once; copy: x once in, once out; fill: x once out.
// Launch: 256 threads, eight pieces a thread: grid = count / 2048 rounded up, where the last part may be short. nothing:
//   any grid. No dynamic shared memory.
// Writes: sums, y, x =: no order matters. fill: h = mix(low + mix(high + seed)) of the 64-bit element i, the value
//   (h / 2^8) 2^-23 - 1, rounded once to bf16 where it is that.
// Source: Appleby, MurmurHash3 (mix is its finalizer). What they are for: a device's own limits, measured beside kernels.
#include "eight.cuh"
#include "warp.cuh"

constexpr uint32_t THREADS = 256;
// Pieces that a thread has in flight.
constexpr uint32_t AHEAD = 8;
constexpr uint32_t PART = THREADS * AHEAD;

DEV uint64_t piece_of_thread(uint32_t i) { return uint64_t(blockIdx.x) * PART + i * THREADS + threadIdx.x; }

DEV void load_part(const uint4* x, uint64_t count, uint4 (&held)[AHEAD]) {
#pragma unroll
  for (uint32_t i = 0; i < AHEAD; i++)
    held[i] = piece_of_thread(i) < count ? x[piece_of_thread(i)] : make_uint4(0, 0, 0, 0);
}

KERNEL(256, bandwidth_read)(const uint4* x, uint64_t count, uint32_t* sums) {
  SHARED_ARRAY(uint32_t, warps, [THREADS / 32]);
  uint4 held[AHEAD];
  load_part(x, count, held);
  uint32_t sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < AHEAD; i++) sum ^= held[i].x ^ held[i].y ^ held[i].z ^ held[i].w;
#pragma unroll
  for (uint32_t offset = 16; offset > 0; offset /= 2) sum ^= __shfl_xor_sync(FULL_WARP, sum, offset);
  if (lane_id() == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (uint32_t i = 1; i < THREADS / 32; i++) sum ^= warps[i];
  sums[blockIdx.x] = sum;
}
EXPORT_KERNEL(256, bandwidth_read);

KERNEL(256, bandwidth_copy)(const uint4* x, uint64_t count, uint4* y) {
  uint4 held[AHEAD];
  load_part(x, count, held);
#pragma unroll
  for (uint32_t i = 0; i < AHEAD; i++)
    if (piece_of_thread(i) < count) y[piece_of_thread(i)] = held[i];
}
EXPORT_KERNEL(256, bandwidth_copy);

DEV uint32_t mix(uint32_t h) {
  h = (h ^ (h >> 16)) * 0x85ebca6bu;
  h = (h ^ (h >> 13)) * 0xc2b2ae35u;
  return h ^ (h >> 16);
}

DEV float uniform(uint64_t i, uint32_t seed) {
  const uint32_t h = mix(uint32_t(i) + mix(uint32_t(i >> 32) + seed));
  return float(h >> 8) * 0x1p-23f - 1.f;
}

DEV uint4 numbers(uint64_t piece, uint32_t seed, const bf16*) {
  Eight e;
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) e.at[k] = uniform(EIGHT * piece + k, seed);
  return narrow(e);
}
DEV uint4 numbers(uint64_t piece, uint32_t seed, const float*) {
  return make_uint4(__float_as_uint(uniform(4 * piece, seed)), __float_as_uint(uniform(4 * piece + 1, seed)),
                    __float_as_uint(uniform(4 * piece + 2, seed)), __float_as_uint(uniform(4 * piece + 3, seed)));
}

template <class T> DEV void fill(T* x, uint64_t count, uint32_t seed) {
#pragma unroll
  for (uint32_t i = 0; i < AHEAD; i++) {
    const uint64_t piece = piece_of_thread(i);
    if (piece < count) reinterpret_cast<uint4*>(x)[piece] = numbers(piece, seed, x);
  }
}

KERNEL(256, bandwidth_fill_bf16)(bf16* x, uint64_t count, uint32_t seed) { fill(x, count, seed); }
EXPORT_KERNEL(256, bandwidth_fill_bf16);
KERNEL(256, bandwidth_fill_f32)(float* x, uint64_t count, uint32_t seed) { fill(x, count, seed); }
EXPORT_KERNEL(256, bandwidth_fill_f32);

KERNEL(32, bandwidth_nothing)() {}
EXPORT_KERNEL(32, bandwidth_nothing);
