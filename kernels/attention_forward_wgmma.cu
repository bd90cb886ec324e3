// Equation: causal attention, out = softmax(q kᵀ / √D, keys 0..=position) v, lse = log of the softmax's sum (sm_90a).
//
// Shapes: as kernels/attention_forward.cu; D 64 or 128; H / KVH at most 64.
// Traffic: 2 (2 N H D + 2 D KVH per key of a tile) bytes; 4 D flops for each (query head, key seen). A tile's rows are all heads
// of a group times some queries, so that 128 rows share each key: 128 flops for each byte from the L2, and the diagonal, where
// half of a product is masked, is H / KVH times shorter than the tile is high.
// Launch: as many blocks as run at once. Each takes tiles from the list (items by key heads) there and back, so that a list
// that begins with the longest shares out evenly. Arguments: one attention::ForwardArgs, then maps of k and of v, boxes of 64
// rows and 64 columns, SWIZZLE_128: packed [N, KVH D]; paged [Blocks 2 KVH 64, D], each from its own first element.
//   variant       rows  threads  shared bytes
//   packed, D 64  64    256      196608 + 128 D   rings of 384 / D stages of 128 keys, and of values
//   paged, D 64   64    256      196608 + 128 D
//   packed        128   384      196608 + 256 D
//   paged         128   384      196608 + 256 D
//   few           64    256      196608 + 128 D   paged
// One warpgroup fills: a warp the ring of keys, one that of values, one a consumer's queries. The others consume, 64 rows each;
// two take turns, so that one multiplies while the other weighs. (Two of them would spill registers where D is 64.)
// Writes: out, lse (=). Sums: keys in chunks of 256 from the sequence's start. In a chunk: scores ascend over d in wgmma
// steps of 16; m is the largest; l adds each lane's weights ascending, then the four lanes of a row; o ascends in wgmma
// steps of 16 keys from zero, weights rounded to bf16. Chunks are merged ascending into (M, L, O). Keys a row does not see
// change no bit, nor does anything but the row's own query and keys: not the tile, the parts, nor where the keys lie. All
// variants are one body. Its order is not that of kernels/attention_forward.cu, which brings m up to date every 64 keys.
// Source: FlashAttention-3, https://arxiv.org/abs/2407.08608, algorithm 2; here chunks of keys are summed from zero.
#include "attention_forward.cuh"
#include "attention_warpgroup.cuh"
#include "exponential.cuh"

namespace attention {

template <int D, int CONSUMERS, Source S> struct Warpgroups {
  static constexpr int THREADS = 128 * (CONSUMERS + 1);
  static constexpr int UNIT = 128, STAGES = 384 / D; // keys of a stage, stages of a ring
  using Rows = Panels<D, 64>;
  using Keys = Panels<D, UNIT>;
  using Loads = Unit<D, UNIT, S>;
  using Sums = attention::Sums<D>;

  const ForwardArgs& args;
  bf16* queries;            // [CONSUMERS]
  uint64_t *arrived, *read; // of the queries of each consumer
  Ring keys, values;

  // Calls f(item, key head) for each tile of this block.
  template <class F> DEV void each_tile(F f) const {
    const int all = args.items_count * args.kv_heads, blocks = gridDim.x, block = blockIdx.x;
    for (int first = 0, back = 0; first < all; first += blocks, back ^= 1) {
      const int tile = first + (back ? blocks - 1 - block : block);
      if (tile < all) f(args.items[tile / args.kv_heads], tile % args.kv_heads);
    }
  }
  static DEV int seen(const Item& item) { return item.start + item.queries; }
  DEV TileRows rows(const Item& item, int head) const {
    const int group = args.heads / args.kv_heads;
    return {(int)item.row, (int)item.queries * group, args.heads, head * group, group};
  }

  // By one warp, the queries of one consumer.
  DEV void fill_queries(int consumer) const {
    unsigned round = 0;
    each_tile([&](const Item& item, int head) {
      mbar_wait(&read[consumer], round ^ 1);
      Rows::template copy_rows<32>(queries + consumer * Rows::ELEMENTS, args.q, rows(item, head), consumer * 64, lane_id());
      cp_async_commit();
      cp_async_wait<0>();
      fence_proxy_async();
      mbar_arrive(&arrived[consumer]);
      round ^= 1;
    });
  }

  // By one warp, keys or values.
  DEV void fill(const Ring& ring, const TensorMap* map, const bf16* from) const {
    Place<STAGES> place;
    each_tile([&](const Item& item, int head) {
      KeyRows<D, S> rows(args.map + item.map, args.kv_heads, head);
      const int last = min((int)item.last * CHUNK, seen(item)), end = item.end;
      for (int unit = item.first * CHUNK; unit < last; unit += UNIT, place.next()) {
        mbar_wait(&ring.empty[place.stage], place.round ^ 1);
        Loads::fill(ring.stages + place.stage * Keys::ELEMENTS, &ring.full[place.stage], map, from, rows, unit, end);
      }
    });
  }

  // By a consumer: waits for the stages from `place` on, or gives them back once all four warps have read them.
  template <int UNITS> static DEV void await(const Ring& ring, Place<STAGES> place) {
#pragma unroll
    for (int unit = 0; unit < UNITS; unit++, place.next()) mbar_wait(&ring.full[place.stage], place.round);
  }
  template <int UNITS> static DEV void release(const Ring& ring, Place<STAGES> place) {
#pragma unroll
    for (int unit = 0; unit < UNITS; unit++, place.next()) ring.release(place.stage);
  }

  // One consumer's rows of a tile.
  struct Consumer {
    const Warpgroups& block;
    const int number;
    Place<STAGES> place; // in both rings
    unsigned round;
    int position[2]; // of the lane's queries

    // s = q kᵀ of a stage, under way.
    DEV void score(float (&s)[UNIT / 2], int stage) const {
      const bf16* q = block.queries + number * Rows::ELEMENTS;
      const bf16* k = block.keys.stages + stage * Keys::ELEMENTS;
#pragma unroll
      for (int d = 0; d < D; d += 16)
        wgmma_m64n128k16_bf16(s, Rows::k_major(q, d), Keys::k_major(k, d), d > 0);
      wgmma_commit();
    }

    // Scores of keys that a row does not see become -inf; the first of them stands at position `first`.
    DEV void hide(float (&s)[UNIT / 2], int first, int start) const {
      if (first + UNIT <= start + 1) return; // even the first query sees all
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int last = position[half] - first - lane_id() % 4 * 2;
#pragma unroll
        for (int j = 0; j < UNIT / 8; j++)
#pragma unroll
          for (int e = 0; e < 2; e++)
            if (j * 8 + e > last) s[j * 4 + half * 2 + e] = -INFINITY;
      }
    }
    static DEV void rise(float (&m)[2], const float (&s)[UNIT / 2]) {
#pragma unroll
      for (int j = 0; j < UNIT / 8; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) m[half] = fmaxf(m[half], fmaxf(s[j * 4 + half * 2], s[j * 4 + half * 2 + 1]));
    }

    // Scores become weights relative to the offsets, and are added to l.
    static DEV void weigh(uint32_t (&p)[UNIT / 16][4], const float (&s)[UNIT / 2], float (&l)[2], const float (&offset)[2],
                          float log2_scale) {
#pragma unroll
      for (int j = 0; j < UNIT / 8; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const float x = fast_exp2(fmaf(s[j * 4 + half * 2], log2_scale, offset[half]));
          const float y = fast_exp2(fmaf(s[j * 4 + half * 2 + 1], log2_scale, offset[half]));
          l[half] = (l[half] + x) + y;
          p[j / 2][j % 2 * 2 + half] = pack_bf16(x, y);
        }
    }

    static DEV void multiply(float (&o)[32], const uint32_t (&p)[4], uint64_t v, int keep) {
      wgmma_m64n64k16_bf16<1>(o, p, v, keep);
    }
    static DEV void multiply(float (&o)[64], const uint32_t (&p)[4], uint64_t v, int keep) {
      wgmma_m64n128k16_bf16<1>(o, p, v, keep);
    }
    static DEV float (&flat(Sums& sums))[D / 2] { return *reinterpret_cast<float(*)[D / 2]>(&sums.o); }

    // Waits for this consumer's turn to multiply, and gives it on.
    DEV void turn() const {
      if constexpr (CONSUMERS == 2) named_sync(1 + number, 256);
    }
    DEV void pass_turn() const {
      if constexpr (CONSUMERS == 2) named_arrive(2 - number, 256);
    }

    // A chunk of at most UNITS units, the first key at position `first`.
    template <int UNITS> DEV void chunk(Sums& part, int first, int start, bool ends, float log2_scale) {
      float s[UNITS][UNIT / 2];
      turn();
      await<UNITS>(block.keys, place);
      wgmma_fence();
      Place<STAGES> at = place;
#pragma unroll
      for (int unit = 0; unit < UNITS; unit++, at.next()) score(s[unit], at.stage);
      pass_turn();
      part.m[0] = part.m[1] = -INFINITY;
      if constexpr (UNITS == 2) {
        wgmma_wait<1>(s[0]);
        hide(s[0], first, start);
        rise(part.m, s[0]);
      }
      wgmma_wait<0>(s[UNITS - 1]);
      release<UNITS>(block.keys, place);
      if (ends && lane_id() == 0) mbar_arrive(&block.read[number]);
      hide(s[UNITS - 1], first + (UNITS - 1) * UNIT, start);
      rise(part.m, s[UNITS - 1]);
      weigh_all<UNITS>(part, s, log2_scale);
    }
    template <int UNITS> DEV void weigh_all(Sums& part, const float (&s)[UNITS][UNIT / 2], float log2_scale) {
      float offset[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float& m = part.m[half];
        m = fmaxf(m, shuffle_xor(m, 1));
        m = fmaxf(m, shuffle_xor(m, 2));
        offset[half] = m == -INFINITY ? 0.f : -__fmul_rn(m, log2_scale);
        part.l[half] = 0.f;
      }
      uint32_t p[UNITS][UNIT / 16][4];
#pragma unroll
      for (int unit = 0; unit < UNITS; unit++) weigh(p[unit], s[unit], part.l, offset, log2_scale);
      gather<UNITS>(part, p);
      part.close();
    }
    template <int UNITS> DEV void gather(Sums& part, const uint32_t (&p)[UNITS][UNIT / 16][4]) {
      // One stage after the other, or, which takes fewer registers of two consumers, all at once.
      constexpr int AT_ONCE = CONSUMERS == 2 ? UNITS : 1;
      Place<STAGES> at = place;
#pragma unroll
      for (int unit = 0; unit < UNITS; unit++, at.next()) {
        if (unit % AT_ONCE == 0) {
          await<AT_ONCE>(block.values, at);
          wgmma_fence();
        }
        const bf16* v = block.values.stages + at.stage * Keys::ELEMENTS;
#pragma unroll
        for (int key = 0; key < UNIT; key += 16)
          multiply(flat(part), p[unit][key / 16], Keys::mn_major(v, key), unit + key > 0);
        if (unit % AT_ONCE == AT_ONCE - 1) wgmma_commit();
      }
      wgmma_wait<0>(flat(part));
      release<UNITS>(block.values, place);
      place = at;
    }

    // Where this thread's numbers of a chunk begin in `partial`, and the warpgroup's ticket.
    DEV int64_t slot(const Item& item, int head, int chunk) const {
      return ((int64_t)(item.slot + chunk) * block.args.kv_heads + head) * CONSUMERS + number;
    }
    DEV float* partial(const Item& item, int head, int chunk) const {
      return block.args.partial + slot(item, head, chunk) * Sums::NUMBERS * 128 + threadIdx.x % 128;
    }

    // Writes 16 rows of a tile, `row` the first.
    DEV void write(const TileRows& rows, int row, const Sums& sums) const {
      const ForwardArgs& args = block.args;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int r = row + lane_id() / 4 + half * 8;
        const int64_t index = rows.index(r);
        store_wide<D>(args.out + index * D, r < rows.count, sums.o, half, 1.f / sums.l[half]);
        if (r < rows.count && lane_id() % 4 == 0) args.lse[index] = fmaf(sums.m[half], args.scale, logf(sums.l[half]));
      }
    }

    DEV void tile(const Item& item, int head) {
      const ForwardArgs& args = block.args;
      const float log2_scale = args.scale * LOG2E;
      const int row = number * 64 + threadIdx.x % 128 / 32 * 16;
#pragma unroll
      for (int half = 0; half < 2; half++)
        position[half] = item.start + block.rows(item, head).query(row + lane_id() / 4 + half * 8);
      mbar_wait(&block.arrived[number], round);
      round ^= 1;
      Sums all;
      all.clear();
#pragma unroll 1
      for (int at = item.first; at < (int)item.last; at++) {
        const bool ends = at + 1 == (int)item.last;
        Sums part;
        if (seen(item) - at * CHUNK > UNIT) chunk<2>(part, at * CHUNK, item.start, ends, log2_scale);
        else chunk<1>(part, at * CHUNK, item.start, ends, log2_scale);
        if (item.parts == 1) all.merge(part, log2_scale);
        else part.leave(partial(item, head, at), 128);
      }
      if (item.parts > 1) {
        unsigned* ticket = args.tickets + slot(item, head, 0);
        if (!last_warpgroup(ticket, item.parts, 3 + number)) return;
        if (threadIdx.x % 128 == 0) *ticket = 0;
        float* from = partial(item, head, 0);
        all.collect(from, 128, (seen(item) + CHUNK - 1) / CHUNK, partial(item, head, 1) - from, log2_scale);
      }
      write(block.rows(item, head), row, all);
    }
  };

  DEV void consume(int number) const {
    if constexpr (CONSUMERS == 2)
      if (number == 1) named_arrive(1, 256); // the first turn is the first consumer's
    Consumer consumer{*this, number, {}, 0, {}};
    each_tile([&](const Item& item, int head) { consumer.tile(item, head); });
  }

  static DEV void run(const ForwardArgs& args, const TensorMap* k, const TensorMap* v) {
    DYN_SHARED(bf16, shared);
    SHARED_ARRAY(uint64_t, of_queries, [2][CONSUMERS]);
    SHARED_ARRAY(uint64_t, of_keys, [2][STAGES]);
    SHARED_ARRAY(uint64_t, of_values, [2][STAGES]);
    bf16* rings = shared + CONSUMERS * Rows::ELEMENTS;
    const Warpgroups body{args, shared, of_queries[0], of_queries[1], {rings, of_keys[0], of_keys[1]},
                          {rings + STAGES * Keys::ELEMENTS, of_values[0], of_values[1]}};
    if (threadIdx.x == 0) {
      for (int i = 0; i < CONSUMERS; i++) mbar_init(&of_queries[0][i], 32), mbar_init(&of_queries[1][i], 4);
      for (int i = 0; i < STAGES; i++)
        for (uint64_t* ring : {&of_keys[0][0], &of_values[0][0]})
          mbar_init(ring + i, Loads::ARRIVALS), mbar_init(ring + STAGES + i, 4 * CONSUMERS);
      fence_mbar_init();
    }
    __syncthreads();
    const int warpgroup = threadIdx.x / 128, warp = threadIdx.x / 32;
    if (warpgroup == 0) {
      if constexpr (CONSUMERS == 2) setmaxnreg_dec<40>();
      if (warp == 0) body.fill(body.keys, k, args.k);
      else if (warp == 1) body.fill(body.values, v, args.v);
      else if (warp < 2 + CONSUMERS) body.fill_queries(warp - 2);
    } else {
      if constexpr (CONSUMERS == 2) setmaxnreg_inc<232>();
      body.consume(warpgroup - 1);
    }
  }
};

} // namespace attention

#define ATTENTION_FORWARD(name, D, CONSUMERS, SOURCE)                                                                  \
  KERNEL(128 * (CONSUMERS + 1), name)                                                                                  \
  (const attention::ForwardArgs args, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v) {      \
    attention::Warpgroups<D, CONSUMERS, attention::Source::SOURCE>::run(args, &k, &v);                                 \
  }                                                                                                                    \
  EXPORT_KERNEL(128 * (CONSUMERS + 1), name)

ATTENTION_FORWARD(attention_forward_bf16_packed_d64_wgmma, 64, 1, Packed);
ATTENTION_FORWARD(attention_forward_bf16_packed_d128_wgmma, 128, 2, Packed);
ATTENTION_FORWARD(attention_forward_bf16_paged_d64_wgmma, 64, 1, Paged);
ATTENTION_FORWARD(attention_forward_bf16_paged_d128_wgmma, 128, 2, Paged);
ATTENTION_FORWARD(attention_forward_bf16_few_d128_wgmma, 128, 1, Paged);
