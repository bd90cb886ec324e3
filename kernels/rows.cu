// Equation: gather y[i] = x[rows[i]]; its backward, scatter: dx[j] = sum of dy[i] with rows[i] = j.
// Shapes: x [N, C], y [M, C], rows [M] u32, dy [M, C], dx [N, C]; gather of any dtype, as pieces of 16 bytes; scatter
//   bf16, C a multiple of 8. Scratch of scatter: order [M] pairs of u32, starts [N + 1] u32.
// Traffic: every piece once in, once out; scatter 2 bytes an element of dy and of dx, and M (M + N) / 8 ids from the
//   caches.
// Launch: gather: 128 threads, grid.x = M, grid.y = pieces of a row / 512 rounded up. Order: 128 threads; 32 picks,
//   then 32 starts a block: grid = M / 32 + (N + 1) / 32, each rounded up. Scatter: 128 threads, grid.x = N, grid.y =
//   pieces of a row / 128 rounded up. No dynamic shared memory.
// Writes: all =. Scatter sums in ascending i from zero in f32 and rounds once; a row that nothing names becomes 0. A
//   row that x does not have traps.
// Source: a gather and its transpose.
#include "eight.cuh"
#include "rank.cuh"
#include "row_copy.cuh"

KERNEL(128, rows_gather)(const uint4* __restrict__ x, const uint32_t* __restrict__ rows, uint4* __restrict__ y,
                         uint32_t count, uint32_t pieces) {
  copy_named_row<128>(x, rows, y, count, pieces);
}
EXPORT_KERNEL(128, rows_gather);

// order = (row, i), sorted by row, then i: blocks of picks.
DEV void order_picks(const uint32_t* rows, uint2* order, uint32_t warp, uint32_t picks, uint32_t count) {
  const Queries queries = queries_of(rows, warp * QUERIES, picks);
  const Counts before = count_before(rows, picks, warp * QUERIES, queries);
  store_order(order, before, queries, warp * QUERIES, picks, count);
}

// starts[j] = the first place in the order of a row that is not below j: blocks of starts.
DEV void find_starts(const uint32_t* rows, uint32_t* starts, uint32_t warp, uint32_t picks, uint32_t count) {
  Queries limit;
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++) limit.key[i] = warp * QUERIES + i;
  Counts below{};
  count_below(below, rows, 0, picks, limit);
  const Counts all = all_lanes(below);
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++)
    if (uint32_t(lane_id()) == i && limit.key[i] <= count) starts[limit.key[i]] = all.of[i];
}

KERNEL(128, rows_order_u32)(const uint32_t* __restrict__ rows, uint2* __restrict__ order, uint32_t* __restrict__ starts,
                            uint32_t picks, uint32_t count) {
  const uint32_t blocks_of_picks = (picks + 31) / 32, warp = threadIdx.x / 32;
  if (blockIdx.x < blocks_of_picks)
    order_picks(rows, order, blockIdx.x * 4 + warp, picks, count);
  else
    find_starts(rows, starts, (blockIdx.x - blocks_of_picks) * 4 + warp, picks, count);
}
EXPORT_KERNEL(128, rows_order_u32);

// The sum of eight columns of the rows that order[at..last] names, ascending from zero.
DEV Eight sum_of_rows(const uint4* dy, const uint2* order, uint32_t at, uint32_t last, uint32_t pieces,
                      uint32_t piece) {
  constexpr uint32_t AHEAD = 4;
  Eight sum = zero_eight();
  for (; at < last; at += AHEAD) {
    uint4 rows[AHEAD];
#pragma unroll
    for (uint32_t i = 0; i < AHEAD; i++)
      rows[i] = at + i < last ? dy[size_t(order[at + i].y) * pieces + piece] : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (uint32_t i = 0; i < AHEAD; i++) {
      const Eight term = widen(rows[i]);
#pragma unroll
      for (uint32_t k = 0; k < EIGHT; k++) sum.at[k] += term.at[k];
    }
  }
  return sum;
}

KERNEL(128, rows_scatter_bf16)(const uint4* __restrict__ dy, const uint2* __restrict__ order,
                               const uint32_t* __restrict__ starts, uint4* __restrict__ dx, uint32_t pieces) {
  const uint32_t row = blockIdx.x, piece = blockIdx.y * 128 + threadIdx.x;
  if (piece >= pieces) return;
  dx[size_t(row) * pieces + piece] = narrow(sum_of_rows(dy, order, starts[row], starts[row + 1], pieces, piece));
}
EXPORT_KERNEL(128, rows_scatter_bf16);
