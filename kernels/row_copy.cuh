// Rows moved as they are, in pieces of 16 bytes.
#pragma once
#include "kernel.cuh"

// Pieces that a thread loads before it stores the first.
constexpr uint32_t COPIES = 4;

// to[i] = from[i] for the pieces first, first + STRIDE, ... (COPIES of them) below `pieces`.
template <uint32_t STRIDE> DEV void copy_pieces(const uint4* from, uint4* to, uint32_t first, uint32_t pieces) {
  uint4 held[COPIES];
#pragma unroll
  for (uint32_t i = 0; i < COPIES; i++)
    if (first + i * STRIDE < pieces) held[i] = from[first + i * STRIDE];
#pragma unroll
  for (uint32_t i = 0; i < COPIES; i++)
    if (first + i * STRIDE < pieces) to[first + i * STRIDE] = held[i];
}

// Row blockIdx.x of `to` = row ids[blockIdx.x] of `from`, which has `rows`; blockIdx.y counts stretches of COPIES *
// THREADS pieces. An id that names no row traps.
template <uint32_t THREADS>
DEV void copy_named_row(const uint4* from, const uint32_t* ids, uint4* to, uint32_t rows, uint32_t pieces) {
  const uint32_t row = ids[blockIdx.x], first = blockIdx.y * COPIES * THREADS + threadIdx.x;
  if (row >= rows) __trap();
  copy_pieces<THREADS>(from + size_t(row) * pieces, to + size_t(blockIdx.x) * pieces, first, pieces);
}
