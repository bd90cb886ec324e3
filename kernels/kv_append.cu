// Equation: pool[layer, slot / 64, K or V, :, slot % 64, :] = k[n] or v[n], slot = slots[n].
// Shapes: k, v [N, KVH, D], slots [N] u32, one layer of the pool [Blocks, 2, KVH, 64, D]; D as pieces of 16 bytes, any
//   dtype.
// Traffic: k and v once in, once out.
// Launch: 128 threads, a piece of k and one of v a thread: grid = N KVH (pieces of D) / 128 rounded up. No dynamic
//   shared memory.
// Writes: pool =. Copies only: no sums. Slots differ from one another; one that the pool does not have traps.
// Source: Kwon et al., arXiv 2309.06180 (a paged cache).
#include <cstddef>

#include "kernel.cuh"

// Tokens in one block of the cache.
constexpr uint32_t BLOCK_TOKENS = 64;

struct KvAppend {
  const uint4* k;
  const uint4* v;
  uint4* pool;  // of this layer
  const uint32_t* slots;
  uint32_t tokens, heads, pieces, blocks;
};
static_assert(sizeof(KvAppend) == 48 && offsetof(KvAppend, tokens) == 32 && offsetof(KvAppend, blocks) == 44,
              "as in Rust");

KERNEL(128, kv_append_forward)(const KvAppend a) {
  const uint64_t at = uint64_t(blockIdx.x) * 128 + threadIdx.x;
  const uint32_t row = a.heads * a.pieces, token = uint32_t(at / row), head = uint32_t(at % row) / a.pieces,
                 piece = uint32_t(at % a.pieces);
  if (token >= a.tokens) return;
  const uint4 k = a.k[at], v = a.v[at];
  const uint32_t slot = a.slots[token], block = slot / BLOCK_TOKENS;
  if (block >= a.blocks) __trap();
  const size_t keys = size_t(2 * block) * a.heads + head, values = keys + a.heads;
  const uint32_t inside = slot % BLOCK_TOKENS * a.pieces + piece;
  a.pool[keys * BLOCK_TOKENS * a.pieces + inside] = k;
  a.pool[values * BLOCK_TOKENS * a.pieces + inside] = v;
}
EXPORT_KERNEL(128, kv_append_forward);
