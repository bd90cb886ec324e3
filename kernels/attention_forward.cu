// Equation: causal attention, out = softmax(q kᵀ / √D, keys 0..=position) v, lse = log of the softmax's sum.
//
// Shapes: q, out [N, H, D], lse [N, H] f32; packed k, v [N, KVH, D], or a layer of the cache, k [Blocks, 2, KVH, 64, D]
// and v = k + KVH 64 D; bf16. D 16, 32, 64 or 128; query head h reads key head h / (H / KVH); H / KVH at most a tile's rows.
// Traffic: 2 (2 N H D + 2 D KVH per key of a tile) bytes; 4 D flops for each (query head, key seen).
// Launch: grid (items, KVH), one attention::ForwardArgs. An item is a tile of one span's queries and the chunks of keys that
// the block takes: all of them (parts 1), or some; the last of a tile's parts then merges all.
// src/ops/attention/layout.rs lays items out. Rows of a tile: queries * H / KVH, at most the variant's.
//   variant   rows  threads                  shared bytes
//   packed    64    128                      640 D
//   paged     64    128                      640 D
//   few       16    32 min(4, D / 16)        544 D    paged; warps share the rows and divide the columns of v
// Writes: out, lse (=). Sums: keys in chunks of 256 from the sequence's start. In a chunk tiles of 64 keys ascend: scores
// ascend over d in mma steps of 16; m is the largest score so far, and l and o are multiplied by e^(old m - m) when it
// grows; l adds each lane's weights ascending, then the four lanes of a row; o ascends in mma steps of 16 keys, weights
// rounded to bf16. Chunks are merged ascending into (M, L, O). Keys a row does not see change no bit, nor does anything
// but the row's own query and keys: not the tile, the parts, nor where the keys lie.
// Source: FlashAttention-2, https://arxiv.org/abs/2307.08691, algorithm 1.
#include "attention_forward.cuh"

namespace attention {

// Writes rows of a tile, `row` the warp's first, and columns of out from `column` on.
template <int D, int COLUMNS>
DEV void write_out(const ForwardArgs& args, const TileRows& rows, int row, int column, const Sums<COLUMNS>& sums) {
  const int lane = lane_id();
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = row + lane / 4 + half * 8;
    if (r >= rows.count) continue;
    const int64_t index = rows.index(r);
    store_row<COLUMNS>(args.out + index * D + column, sums.o, half, 1.f / sums.l[half]);
    if (lane % 4 == 0 && column == 0) args.lse[index] = fmaf(sums.m[half], args.scale, logf(sums.l[half]));
  }
}

template <int D, int ROW_WARPS, int COLUMN_WARPS, Source S> struct Forward {
  static constexpr int ROWS = 16 * ROW_WARPS, THREADS = 32 * ROW_WARPS * COLUMN_WARPS, COLUMNS = D / COLUMN_WARPS;
  static constexpr int STAGES = 2;
  using Rows = SwizzledTile<ROWS, D>;
  using Keys = SwizzledTile<KEYS, D>;
  static_assert(COLUMNS % 16 == 0);

  using Sums = attention::Sums<COLUMNS>;

  const ForwardArgs& args;
  const Item item;
  const TileRows rows;
  bf16 *q, *stages;
  int warp_row, warp_column; // of the warp, in the tile
  float log2_scale;

  DEV int keys() const { return item.start + item.queries; }

  DEV void load(int stage, KeyRows<D, S>& from, int tile) const {
    bf16* to = stages + stage * 2 * Keys::ELEMENTS;
    load_keys<D, THREADS>(to, to + Keys::ELEMENTS, args.k, args.v, from, tile * KEYS, keys());
  }

  // Scores of keys that a row does not see become -inf; the first of them stands at position `first`.
  DEV void hide(float (&s)[KEYS / 8][4], int first) const {
    if (first + KEYS <= (int)item.start + 1) return; // even the first query sees all
    const int lane = lane_id();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int last = item.start + rows.query(warp_row + lane / 4 + half * 8) - first - lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++)
          if (j * 8 + e > last) s[j][half * 2 + e] = -INFINITY;
    }
  }

  // Scores become weights relative to the largest so far; what was summed before is brought to it.
  DEV void weigh(float (&s)[KEYS / 8][4], Sums& sums) const {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float m = sums.m[half];
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) m = fmaxf(m, fmaxf(s[j][half * 2], s[j][half * 2 + 1]));
      m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
      m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
      const float from = m == -INFINITY ? 0.f : m, offset = -__fmul_rn(from, log2_scale);
      const float old = exp2f(__fmul_rn(sums.m[half] - from, log2_scale));
      float l = 0.f;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int e = half * 2; e < half * 2 + 2; e++) {
          s[j][e] = exp2f(fmaf(s[j][e], log2_scale, offset));
          l += s[j][e];
        }
      sums.m[half] = m;
      sums.l[half] = fmaf(sums.l[half], old, l);
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; j++) {
        sums.o[j][half * 2] = __fmul_rn(sums.o[j][half * 2], old);
        sums.o[j][half * 2 + 1] = __fmul_rn(sums.o[j][half * 2 + 1], old);
      }
    }
  }

  // Calls chunk_ends(part, chunk) at the end of each of the item's chunks.
  template <class F> DEV void sum(F chunk_ends) const {
    constexpr int TILES = CHUNK / KEYS;
    const int first = item.first * TILES, last = min((int)item.last * TILES, (keys() + KEYS - 1) / KEYS);
    KeyRows<D, S> from(args.map + item.map, args.kv_heads, blockIdx.y);
    load_rows<D, ROWS, THREADS>(q, args.q, rows);
    load(0, from, first);
    cp_async_commit();
    Sums part;
    part.clear();
    for (int tile = first; tile < last; tile++) {
      const int stage = (tile - first) % STAGES;
      cp_async_wait<0>();
      __syncthreads(); // this stage has arrived for all, and nobody reads the other any more
      if (tile + 1 < last) load(stage ^ 1, from, tile + 1);
      cp_async_commit();
      const bf16* k = stages + stage * 2 * Keys::ELEMENTS;
      float s[KEYS / 8][4];
      scores<Rows, Keys>(s, q, warp_row, k);
      hide(s, tile * KEYS);
      weigh(s, part);
      gather<Keys, COLUMNS>(part.o, s, k + Keys::ELEMENTS, warp_column);
      if (tile % TILES == TILES - 1 || tile + 1 == last) {
        part.close();
        chunk_ends(part, tile / TILES);
        part.clear();
      }
    }
    cp_async_wait<0>();
  }

  // Where this thread's numbers of a chunk begin in `partial`.
  DEV float* partial(int chunk) const {
    return args.partial + ((int64_t)(item.slot + chunk) * args.kv_heads + blockIdx.y) * Sums::NUMBERS * THREADS + threadIdx.x;
  }

  static DEV void run(const ForwardArgs& args) {
    DYN_SHARED(bf16, shared);
    const Item item = args.items[blockIdx.x];
    const int group = args.heads / args.kv_heads, warp = threadIdx.x / 32;
    const TileRows rows{(int)item.row, (int)item.queries * group, args.heads, (int)blockIdx.y * group, group};
    const int warp_row = warp / COLUMN_WARPS * 16, warp_column = warp % COLUMN_WARPS * COLUMNS;
    bf16* stages = shared + Rows::ELEMENTS;
    const Forward body{args, item, rows, shared, stages, warp_row, warp_column, args.scale * LOG2E};
    Sums all;
    all.clear();
    if (item.parts == 1) {
      body.sum([&](const Sums& part, int) { all.merge(part, body.log2_scale); });
    } else {
      body.sum([&](Sums& part, int chunk) { part.leave(body.partial(chunk), THREADS); });
      unsigned* ticket = args.tickets + (int64_t)item.slot * args.kv_heads + blockIdx.y;
      if (!last_block(ticket, item.parts)) return;
      if (threadIdx.x == 0) *ticket = 0;
      const int chunks = (body.keys() + CHUNK - 1) / CHUNK;
      all.collect(body.partial(0), THREADS, chunks, body.partial(1) - body.partial(0), body.log2_scale);
    }
    write_out<D>(args, rows, warp_row, warp_column, all);
  }
};

} // namespace attention

#define ATTENTION_FORWARD(name, D, ROW_WARPS, COLUMN_WARPS, SOURCE)                                                    \
  KERNEL(32 * ROW_WARPS * COLUMN_WARPS, name)(const attention::ForwardArgs args) {                                     \
    attention::Forward<D, ROW_WARPS, COLUMN_WARPS, attention::Source::SOURCE>::run(args);                              \
  }                                                                                                                    \
  EXPORT_KERNEL(32 * ROW_WARPS * COLUMN_WARPS, name)

ATTENTION_FORWARD(attention_forward_bf16_packed_d16, 16, 4, 1, Packed);
ATTENTION_FORWARD(attention_forward_bf16_packed_d32, 32, 4, 1, Packed);
ATTENTION_FORWARD(attention_forward_bf16_packed_d64, 64, 4, 1, Packed);
ATTENTION_FORWARD(attention_forward_bf16_packed_d128, 128, 4, 1, Packed);
ATTENTION_FORWARD(attention_forward_bf16_paged_d16, 16, 4, 1, Paged);
ATTENTION_FORWARD(attention_forward_bf16_paged_d32, 32, 4, 1, Paged);
ATTENTION_FORWARD(attention_forward_bf16_paged_d64, 64, 4, 1, Paged);
ATTENTION_FORWARD(attention_forward_bf16_paged_d128, 128, 4, 1, Paged);
ATTENTION_FORWARD(attention_forward_bf16_few_d16, 16, 1, 1, Paged);
ATTENTION_FORWARD(attention_forward_bf16_few_d32, 32, 1, 2, Paged);
ATTENTION_FORWARD(attention_forward_bf16_few_d64, 64, 1, 4, Paged);
ATTENTION_FORWARD(attention_forward_bf16_few_d128, 128, 1, 4, Paged);
