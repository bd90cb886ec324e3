// Equation: causal attention's backward, p = e^(q kᵀ / √D - lse), dv = pᵀ dout, ds = p (dout vᵀ - Σ dout out),
// dq = ds k / √D, dk = dsᵀ q / √D.
//
// Shapes: dout, out, q, dq [N, H, D], k, v, dk, dv [N, KVH, D], lse [N, H] f32; bf16; scratch statistics [N, H, 4] f32.
// Traffic: per tile 2 D bytes of each row it meets; 14 D flops for each (query head, key seen).
// Launch, in this order, each with one attention::BackwardArgs, D 16, 32, 64 or 128; H / KVH at most the rows of a tile:
//   kernel      grid                       threads  shared bytes
//   statistics  (ceil(N H / (2048 / D)))   256      0
//   queries     (query items, KVH)         128      768 D              64 rows: query items as the forward's tiles
//   keys        (key items, KVH)           128      256 D + R (8 D + 32), R rows: 64, or 32 where D = 128
// A key item is at most 64 neighbouring keys of one span, whose readers are that span and all that continue it, ascending.
// Writes: dq, dk, dv (=). Sums, no atomics: Σ dout out in a lane's 8 elements ascending, then over lanes by halves; dq over
// keys ascending in mma steps of 16, from zero; dk and dv over readers ascending, their queries, heads of the group, in mma
// steps of 16 rows, from zero, a reader's rows in tiles of R counted from its own start. p and ds are rounded to bf16.
// Source: FlashAttention-2, https://arxiv.org/abs/2307.08691, algorithm 2; here dq has a pass of its own, for fixed sums.
#include "attention_backward.cuh"

namespace attention {

template <int D> DEV void statistics(const BackwardArgs& args) {
  constexpr int LANES = D / 8;
  const int64_t piece = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = piece / LANES;
  float sum = 0.f;
  if (row < args.rows) {
    const uint4 dout = reinterpret_cast<const uint4*>(args.dout)[piece];
    const uint4 out = reinterpret_cast<const uint4*>(args.out)[piece];
    const uint32_t left[4] = {dout.x, dout.y, dout.z, dout.w}, right[4] = {out.x, out.y, out.z, out.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float2 a = unpack_bf16(left[i]), b = unpack_bf16(right[i]);
      sum = fmaf(a.y, b.y, fmaf(a.x, b.x, sum));
    }
  }
#pragma unroll
  for (int half = LANES / 2; half > 0; half /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, half);
  if (row < args.rows && threadIdx.x % LANES == 0)
    args.statistics[row] = make_float4(-__fmul_rn(args.lse[row], LOG2E), sum, 0.f, 0.f);
}

// dq of a tile of rows.
template <int D> struct Queries {
  static constexpr int ROWS = 64, THREADS = 128;
  using Rows = SwizzledTile<ROWS, D>;
  using Keys = SwizzledTile<KEYS, D>;

  const BackwardArgs& args;
  const QueryItem item;
  const TileRows rows;
  bf16 *q, *dout, *stages;
  float log2_scale;
  int lane, warp_row;

  DEV int keys() const { return item.start + item.queries; }

  DEV void load(int stage, KeyRows<D, Source::Packed>& from, int first) const {
    bf16* to = stages + stage * 2 * Keys::ELEMENTS;
    load_keys<D, THREADS>(to, to + Keys::ELEMENTS, args.k, args.v, from, first, keys());
  }

  // Scores and products with v become ds; the first key stands at position `first`.
  DEV void slope(float (&s)[KEYS / 8][4], const float (&dp)[KEYS / 8][4], const float4 (&known)[2], int first) const {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int last = item.start + rows.query(warp_row + lane / 4 + half * 8) - first - lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const float p = j * 8 + e > last ? 0.f : exp2f(fmaf(s[j][half * 2 + e], log2_scale, known[half].x));
          s[j][half * 2 + e] = __fmul_rn(p, dp[j][half * 2 + e] - known[half].y);
        }
    }
  }

  DEV void sum(float (&dq)[D / 8][4]) const {
    KeyRows<D, Source::Packed> from(args.map + item.map, args.kv_heads, blockIdx.y);
    load_rows<D, ROWS, THREADS>(q, args.q, rows);
    load_rows<D, ROWS, THREADS>(dout, args.dout, rows);
    load(0, from, 0);
    cp_async_commit();
    float4 known[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = warp_row + lane / 4 + half * 8;
      known[half] = r < rows.count ? args.statistics[rows.index(r)] : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    for (int first = 0, stage = 0; first < keys(); first += KEYS, stage ^= 1) {
      cp_async_wait<0>();
      __syncthreads(); // this stage has arrived for all, and nobody reads the other any more
      if (first + KEYS < keys()) load(stage ^ 1, from, first + KEYS);
      cp_async_commit();
      const bf16 *k = stages + stage * 2 * Keys::ELEMENTS, *v = k + Keys::ELEMENTS;
      float s[KEYS / 8][4], dp[KEYS / 8][4];
      scores<Rows, Keys>(s, q, warp_row, k);
      scores<Rows, Keys>(dp, dout, warp_row, v);
      slope(s, dp, known, first);
      gather<Keys, D>(dq, s, k, 0);
    }
    cp_async_wait<0>();
  }

  static DEV void run(const BackwardArgs& args) {
    DYN_SHARED(bf16, shared);
    const QueryItem item = args.query_items[blockIdx.x];
    const int group = args.heads / args.kv_heads, lane = lane_id(), warp_row = threadIdx.x / 32 * 16;
    const TileRows rows{(int)item.row, (int)item.queries * group, args.heads, (int)blockIdx.y * group, group};
    bf16 *dout = shared + Rows::ELEMENTS, *stages = dout + Rows::ELEMENTS;
    const Queries body{args, item, rows, shared, dout, stages, args.scale * LOG2E, lane, warp_row};
    float dq[D / 8][4] = {};
    body.sum(dq);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = warp_row + lane / 4 + half * 8;
      if (r < rows.count) store_row<D>(args.dq + rows.index(r) * D, dq, half, args.scale);
    }
  }
};

// dk and dv of a tile of keys.
template <int D> struct KeyTile {
  static constexpr int ROWS = D < 128 ? 64 : 32, THREADS = 128;
  using Rows = SwizzledTile<ROWS, D>;
  using Keys = SwizzledTile<KEYS, D>;
  static constexpr int STAGE = 2 * Rows::ELEMENTS + ROWS * 8; // elements: queries, dout, statistics

  using Steps = attention::Steps<ROWS>;

  const BackwardArgs& args;
  const KeyItem item;
  bf16 *k, *v, *stages;
  int group, lane, warp_key;

  DEV void load(int stage, const Steps& steps) const {
    if (!steps.any()) return;
    bf16* to = stages + stage * STAGE;
    const TileRows rows = steps.rows(args.heads, blockIdx.y * group);
    load_rows<D, ROWS, THREADS>(to, args.q, rows);
    load_rows<D, ROWS, THREADS>(to + Rows::ELEMENTS, args.dout, rows);
    const int r = threadIdx.x;
    const float4* known = args.statistics + (r < rows.count ? rows.index(r) : 0);
    if (r < ROWS) cp_async_16(to + 2 * Rows::ELEMENTS + r * 8, known, r < rows.count);
  }

  // Scores become p, products with v ds: of 16 keys and the rows of a tile that starts at position `start`.
  DEV void slope(float (&s)[ROWS / 8][4], float (&dp)[ROWS / 8][4], const float4* known, int start) const {
    const float log2_scale = args.scale * LOG2E;
    const int unseen = ((int)item.start + warp_key + lane / 4 - start) * group; // rows that miss the lane's first key
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int r = j * 8 + lane % 4 * 2 + e;
        const float2 row = *reinterpret_cast<const float2*>(known + r);
#pragma unroll
        for (int half = 0; half < 2; half++) {
          float& x = s[j][half * 2 + e];
          x = r < unseen + half * 8 * group ? 0.f : exp2f(fmaf(x, log2_scale, row.x));
          dp[j][half * 2 + e] = __fmul_rn(x, dp[j][half * 2 + e] - row.y);
        }
      }
  }

  DEV void sum(float (&dk)[D / 8][4], float (&dv)[D / 8][4]) const {
    Steps steps(args, item, group);
    const TileRows own{(int)item.row, (int)item.keys, args.kv_heads, (int)blockIdx.y, 1};
    load_rows<D, KEYS, THREADS>(k, args.k, own);
    load_rows<D, KEYS, THREADS>(v, args.v, own);
    load(0, steps);
    cp_async_commit();
    for (int stage = 0; steps.any(); stage ^= 1) {
      const int start = steps.start();
      cp_async_wait<0>();
      __syncthreads(); // this stage has arrived for all, and nobody reads the other any more
      steps.advance();
      load(stage ^ 1, steps);
      cp_async_commit();
      const bf16 *q = stages + stage * STAGE, *dout = q + Rows::ELEMENTS;
      const float4* known = reinterpret_cast<const float4*>(dout + Rows::ELEMENTS);
      float s[ROWS / 8][4], dp[ROWS / 8][4];
      scores<Keys, Rows>(s, k, warp_key, q);
      scores<Keys, Rows>(dp, v, warp_key, dout);
      slope(s, dp, known, start);
      gather<Rows, D>(dv, s, dout, 0);
      gather<Rows, D>(dk, dp, q, 0);
    }
    cp_async_wait<0>();
  }

  static DEV void run(const BackwardArgs& args) {
    DYN_SHARED(bf16, shared);
    const KeyItem item = args.key_items[blockIdx.x];
    const int lane = lane_id(), warp_key = threadIdx.x / 32 * 16;
    bf16 *v = shared + Keys::ELEMENTS, *stages = v + Keys::ELEMENTS;
    const KeyTile body{args, item, shared, v, stages, args.heads / args.kv_heads, lane, warp_key};
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    body.sum(dk, dv);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int key = warp_key + lane / 4 + half * 8;
      if (key >= (int)item.keys) continue;
      const int64_t at = ((int64_t)(item.row + key) * args.kv_heads + blockIdx.y) * D;
      store_row<D>(args.dk + at, dk, half, args.scale);
      store_row<D>(args.dv + at, dv, half, 1.f);
    }
  }
};

} // namespace attention

#define ATTENTION_BACKWARD(D)                                                                                          \
  KERNEL(256, attention_backward_bf16_statistics_d##D)(const attention::BackwardArgs args) {                           \
    attention::statistics<D>(args);                                                                                    \
  }                                                                                                                    \
  EXPORT_KERNEL(256, attention_backward_bf16_statistics_d##D);                                                         \
  KERNEL(128, attention_backward_bf16_queries_d##D)(const attention::BackwardArgs args) {                              \
    attention::Queries<D>::run(args);                                                                                  \
  }                                                                                                                    \
  EXPORT_KERNEL(128, attention_backward_bf16_queries_d##D);                                                            \
  KERNEL(128, attention_backward_bf16_keys_d##D)(const attention::BackwardArgs args) {                                 \
    attention::KeyTile<D>::run(args);                                                                                  \
  }                                                                                                                    \
  EXPORT_KERNEL(128, attention_backward_bf16_keys_d##D)

ATTENTION_BACKWARD(16);
ATTENTION_BACKWARD(32);
ATTENTION_BACKWARD(64);
ATTENTION_BACKWARD(128);
