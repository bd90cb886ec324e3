// Equation: in every layer, block `to` of the pool = block `from`, for each pair.
// Shapes: pool [L, Blocks, 2, KVH, 64, D] of any dtype, a block of one layer as pieces of 16 bytes; up to 64 pairs a
//   launch.
// Traffic: each block of a pair once in, once out.
// Launch: 256 threads, 1024 pieces a block: grid.x = pieces of a block / 1024 rounded up, grid.y = pairs, grid.z = L.
//   No dynamic shared memory.
// Writes: pool =. Copies only: no sums. No block is both written and read, none is written twice.
// Source: Kwon et al., arXiv 2309.06180, section 4.4 (copy on write).
#include "row_copy.cuh"

// Pairs of one launch; the host launches again for more.
constexpr uint32_t PAIRS = 64;

struct BlockPairs {
  uint32_t from[PAIRS], to[PAIRS];
};
static_assert(sizeof(BlockPairs) == 512, "as in Rust");

KERNEL(256, kv_copy_forward)(uint4* pool, uint32_t blocks, uint32_t pieces, const __grid_constant__ BlockPairs pairs) {
  const size_t layer = size_t(blockIdx.z) * blocks;
  const uint4* from = pool + (layer + pairs.from[blockIdx.y]) * pieces;
  uint4* to = pool + (layer + pairs.to[blockIdx.y]) * pieces;
  copy_pieces<256>(from, to, blockIdx.x * COPIES * 256 + threadIdx.x, pieces);
}
EXPORT_KERNEL(256, kv_copy_forward);
