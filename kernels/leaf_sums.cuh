// Sums over rows whose bits depend on the leaves alone, not on how many leaves a launch has.
//
// A leaf is a run of rows; it is cut into chunks of `chunk_rows` rows, counted from its own start. A first kernel sums
// each chunk from zero; add_leaf_sums adds a leaf's chunks in ascending order from zero and the leaves in ascending
// order onto the old total. What the host sums in one ascending chain per leaf is summed here in chunks: as fixed, and
// as many chains as a GPU needs.
#pragma once
#include <cstddef>

#include "kernel.cuh"

// Leaves of one launch; the host launches again for more.
constexpr uint32_t LEAVES = 127;

// The same struct in Rust: `ops::leaf_sums::LeafTable`.
struct LeafTable {
  uint32_t leaves, chunk_rows;
  uint32_t row[LEAVES + 1];    // leaf i has rows row[i] to row[i + 1]
  uint32_t chunk[LEAVES + 1];  // and chunks chunk[i] to chunk[i + 1]
};
static_assert(sizeof(LeafTable) == 1032 && offsetof(LeafTable, row) == 8 && offsetof(LeafTable, chunk) == 520,
              "as in Rust");

struct RowRange {
  uint32_t first, last;
};

// The rows of a chunk.
DEV RowRange chunk_rows_of(const LeafTable& table, uint32_t chunk) {
  uint32_t low = 0, high = table.leaves;  // chunk[low] <= chunk < chunk[high]
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (table.chunk[middle] <= chunk)
      low = middle;
    else
      high = middle;
  }
  const uint32_t first = table.row[low] + (chunk - table.chunk[low]) * table.chunk_rows;
  return RowRange{first, min(first + table.chunk_rows, table.row[low + 1])};
}

// total[c] += the chunks' sums of column c. A block has 32 columns and `WARPS` warps, a leaf each.
template <uint32_t WARPS>
DEV void add_leaf_sums(const float* __restrict__ chunk_sums, float* __restrict__ total, uint32_t columns,
                       const LeafTable& table) {
  SHARED_ARRAY(float, sums, [WARPS][32]);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
  const bool present = column < columns;
  float sum_of_all = warp == 0 && present ? total[column] : 0.f;
  for (uint32_t base = 0; base < table.leaves; base += WARPS) {
    const uint32_t leaf = base + warp;
    float sum = 0.f;
    if (leaf < table.leaves && present) {
      const uint32_t last = table.chunk[leaf + 1];
#pragma unroll 8
      for (uint32_t chunk = table.chunk[leaf]; chunk < last; chunk++)
        sum += chunk_sums[size_t(chunk) * columns + column];
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0)
      for (uint32_t i = 0; i < min(WARPS, table.leaves - base); i++) sum_of_all += sums[i][lane];
    __syncthreads();
  }
  if (warp == 0 && present) total[column] = sum_of_all;
}
