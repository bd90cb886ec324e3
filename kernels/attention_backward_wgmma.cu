// Equation: causal attention's backward, p = e^(q kᵀ / √D - lse), dv = pᵀ dout, ds = p (dout vᵀ - Σ dout out),
// dq = ds k / √D, dk = dsᵀ q / √D (sm_90a).
//
// Shapes: as kernels/attention_backward.cu; D 64 or 128; H / KVH at most 64.
// Traffic: queries 2 (4 N H D) + 4 D KVH bytes per key of a tile; keys 2 (4 N KVH D) + (4 D + 16) H bytes per row of a tile.
// 14 D flops for each (query head, key seen): 6 D by queries, 8 D by keys; scores are computed twice, so that no sum is shared
// between blocks.
// Launch, after the statistics of kernels/attention_backward.cu, each with one attention::BackwardArgs; queries also with maps
// of k and of v, [N, KVH D] in boxes of 64 rows and 64 columns, SWIZZLE_128:
//   kernel          grid                rows  threads  shared bytes
//   queries, D 64   (query items, KVH)  64    256      81920         rings of 2 stages of 128 keys, and of values
//   queries, D 128  (query items, KVH)  128   384      196608
//   keys, D 64      (key items, KVH)    64    256      86016         a ring of 4 stages of 64 rows: q, dout, statistics
//   keys, D 128     (key items, KVH)    128   384      200704
// A key item is at most as many neighbouring keys of one span as the table says, whose readers are that span and all that
// continue it, ascending. One warpgroup fills, the others consume 64 rows or keys each; two of them take turns.
// Writes: dq, dk, dv (=). Sums, no atomics: dq over keys ascending in wgmma steps of 16, from zero; dk and dv over readers
// ascending, their queries, heads of the group, in wgmma steps of 16 rows, from zero, a reader's rows in tiles of 64 counted
// from its own start. p and ds are rounded to bf16.
// Source: FlashAttention-2, https://arxiv.org/abs/2307.08691, algorithm 2; dq has a pass of its own, for fixed sums.
#include "attention_backward.cuh"
#include "attention_warpgroup.cuh"
#include "exponential.cuh"

namespace attention {

// d += a b for 16 of the depth: a from registers, b MN-major.
DEV void multiply(float (&d)[32], const uint32_t (&a)[4], uint64_t b) { wgmma_m64n64k16_bf16<1>(d, a, b, 1); }
DEV void multiply(float (&d)[64], const uint32_t (&a)[4], uint64_t b) { wgmma_m64n128k16_bf16<1>(d, a, b, 1); }

// 16 columns of sums, from `column` on, rounded: an operand from registers.
template <int N> DEV void narrow(uint32_t (&a)[4], const float (&d)[N], int column) {
#pragma unroll
  for (int i = 0; i < 4; i++) a[i] = pack_bf16(d[column / 2 + i * 2], d[column / 2 + i * 2 + 1]);
}

template <int N> DEV void zero(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) d[i] = 0.f;
}

// Two consumers multiply in turns.
template <int CONSUMERS> DEV void turn(int number) {
  if constexpr (CONSUMERS == 2) named_sync(1 + number, 256);
}
template <int CONSUMERS> DEV void pass_turn(int number) {
  if constexpr (CONSUMERS == 2) named_arrive(2 - number, 256);
}

// dq of a tile of rows.
template <int D, int CONSUMERS> struct QueriesByWarpgroups {
  static constexpr int UNIT = 128, STAGES = 2;
  using Rows = Panels<D, 64>;
  using Keys = Panels<D, UNIT>;
  using Loads = Unit<D, UNIT, Source::Packed>;

  const BackwardArgs& args;
  const QueryItem& item;
  const TileRows rows;
  bf16* own; // [CONSUMERS, 2]: queries and dout
  uint64_t* arrived;
  Ring keys, values;

  DEV int seen() const { return item.start + item.queries; }

  // By one warp, the queries of a consumer and their dout.
  DEV void fill_rows(int consumer) const {
    bf16* to = own + consumer * 2 * Rows::ELEMENTS;
    Rows::template copy_rows<32>(to, args.q, rows, consumer * 64, lane_id());
    Rows::template copy_rows<32>(to + Rows::ELEMENTS, args.dout, rows, consumer * 64, lane_id());
    cp_async_commit();
    cp_async_wait<0>();
    fence_proxy_async();
    mbar_arrive(&arrived[consumer]);
  }

  // By one warp, keys or values.
  DEV void fill(const Ring& ring, const TensorMap* map, const bf16* from) const {
    Place<STAGES> place;
    KeyRows<D, Source::Packed> runs(args.map + item.map, args.kv_heads, blockIdx.y);
    for (int unit = 0; unit < seen(); unit += UNIT, place.next()) {
      mbar_wait(&ring.empty[place.stage], place.round ^ 1);
      Loads::fill(ring.stages + place.stage * Keys::ELEMENTS, &ring.full[place.stage], map, from, runs, unit, item.end);
    }
  }

  // Products of a consumer's rows with a stage, under way.
  static DEV void score(float (&s)[UNIT / 2], const bf16* own, const bf16* stage) {
#pragma unroll
    for (int d = 0; d < D; d += 16) wgmma_m64n128k16_bf16(s, Rows::k_major(own, d), Keys::k_major(stage, d), d > 0);
    wgmma_commit();
  }

  // Scores become p; the first key stands at position `first`.
  DEV void weigh(float (&s)[UNIT / 2], const float4 (&known)[2], const int (&position)[2], int first) const {
    const float log2_scale = args.scale * LOG2E;
#pragma unroll
    for (int j = 0; j < UNIT / 2; j++) s[j] = fast_exp2(fmaf(s[j], log2_scale, known[j / 2 % 2].x));
    if (first + UNIT <= (int)item.start + 1) return; // even the first query sees all
#pragma unroll
    for (int j = 0; j < UNIT / 2; j++)
      if (j / 4 * 8 + j % 2 > position[j / 2 % 2] - first - lane_id() % 4 * 2) s[j] = 0.f;
  }

  DEV void sum(float (&dq)[D / 2], int number, const float4 (&known)[2], const int (&position)[2]) const {
    const bf16 *q = own + number * 2 * Rows::ELEMENTS, *dout = q + Rows::ELEMENTS;
    Place<STAGES> place;
    mbar_wait(&arrived[number], 0);
#pragma unroll 1
    for (int first = 0; first < seen(); first += UNIT, place.next()) {
      const bf16 *k = keys.stages + place.stage * Keys::ELEMENTS, *v = values.stages + place.stage * Keys::ELEMENTS;
      float s[UNIT / 2], dp[UNIT / 2];
      turn<CONSUMERS>(number);
      mbar_wait(&keys.full[place.stage], place.round);
      mbar_wait(&values.full[place.stage], place.round);
      wgmma_fence();
      score(s, q, k);
      score(dp, dout, v);
      pass_turn<CONSUMERS>(number);
      wgmma_wait<1>(s);
      weigh(s, known, position, first);
      wgmma_wait<0>(dp);
      values.release(place.stage);
      uint32_t ds[UNIT / 16][4];
#pragma unroll
      for (int j = 0; j < UNIT / 2; j++) s[j] = __fmul_rn(s[j], dp[j] - known[j / 2 % 2].y);
#pragma unroll
      for (int key = 0; key < UNIT; key += 16) narrow(ds[key / 16], s, key);
      wgmma_fence();
#pragma unroll
      for (int key = 0; key < UNIT; key += 16) multiply(dq, ds[key / 16], Keys::mn_major(k, key));
      wgmma_commit();
      wgmma_wait<0>(dq);
      keys.release(place.stage);
    }
  }

  DEV void consume(int number) const {
    if (CONSUMERS == 2 && number == 1) pass_turn<CONSUMERS>(number); // the first turn is the first consumer's
    const int row = number * 64 + threadIdx.x % 128 / 32 * 16 + lane_id() / 4;
    float4 known[2];
    int position[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8;
      known[half] = r < rows.count ? args.statistics[rows.index(r)] : make_float4(0.f, 0.f, 0.f, 0.f);
      position[half] = item.start + rows.query(r);
    }
    float dq[D / 8][4];
    float(&flat)[D / 2] = *reinterpret_cast<float(*)[D / 2]>(&dq);
    zero(flat);
    sum(flat, number, known, position);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8;
      store_wide<D>(args.dq + rows.index(r) * D, r < rows.count, dq, half, args.scale);
    }
  }

  static DEV void run(const BackwardArgs& args, const TensorMap* k, const TensorMap* v) {
    DYN_SHARED(bf16, shared);
    SHARED_ARRAY(uint64_t, of_rows, [CONSUMERS]);
    SHARED_ARRAY(uint64_t, of_keys, [2][STAGES]);
    SHARED_ARRAY(uint64_t, of_values, [2][STAGES]);
    const QueryItem& item = args.query_items[blockIdx.x];
    const int group = args.heads / args.kv_heads;
    bf16* rings = shared + CONSUMERS * 2 * Rows::ELEMENTS;
    const QueriesByWarpgroups body{args, item,
                                   {(int)item.row, (int)item.queries * group, args.heads, (int)blockIdx.y * group, group},
                                   shared, of_rows, {rings, of_keys[0], of_keys[1]},
                                   {rings + STAGES * Keys::ELEMENTS, of_values[0], of_values[1]}};
    if (threadIdx.x == 0) {
      for (int i = 0; i < CONSUMERS; i++) mbar_init(&of_rows[i], 32);
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
      else if (warp < 2 + CONSUMERS) body.fill_rows(warp - 2);
    } else {
      if constexpr (CONSUMERS == 2) setmaxnreg_inc<232>();
      body.consume(warpgroup - 1);
    }
  }
};

// dk and dv of a tile of keys.
template <int D, int CONSUMERS> struct KeysByWarpgroups {
  static constexpr int ROWS = 64, STAGES = 4;
  using Keys = Panels<D, 64>;
  using Rows = Panels<D, ROWS>;
  using Steps = attention::Steps<ROWS>;
  static constexpr int STAGE = 2 * Rows::ELEMENTS + 512; // elements: queries, dout, statistics; whole lines of 1024 bytes

  const BackwardArgs& args;
  bf16* own; // [CONSUMERS, 2]: keys and values
  Ring rows;
  int* starts; // of each stage: position of its first query, negative behind the last

  DEV const KeyItem& item() const { return args.key_items[blockIdx.x]; }
  DEV int group() const { return args.heads / args.kv_heads; }

  // By a warpgroup: the keys, then the tiles of rows that read them, of which two are on their way.
  DEV void fill() const {
    const int thread = threadIdx.x;
    const TileRows keys{(int)item().row, (int)item().keys, args.kv_heads, (int)blockIdx.y, 1};
    for (int i = 0; i < CONSUMERS; i++) {
      bf16* to = own + i * 2 * Keys::ELEMENTS;
      Keys::template copy_rows<128>(to, args.k, keys, i * 64, thread);
      Keys::template copy_rows<128>(to + Keys::ELEMENTS, args.v, keys, i * 64, thread);
    }
    Place<STAGES> place, before;
    Steps steps(args, item(), group());
    for (bool any = false; steps.any(); steps.advance(), any = true) {
      mbar_wait(&rows.empty[place.stage], place.round ^ 1);
      if (thread == 0) starts[place.stage] = steps.start();
      const TileRows tile = steps.rows(args.heads, blockIdx.y * group());
      bf16* to = rows.stages + place.stage * STAGE;
      Rows::template copy_rows<128>(to, args.q, tile, 0, thread);
      Rows::template copy_rows<128>(to + Rows::ELEMENTS, args.dout, tile, 0, thread);
      if (thread < ROWS) {
        const float4* known = args.statistics + (thread < tile.count ? tile.index(thread) : 0);
        cp_async_16(to + 2 * Rows::ELEMENTS + thread * 8, known, thread < tile.count);
      }
      cp_async_commit();
      if (any) {
        cp_async_wait<1>();
        fence_proxy_async();
        mbar_arrive(&rows.full[before.stage]);
      }
      before = place;
      place.next();
    }
    cp_async_wait<0>();
    fence_proxy_async();
    mbar_arrive(&rows.full[before.stage]);
    mbar_wait(&rows.empty[place.stage], place.round ^ 1);
    if (thread == 0) starts[place.stage] = -1;
    mbar_arrive(&rows.full[place.stage]);
  }

  // Products of a consumer's keys with a stage's rows, under way.
  static DEV void score(float (&s)[ROWS / 2], const bf16* own, const bf16* stage) {
#pragma unroll
    for (int d = 0; d < D; d += 16) wgmma_m64n64k16_bf16(s, Keys::k_major(own, d), Rows::k_major(stage, d), d > 0);
    wgmma_commit();
  }

  // Scores become p, products with v ds: of a consumer's keys, the first at position `first`, and the rows of a tile that
  // starts at position `start`.
  DEV void slope(float (&s)[ROWS / 2], float (&dp)[ROWS / 2], const float4* known, int first, int start) const {
    const float log2_scale = args.scale * LOG2E;
    const int column = lane_id() % 4 * 2;
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) s[j] = fast_exp2(fmaf(s[j], log2_scale, known[column + j / 4 * 8 + j % 2].x));
    if (first + 63 > start) { // the tile's first query does not see all keys
      const int unseen = (first + threadIdx.x % 128 / 32 * 16 + lane_id() / 4 - start) * group(); // rows that miss the lane's first
#pragma unroll
      for (int j = 0; j < ROWS / 2; j++)
        if (column + j / 4 * 8 + j % 2 < unseen + j / 2 % 2 * 8 * group()) s[j] = 0.f;
    }
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) dp[j] = __fmul_rn(s[j], dp[j] - known[column + j / 4 * 8 + j % 2].y);
  }

  DEV void sum(float (&dk)[D / 2], float (&dv)[D / 2], int number) const {
    const bf16 *k = own + number * 2 * Keys::ELEMENTS, *v = k + Keys::ELEMENTS;
    Place<STAGES> place;
#pragma unroll 1
    for (;; place.next()) {
      mbar_wait(&rows.full[place.stage], place.round);
      const int start = starts[place.stage];
      if (start < 0) break;
      const bf16 *q = rows.stages + place.stage * STAGE, *dout = q + Rows::ELEMENTS;
      float s[ROWS / 2], dp[ROWS / 2];
      turn<CONSUMERS>(number);
      wgmma_fence();
      score(s, k, q);
      score(dp, v, dout);
      pass_turn<CONSUMERS>(number);
      wgmma_wait<0>(s);
      wgmma_wait<0>(dp);
      slope(s, dp, reinterpret_cast<const float4*>(dout + Rows::ELEMENTS), item().start + number * 64, start);
      uint32_t p[ROWS / 16][4], ds[ROWS / 16][4];
#pragma unroll
      for (int row = 0; row < ROWS; row += 16) narrow(p[row / 16], s, row), narrow(ds[row / 16], dp, row);
      wgmma_fence();
#pragma unroll
      for (int row = 0; row < ROWS; row += 16) multiply(dv, p[row / 16], Rows::mn_major(dout, row));
#pragma unroll
      for (int row = 0; row < ROWS; row += 16) multiply(dk, ds[row / 16], Rows::mn_major(q, row));
      wgmma_commit();
      wgmma_wait<0>(dv);
      wgmma_wait<0>(dk);
      __syncwarp(); // all lanes have read the statistics
      rows.release(place.stage);
    }
  }

  DEV void consume(int number) const {
    if (CONSUMERS == 2 && number == 1) pass_turn<CONSUMERS>(number); // the first turn is the first consumer's
    float dk[D / 8][4], dv[D / 8][4];
    float(&flat_k)[D / 2] = *reinterpret_cast<float(*)[D / 2]>(&dk);
    float(&flat_v)[D / 2] = *reinterpret_cast<float(*)[D / 2]>(&dv);
    zero(flat_k);
    zero(flat_v);
    sum(flat_k, flat_v, number);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int key = number * 64 + threadIdx.x % 128 / 32 * 16 + lane_id() / 4 + half * 8;
      const bool valid = key < (int)item().keys;
      const int64_t at = ((int64_t)(item().row + key) * args.kv_heads + blockIdx.y) * D;
      store_wide<D>(args.dk + at, valid, dk, half, args.scale);
      store_wide<D>(args.dv + at, valid, dv, half, 1.f);
    }
  }

  static DEV void run(const BackwardArgs& args) {
    DYN_SHARED(bf16, shared);
    SHARED_ARRAY(uint64_t, of_rows, [2][STAGES]);
    SHARED_ARRAY(int, starts, [STAGES]);
    const KeysByWarpgroups body{args, shared,
                                {shared + CONSUMERS * 2 * Keys::ELEMENTS, of_rows[0], of_rows[1]}, starts};
    if (threadIdx.x == 0) {
      for (int i = 0; i < STAGES; i++) mbar_init(&of_rows[0][i], 128), mbar_init(&of_rows[1][i], 4 * CONSUMERS);
      fence_mbar_init();
    }
    __syncthreads();
    if (threadIdx.x < 128) {
      if constexpr (CONSUMERS == 2) setmaxnreg_dec<40>();
      body.fill();
    } else {
      if constexpr (CONSUMERS == 2) setmaxnreg_inc<232>();
      body.consume(threadIdx.x / 128 - 1);
    }
  }
};

} // namespace attention

#define ATTENTION_BACKWARD(D, CONSUMERS)                                                                               \
  KERNEL(128 * (CONSUMERS + 1), attention_backward_bf16_queries_d##D##_wgmma)                                          \
  (const attention::BackwardArgs args, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v) {     \
    attention::QueriesByWarpgroups<D, CONSUMERS>::run(args, &k, &v);                                                   \
  }                                                                                                                    \
  EXPORT_KERNEL(128 * (CONSUMERS + 1), attention_backward_bf16_queries_d##D##_wgmma);                                  \
  KERNEL(128 * (CONSUMERS + 1), attention_backward_bf16_keys_d##D##_wgmma)(const attention::BackwardArgs args) {       \
    attention::KeysByWarpgroups<D, CONSUMERS>::run(args);                                                              \
  }                                                                                                                    \
  EXPORT_KERNEL(128 * (CONSUMERS + 1), attention_backward_bf16_keys_d##D##_wgmma)

ATTENTION_BACKWARD(64, 1);
ATTENTION_BACKWARD(128, 2);
