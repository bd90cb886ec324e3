// Equation: y = x r gain, r = 1 / sqrt(mean(x^2) + eps) over a row. Backward: dx = r (dy gain - x r^2 mean(dy gain x));
//   dgain = sum over rows of dy x r.
// Shapes: x, y, dy, dx [rows, columns] bf16; gain, dgain [columns] f32; rstd = r [rows] f32; columns a multiple of 8.
// Traffic: forward 4 bytes an element (x once, kept in registers between the two phases); backward 6, with an old dx 8:
//   dgain's sums ride along with dx. Chunk sums of dgain add 8 bytes a column for each chunk of rows.
// Launch: the kernel's variant is the longest row that it takes. `_64`, `_128`, `_256`: 128 threads, of which 8, 16, 32
//   share a row: 16, 8, 4 rows side by side, four times in a forward block. `_1024`, `_2048`, `_4096`, `_8192`: a block
//   of 128, 256, 256, 512 threads a row. Backward: grid = chunks of the leaf table, whose chunk_rows is 16 times the
//   rows side by side, or 32 where a block shares a row. Gain sums: grid = columns / 32 rounded up, 1024 threads. No
//   dynamic shared memory.
// Writes: y =, rstd =, dx = or +=, dgain +=. A row's sum: piece (8 elements) p of lane l is piece l + p lanes of the
//   row; a chain of fused multiply-adds over a lane's pieces ascending, then lanes by butterfly (16, 8, 4, 2, 1), then
//   warps ascending. dgain: as leaf_sums.cuh says; in a chunk each group of lanes takes its consecutive rows ascending
//   from zero, groups ascending.
// Source: Zhang and Sennrich, arXiv 1910.07467, equation 4.
#include <cstddef>

#include "eight.cuh"
#include "leaf_sums.cuh"
#include "warp.cuh"

struct NormForward {
  const bf16* x;
  const float* gain;
  bf16* y;
  float* rstd;
  uint32_t rows, columns;
  float eps;
};
static_assert(sizeof(NormForward) == 48 && offsetof(NormForward, rows) == 32 && offsetof(NormForward, eps) == 40,
              "as in Rust");

struct NormBackward {
  const bf16* dy;
  const bf16* x;
  const float* gain;
  const float* rstd;
  bf16* dx;
  float* chunk_sums;  // [chunks, columns]; null where the gain does not learn
  uint32_t columns, add;
};
static_assert(sizeof(NormBackward) == 56 && offsetof(NormBackward, columns) == 48, "as in Rust");

// How rows are dealt to a block's threads: LANES share a row, PIECES of eight columns each, so that SIDE rows stand side by
// side. In a backward chunk each group of lanes takes RUN consecutive rows.
template <uint32_t THREADS_, uint32_t LANES_, uint32_t PIECES_, uint32_t RUN_> struct Shape {
  static constexpr uint32_t THREADS = THREADS_, LANES = LANES_, PIECES = PIECES_, RUN = RUN_, SIDE = THREADS / LANES;
};

template <class S> DEV uint32_t lane_of_row() { return threadIdx.x % S::LANES; }
template <class S> DEV uint32_t group() { return threadIdx.x / S::LANES; }
template <class S> DEV uint32_t piece_at(uint32_t p) { return lane_of_row<S>() + p * S::LANES; }

// The sum over the lanes of a row, in each of them. All threads of the block take part.
template <class S> DEV float row_sum(float v) {
  if constexpr (S::SIDE == 1) {
    return block_sum<S::THREADS>(v);
  } else {
#pragma unroll
    for (uint32_t offset = S::LANES / 2; offset > 0; offset /= 2) v += shuffle_xor(v, offset);
    return v;
  }
}

template <class S> DEV void load_row(uint4 (&to)[S::PIECES], const bf16* row, bool present, uint32_t columns) {
#pragma unroll
  for (uint32_t p = 0; p < S::PIECES; p++) {
    to[p] = make_uint4(0, 0, 0, 0);
    if (present && piece_at<S>(p) < columns / EIGHT) to[p] = reinterpret_cast<const uint4*>(row)[piece_at<S>(p)];
  }
}

template <class S> DEV void load_gain(Eight (&to)[S::PIECES], const float* gain, uint32_t columns) {
#pragma unroll
  for (uint32_t p = 0; p < S::PIECES; p++) {
    to[p] = zero_eight();
    if (piece_at<S>(p) < columns / EIGHT) to[p] = load_eight(gain + piece_at<S>(p) * EIGHT);
  }
}

// 1 / sqrt(mean(x^2) + eps) of a row in registers.
template <class S> DEV float reciprocal_root(const uint4 (&x)[S::PIECES], uint32_t columns, float eps) {
  float squares = 0.f;
#pragma unroll
  for (uint32_t p = 0; p < S::PIECES; p++) {
    const Eight e = widen(x[p]);
#pragma unroll
    for (uint32_t i = 0; i < EIGHT; i++) squares = fmaf(e.at[i], e.at[i], squares);
  }
  return 1.f / sqrtf(row_sum<S>(squares) / float(columns) + eps);
}

template <class S>
DEV void store_normalised(bf16* row, const uint4 (&x)[S::PIECES], const Eight (&gain)[S::PIECES], float r,
                          uint32_t columns) {
#pragma unroll
  for (uint32_t p = 0; p < S::PIECES; p++) {
    Eight e = widen(x[p]);
#pragma unroll
    for (uint32_t i = 0; i < EIGHT; i++) e.at[i] = e.at[i] * r * gain[p].at[i];
    if (piece_at<S>(p) < columns / EIGHT) reinterpret_cast<uint4*>(row)[piece_at<S>(p)] = narrow(e);
  }
}

template <class S, uint32_t ROWS> DEV void forward(const NormForward& a) {
  const uint32_t first = (blockIdx.x * S::SIDE + group<S>()) * ROWS;
  uint4 x[ROWS][S::PIECES];
  Eight gain[S::PIECES];
#pragma unroll
  for (uint32_t i = 0; i < ROWS; i++)
    load_row<S>(x[i], a.x + size_t(first + i) * a.columns, first + i < a.rows, a.columns);
  load_gain<S>(gain, a.gain, a.columns);
#pragma unroll
  for (uint32_t i = 0; i < ROWS; i++) {
    const float r = reciprocal_root<S>(x[i], a.columns, a.eps);
    if (first + i >= a.rows) continue;
    store_normalised<S>(a.y + size_t(first + i) * a.columns, x[i], gain, r, a.columns);
    if (lane_of_row<S>() == 0) a.rstd[first + i] = r;
  }
}

// What the backward pass reads of one row.
template <class S> struct Row {
  uint4 dy[S::PIECES], x[S::PIECES], old[S::PIECES];
  float r;
};

template <class S> DEV Row<S> load_backward_row(const NormBackward& a, uint32_t row, bool present) {
  Row<S> to;
  const size_t start = size_t(row) * a.columns;
  load_row<S>(to.dy, a.dy + start, present, a.columns);
  load_row<S>(to.x, a.x + start, present, a.columns);
  load_row<S>(to.old, a.dx + start, present && a.add, a.columns);
  to.r = present ? a.rstd[row] : 0.f;
  return to;
}

// r^2 mean(dy gain x) of a row in registers.
template <class S> DEV float along_x(const Row<S>& row, const Eight (&gain)[S::PIECES], uint32_t columns) {
  float along = 0.f;
#pragma unroll
  for (uint32_t p = 0; p < S::PIECES; p++) {
    const Eight dy = widen(row.dy[p]), x = widen(row.x[p]);
#pragma unroll
    for (uint32_t i = 0; i < EIGHT; i++) along = fmaf(x.at[i], dy.at[i] * gain[p].at[i], along);
  }
  return row_sum<S>(along) / float(columns) * row.r * row.r;
}

// dx of a row in registers, and its terms of dgain.
template <class S>
DEV void finish_row(bf16* dx, const Row<S>& row, bool present, const Eight (&gain)[S::PIECES],
                    Eight (&dgain)[S::PIECES], uint32_t columns) {
  const float along = along_x<S>(row, gain, columns);
#pragma unroll
  for (uint32_t p = 0; p < S::PIECES; p++) {
    const Eight dy = widen(row.dy[p]), x = widen(row.x[p]);
    Eight out = widen(row.old[p]);
#pragma unroll
    for (uint32_t i = 0; i < EIGHT; i++) {
      out.at[i] += row.r * (dy.at[i] * gain[p].at[i] - x.at[i] * along);
      dgain[p].at[i] = fmaf(dy.at[i], x.at[i] * row.r, dgain[p].at[i]);
    }
    if (present && piece_at<S>(p) < columns / EIGHT) reinterpret_cast<uint4*>(dx)[piece_at<S>(p)] = narrow(out);
  }
}

// One chunk's row of chunk sums: the groups' sums ascending.
template <class S> DEV void store_chunk_sums(const NormBackward& a, const Eight (&dgain)[S::PIECES]) {
  float* sums = a.chunk_sums + size_t(blockIdx.x) * a.columns;
  if constexpr (S::SIDE == 1) {
#pragma unroll
    for (uint32_t p = 0; p < S::PIECES; p++)
      if (piece_at<S>(p) < a.columns / EIGHT) store_eight(sums + piece_at<S>(p) * EIGHT, dgain[p]);
  } else {
    SHARED_ARRAY(float, parts, [S::SIDE][S::LANES * S::PIECES * EIGHT]);
#pragma unroll
    for (uint32_t p = 0; p < S::PIECES; p++) store_eight(&parts[group<S>()][piece_at<S>(p) * EIGHT], dgain[p]);
    __syncthreads();
    for (uint32_t column = threadIdx.x; column < a.columns; column += S::THREADS) {
      float sum = 0.f;
#pragma unroll
      for (uint32_t g = 0; g < S::SIDE; g++) sum += parts[g][column];
      sums[column] = sum;
    }
  }
}

template <class S> DEV void backward(const NormBackward& a, const LeafTable& leaves) {
  const RowRange chunk = chunk_rows_of(leaves, blockIdx.x);
  const uint32_t first = chunk.first + group<S>() * S::RUN, run = min(S::RUN, chunk.last - chunk.first);
  Eight gain[S::PIECES], dgain[S::PIECES];
  load_gain<S>(gain, a.gain, a.columns);
#pragma unroll
  for (uint32_t p = 0; p < S::PIECES; p++) dgain[p] = zero_eight();
  Row<S> row = load_backward_row<S>(a, first, first < chunk.last);
  for (uint32_t i = 0; i < run; i++) {
    const bool more = i + 1 < run && first + i + 1 < chunk.last;
    const Row<S> next = load_backward_row<S>(a, first + i + 1, more);
    finish_row<S>(a.dx + size_t(first + i) * a.columns, row, first + i < chunk.last, gain, dgain, a.columns);
    row = next;
  }
  if (a.chunk_sums) store_chunk_sums<S>(a, dgain);
}

using Up64 = Shape<128, 8, 1, 16>;
using Up128 = Shape<128, 16, 1, 16>;
using Up256 = Shape<128, 32, 1, 16>;
using Up1024 = Shape<128, 128, 1, 32>;
using Up2048 = Shape<256, 256, 1, 32>;
using Up4096 = Shape<256, 256, 2, 32>;
using Up8192 = Shape<512, 512, 2, 32>;

KERNEL(128, rms_norm_forward_bf16_64)(const NormForward a) { forward<Up64, 4>(a); }
EXPORT_KERNEL(128, rms_norm_forward_bf16_64);
KERNEL(128, rms_norm_forward_bf16_128)(const NormForward a) { forward<Up128, 4>(a); }
EXPORT_KERNEL(128, rms_norm_forward_bf16_128);
KERNEL(128, rms_norm_forward_bf16_256)(const NormForward a) { forward<Up256, 4>(a); }
EXPORT_KERNEL(128, rms_norm_forward_bf16_256);
KERNEL(128, rms_norm_forward_bf16_1024)(const NormForward a) { forward<Up1024, 1>(a); }
EXPORT_KERNEL(128, rms_norm_forward_bf16_1024);
KERNEL(256, rms_norm_forward_bf16_2048)(const NormForward a) { forward<Up2048, 1>(a); }
EXPORT_KERNEL(256, rms_norm_forward_bf16_2048);
KERNEL(256, rms_norm_forward_bf16_4096)(const NormForward a) { forward<Up4096, 1>(a); }
EXPORT_KERNEL(256, rms_norm_forward_bf16_4096);
KERNEL(512, rms_norm_forward_bf16_8192)(const NormForward a) { forward<Up8192, 1>(a); }
EXPORT_KERNEL(512, rms_norm_forward_bf16_8192);

KERNEL(128, rms_norm_backward_bf16_64)(const NormBackward a, const __grid_constant__ LeafTable leaves) {
  backward<Up64>(a, leaves);
}
EXPORT_KERNEL(128, rms_norm_backward_bf16_64);
KERNEL(128, rms_norm_backward_bf16_128)(const NormBackward a, const __grid_constant__ LeafTable leaves) {
  backward<Up128>(a, leaves);
}
EXPORT_KERNEL(128, rms_norm_backward_bf16_128);
KERNEL(128, rms_norm_backward_bf16_256)(const NormBackward a, const __grid_constant__ LeafTable leaves) {
  backward<Up256>(a, leaves);
}
EXPORT_KERNEL(128, rms_norm_backward_bf16_256);
KERNEL(128, rms_norm_backward_bf16_1024)(const NormBackward a, const __grid_constant__ LeafTable leaves) {
  backward<Up1024>(a, leaves);
}
EXPORT_KERNEL(128, rms_norm_backward_bf16_1024);
KERNEL(256, rms_norm_backward_bf16_2048)(const NormBackward a, const __grid_constant__ LeafTable leaves) {
  backward<Up2048>(a, leaves);
}
EXPORT_KERNEL(256, rms_norm_backward_bf16_2048);
KERNEL(256, rms_norm_backward_bf16_4096)(const NormBackward a, const __grid_constant__ LeafTable leaves) {
  backward<Up4096>(a, leaves);
}
EXPORT_KERNEL(256, rms_norm_backward_bf16_4096);
KERNEL(512, rms_norm_backward_bf16_8192)(const NormBackward a, const __grid_constant__ LeafTable leaves) {
  backward<Up8192>(a, leaves);
}
EXPORT_KERNEL(512, rms_norm_backward_bf16_8192);

// dgain += the chunks' sums.
KERNEL(1024, rms_norm_gain_sums_f32)(const float* chunk_sums, float* dgain, uint32_t columns,
                                     const __grid_constant__ LeafTable leaves) {
  add_leaf_sums<32>(chunk_sums, dgain, columns, leaves);
}
EXPORT_KERNEL(1024, rms_norm_gain_sums_f32);
