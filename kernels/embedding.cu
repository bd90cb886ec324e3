// Equation: out[n] = table[tokens[n]]. Backward: dtable[tokens[n]] += dout[n].
// Shapes: table [vocabulary, columns] bf16, out, dout [N, columns] bf16, tokens [N] u32, dtable [vocabulary, columns]
//   f32; columns a multiple of 8. Scratch of the backward: order [N] pairs of u32.
// Traffic: forward 4 bytes an element of out. Backward 2 an element of dout and 8 an element of each row of dtable that
//   a token names; the order reads N^2 / 8 ids, from the caches.
// Launch: forward: 128 threads; grid.x = N, grid.y = columns / 4096 rounded up. Order: 128 threads, 32 tokens a block.
//   Backward: 128 threads; grid.x = N, grid.y = columns / 1024 rounded up. No dynamic shared memory.
// Writes: out =, order =, dtable +=: a row receives its tokens' rows one by one in ascending n onto its old value, as
//   on the host. A token that is not in the table traps.
// Source: a table look-up and its transpose; the rank of a token is a count, so the order needs no atomics.
#include "eight.cuh"
#include "rank.cuh"
#include "row_copy.cuh"

KERNEL(128, embedding_forward_bf16)(const uint4* __restrict__ table, const uint32_t* __restrict__ tokens,
                                    uint4* __restrict__ out, uint32_t vocabulary, uint32_t pieces) {
  copy_named_row<128>(table, tokens, out, vocabulary, pieces);
}
EXPORT_KERNEL(128, embedding_forward_bf16);

// order = (token, n), sorted by token, then n.
KERNEL(128, embedding_order_u32)(const uint32_t* __restrict__ tokens, uint2* __restrict__ order, uint32_t count,
                                 uint32_t vocabulary) {
  const uint32_t first = (blockIdx.x * 4 + threadIdx.x / 32) * QUERIES;
  Queries queries = queries_of(tokens, first, count);
  const Counts before = count_before(tokens, count, first, queries);
  store_order(order, before, queries, first, count, vocabulary);
}
EXPORT_KERNEL(128, embedding_order_u32);

// The rows of dout, eight columns of them, that one token gave: from position `at` of the order on, ascending, onto `sum`.
DEV Eight add_run(Eight sum, const uint4* dout, const uint2* order, uint32_t at, uint32_t count, uint32_t pieces,
                  uint32_t piece) {
  constexpr uint32_t AHEAD = 8;
  const uint32_t token = order[at].x;
  for (bool more = true; more; at += AHEAD) {
    uint4 rows[AHEAD];
    bool mine[AHEAD];
#pragma unroll
    for (uint32_t i = 0; i < AHEAD; i++) {
      const uint2 entry = at + i < count ? order[at + i] : make_uint2(~token, 0);
      mine[i] = entry.x == token;
      rows[i] = make_uint4(0, 0, 0, 0);
      if (mine[i]) rows[i] = dout[size_t(entry.y) * pieces + piece];
    }
#pragma unroll
    for (uint32_t i = 0; i < AHEAD; i++) {
      const Eight row = widen(rows[i]);
#pragma unroll
      for (uint32_t k = 0; k < EIGHT; k++)
        if (mine[i]) sum.at[k] += row.at[k];
    }
    more = mine[AHEAD - 1];
  }
  return sum;
}

KERNEL(128, embedding_backward_bf16)(const uint4* __restrict__ dout, const uint2* __restrict__ order,
                                     float* __restrict__ dtable, uint32_t count, uint32_t pieces) {
  const uint32_t at = blockIdx.x, piece = blockIdx.y * 128 + threadIdx.x;
  const uint32_t token = order[at].x;
  const bool first_of_run = at == 0 || order[at - 1].x != token;
  if (!first_of_run || piece >= pieces) return;
  float* row = dtable + (size_t(token) * pieces + piece) * EIGHT;
  store_eight(row, add_run(load_eight(row), dout, order, at, count, pieces, piece));
}
EXPORT_KERNEL(128, embedding_backward_bf16);
