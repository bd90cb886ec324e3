// Equation: x <- factor x.
// Shapes: x of any shape and any number of elements, bf16 or f32, from a 16-byte boundary on.
// Traffic: every element once in, once out.
// Launch: 256 threads, four pieces of 16 bytes a thread: grid = pieces / 1024 rounded up, where the last piece may be
//   short. No dynamic shared memory.
// Writes: x =: multiplied in f32, rounded once. Every element stands alone: no sums.
// Source: none needed.
#include "eight.cuh"

constexpr uint32_t THREADS = 256;
// Pieces that a thread loads before it computes.
constexpr uint32_t PIECES = 4;

DEV uint64_t piece_of_thread(uint32_t i) { return uint64_t(blockIdx.x * PIECES + i) * THREADS + threadIdx.x; }

DEV uint4 scaled(uint4 piece, float factor, const bf16*) {
  Eight e = widen(piece);
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) e.at[k] *= factor;
  return narrow(e);
}
DEV uint4 scaled(uint4 piece, float factor, const float*) {
  return make_uint4(
      __float_as_uint(factor * __uint_as_float(piece.x)), __float_as_uint(factor * __uint_as_float(piece.y)),
      __float_as_uint(factor * __uint_as_float(piece.z)), __float_as_uint(factor * __uint_as_float(piece.w)));
}
DEV bf16 scaled(bf16 x, float factor) { return __float2bfloat16(factor * __bfloat162float(x)); }
DEV float scaled(float x, float factor) { return factor * x; }

// The elements after the last whole piece, one a thread of the first block.
template <class T> DEV void scale_rest(T* x, uint64_t count, uint64_t whole, float factor) {
  const uint64_t at = whole * (16 / sizeof(T)) + threadIdx.x;
  if (blockIdx.x == 0 && at < count) x[at] = scaled(x[at], factor);
}

template <class T> DEV void scale(T* x, uint64_t count, float factor) {
  const uint64_t whole = count / (16 / sizeof(T));
  uint4* pieces = reinterpret_cast<uint4*>(x);
  uint4 held[PIECES];
#pragma unroll
  for (uint32_t i = 0; i < PIECES; i++)
    if (piece_of_thread(i) < whole) held[i] = pieces[piece_of_thread(i)];
#pragma unroll
  for (uint32_t i = 0; i < PIECES; i++)
    if (piece_of_thread(i) < whole) pieces[piece_of_thread(i)] = scaled(held[i], factor, x);
  scale_rest(x, count, whole, factor);
}

KERNEL(256, scale_bf16)(bf16* x, uint64_t count, float factor) { scale(x, count, factor); }
EXPORT_KERNEL(256, scale_bf16);
KERNEL(256, scale_f32)(float* x, uint64_t count, float factor) { scale(x, count, factor); }
EXPORT_KERNEL(256, scale_f32);
