// Equation: the sum of g^2; not finite if an element is not.
// Shapes: g [count] f32 or bf16 from a 16-byte boundary on, any count; chunk_sums [chunks] f64, sum [1] f64, counter
//   [1] u32.
// Traffic: g once.
// Launch: 256 threads, a block for each chunk of 65,536 elements; counter 0 before, and 0 again after. No dynamic
//   shared memory.
// Writes: sum =. f64, squares exact: in a chunk thread t takes pieces (16 bytes) t, t + 256, ..., a chain of fused
//   multiply-adds over them ascending, then lanes by butterfly (16, 8, 4, 2, 1), then warps ascending. The block that
//   ends last adds the chunks: thread t takes chunks t, t + 256, ... ascending, then lanes and warps as before. No
//   float atomics: the same bits on every run.
// Source: Pascanu et al., arXiv 1211.5063 (what the norm is for).
#include "eight.cuh"
#include "warp.cuh"

constexpr uint32_t THREADS = 256, CHUNK = 1 << 16;
// Pieces that a thread loads before it squares the first.
constexpr uint32_t AHEAD = 8;

// Sum over the block, in every thread: lanes by butterfly, warps ascending. Between two calls stands a barrier.
DEV double block_total(double v) {
  SHARED_ARRAY(double, parts, [THREADS / 32]);
#pragma unroll
  for (uint32_t offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(FULL_WARP, v, offset);
  if (lane_id() == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  double sum = 0.;
#pragma unroll
  for (uint32_t i = 0; i < THREADS / 32; i++) sum += parts[i];
  return sum;
}

DEV double with_square(double sum, float x) { return fma(double(x), double(x), sum); }

DEV double with_squares(double sum, uint4 piece, const float*) {
  sum = with_square(sum, __uint_as_float(piece.x));
  sum = with_square(sum, __uint_as_float(piece.y));
  sum = with_square(sum, __uint_as_float(piece.z));
  return with_square(sum, __uint_as_float(piece.w));
}
DEV double with_squares(double sum, uint4 piece, const bf16*) {
  const Eight e = widen(piece);
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) sum = with_square(sum, e.at[k]);
  return sum;
}
DEV float widened(float x) { return x; }
DEV float widened(bf16 x) { return __bfloat162float(x); }

// A thread's share of a chunk that starts at g and has `count` elements.
template <class T> DEV double share_of_chunk(const T* g, uint32_t count) {
  constexpr uint32_t PER_PIECE = 16 / sizeof(T);
  const uint4* pieces = reinterpret_cast<const uint4*>(g);
  const uint32_t whole = count / PER_PIECE, rest = whole * PER_PIECE + threadIdx.x;
  double sum = 0.;
  for (uint32_t base = threadIdx.x; base < whole; base += AHEAD * THREADS) {
    uint4 held[AHEAD];
#pragma unroll
    for (uint32_t i = 0; i < AHEAD; i++)
      held[i] = base + i * THREADS < whole ? pieces[base + i * THREADS] : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (uint32_t i = 0; i < AHEAD; i++) sum = with_squares(sum, held[i], g);
  }
  return rest < count ? with_square(sum, widened(g[rest])) : sum;
}

template <class T> DEV void square_sum(const T* g, uint64_t count, double* chunk_sums, double* sum, unsigned* counter) {
  const uint64_t first = uint64_t(blockIdx.x) * CHUNK;
  const double chunk = block_total(share_of_chunk(g + first, uint32_t(min(count - first, uint64_t(CHUNK)))));
  if (threadIdx.x == 0) chunk_sums[blockIdx.x] = chunk;
  if (!last_block(counter, gridDim.x)) return;
  double share = 0.;
  for (uint32_t i = threadIdx.x; i < gridDim.x; i += THREADS) share += chunk_sums[i];
  const double total = block_total(share);
  if (threadIdx.x != 0) return;
  *sum = total;
  *counter = 0;
}

KERNEL(256, grad_norm_square_sum_f32)(const float* g, uint64_t count, double* chunk_sums, double* sum,
                                      unsigned* counter) {
  square_sum(g, count, chunk_sums, sum, counter);
}
EXPORT_KERNEL(256, grad_norm_square_sum_f32);
KERNEL(256, grad_norm_square_sum_bf16)(const bf16* g, uint64_t count, double* chunk_sums, double* sum,
                                       unsigned* counter) {
  square_sum(g, count, chunk_sums, sum, counter);
}
EXPORT_KERNEL(256, grad_norm_square_sum_bf16);
