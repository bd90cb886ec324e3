// Equation:  z = x wᵀ / T. logits: z. token_logprob: ln p(target) = z(target) - lse, lse = ln sum e^z, H = -sum p ln p.
//            gradient: dz = (dL/dlogp (onehot(target) - p) - dL/dH p (ln p + H)) / T, from which the products of product.cu
//            make dx += dz w and dw += dzᵀ x, some ids after the others.
// Shapes:    x [N, C], w [V, C] bf16, C and V multiples of 8; z [N, V] f32; dz [N, ids] bf16, `ids` of the V at a time;
//            targets [N] u32; coefficients, lse, entropy, logprob [N] f32. parts [N, V / 512] of four f32 is scratch.
// Traffic:   logits: 2 (N C + V C) + 4 N V bytes. token_logprob: 2 (N C + N / 1024 V C) + 32 N V / 512. gradient, per `ids`:
//            2 (N C + N / 1024 ids C) + 2 N ids, and the products'. No logits but `ids` columns of dz are ever in memory.
// Launch:    one struct as argument; grid, block and dynamic shared bytes:
//   head_logits_bf16_few16    (V / 128, N / 16)          128   73728
//   head_logits_bf16_few64    (V / 128, N / 64)          128   73728
//   head_token_logprob_bf16   (N / 128 * V / 512)        256   98304
//   head_gradient_bf16        (N / 128 * ids / 128)      256   98304
//   head_narrow_bf16          (elements / 2048)          256   0
//            On sm_90a, by warpgroup_product.cuh: any number of blocks, one an SM; arguments: the struct, tensor maps of x and w
//            (w and x for `few`) with boxes of 64 x the tile's side, swizzled over 128 bytes:
//   head_logits_bf16_few_wgmma        tiles of 64 ids x 16 tokens     256   204800
//   head_logits_bf16_small_wgmma      64 tokens x 64 ids              256   196608
//   head_logits_bf16_large_wgmma      128 tokens x 192 ids            384   204800
//   head_token_logprob_bf16_wgmma     128 tokens x 128 ids, by spans  384   196608
//   head_gradient_bf16_wgmma          128 tokens x 192 ids            384   204800
// Writes:    =. A score's bits are the product contract's (product.cuh; where warps multiply, w is mma's a in all kernels),
//            rounded once more by 1 / T; they depend on its row and its id alone, and on whether the device multiplies by
//            warps or by warpgroups. Sums over ids in the order of softmax.cuh, so that a row's numbers are those of
//            sample_forward_f32.
// Source:    chunks over the vocabulary with a stored LSE, so that dw is written once: Wijmans et al., "Cut Your Losses in
//            Large-Vocabulary Language Models", arXiv 2411.09009.
#include "warpgroup_scores.cuh"

namespace head {

using product::Operand;

// Row 16 i + 8 h + g of a slice of 32 ids is id 4 g + 2 i + h: the four sums that a thread has of a token are then of
// neighbouring ids.
struct QuadsOfIds {
  static DEV int row(int row) { return (row & ~31) | ((row & 7) << 2) | ((row >> 3) & 3); }
};

// TOKENS and warps across them; four warps across 128 ids.
template <int TOKENS, int WARPS_N, int STAGES> struct Shape : product::Shape<128, TOKENS, 4, WARPS_N, STAGES> {
  using OrderA = QuadsOfIds;
};
using Few16 = Shape<16, 1, 4>;
using Few64 = Shape<64, 1, 3>;
using Many = Shape<128, 2, 3>;
static_assert(Many::M == softmax::TILE && Many::ROWS == softmax::SLICE && Many::COLUMNS == 64);

// The scores of 128 ids for S::N tokens.
template <class S>
struct Scores : product::Body<S, product::Stored::Along, product::Stored::Along, product::LeavesAre::Equal, float, product::Output::Turned> {
  using Body = product::Body<S, product::Stored::Along, product::Stored::Along, product::LeavesAre::Equal, float, product::Output::Turned>;
  typename Body::Sums total;

  DEV Scores(const product::Args& args, int64_t first_id, int64_t first_token)
      : Body{args, first_id, first_token, warp() / S::WARPS_N * S::ROWS, warp() % S::WARPS_N * S::COLUMNS, stages()} {}
  static DEV int warp() { return threadIdx.x / 32; }

  static DEV bf16* stages() {
    DYN_SHARED(bf16, bytes);
    return bytes;
  }

  // Product contract: leaf sums ascending from zero.
  DEV void multiply_all() {
    Body::clear(total);
    this->sum(0, this->args.leaves, [&](const typename Body::Sums& sums, int) { Body::add(total, sums); });
  }

  // Calls f(j, token, first id, scores of four neighbouring ids) for every token of this thread: 2 j and 2 j + 1 stand in
  // column block j.
  template <class F> DEV void each_quad(float inv_temperature, F f) const {
    const int lane = lane_id();
    const int64_t id = this->first_m + this->warp_m + lane / 4 * 4;
#pragma unroll
    for (int j = 0; j < Body::NS; j++)
#pragma unroll
      for (int side = 0; side < 2; side++) {
        const float z[4] = {__fmul_rn(total[0][j][side], inv_temperature), __fmul_rn(total[0][j][2 + side], inv_temperature),
                            __fmul_rn(total[1][j][side], inv_temperature), __fmul_rn(total[1][j][2 + side], inv_temperature)};
        f(j, side, this->first_n + this->warp_n + j * 8 + lane % 4 * 2 + side, id, z);
      }
  }
};

template <class S> DEV void logits(const LogitsArgs& args) {
  Scores<S> scores(args.product, (int64_t)blockIdx.x * S::M, (int64_t)blockIdx.y * S::N);
  scores.multiply_all();
  float* out = reinterpret_cast<float*>(args.product.out);
  const int64_t ids = args.product.a.extent, tokens = args.product.b.extent;
  scores.each_quad(args.inv_temperature, [&](int, int, int64_t token, int64_t id, const float (&z)[4]) {
    if (token < tokens && id < ids) store_4(out + token * ids + id, make_float4(z[0], z[1], z[2], z[3]));
  });
}

// A block's softmax parts: of 128 tokens over a span of ids, 128 at a time.
struct SpanOfScores {
  const TokenLogprobArgs& args;
  int64_t first_token;
  int span, spans;
  softmax::Part mine[2]; // of this warp's place in a tile; lane 4 g + t has tokens 8 g + 2 t and the next one

  DEV void tile(int tile) {
    const int64_t ids = args.product.a.extent, tokens = args.product.b.extent;
    Scores<Many> scores(args.product, (int64_t)span * softmax::SPAN + tile * softmax::TILE, first_token);
    scores.multiply_all();
    softmax::Part now[2] = {};
    scores.each_quad(args.inv_temperature, [&](int j, int side, int64_t token, int64_t id, const float (&z)[4]) {
      float known[4];
#pragma unroll
      for (int i = 0; i < 4; i++) known[i] = id < ids ? z[i] : softmax::NOTHING;
      if (token < tokens && args.targets[token] / 4 == id / 4) keep_target(token, z);
      const softmax::Part part = softmax::of_slice<4>(known);
      if (j == lane_id() / 4) now[side] = part;
    });
#pragma unroll
    for (int side = 0; side < 2; side++) mine[side] = tile == 0 ? now[side] : softmax::merge(mine[side], now[side]);
  }

  DEV void keep_target(int64_t token, const float (&z)[4]) const {
    const int at = args.targets[token] % 4;
    args.of_target[token] = at < 2 ? (at == 0 ? z[0] : z[1]) : (at == 2 ? z[2] : z[3]);
  }

  // The four places of a tile, merged ascending.
  DEV void leave() const {
    SHARED_ARRAY(float4, places, [4][Many::N]);
    const int warp = threadIdx.x / 32, lane = lane_id();
#pragma unroll
    for (int side = 0; side < 2; side++)
      places[warp / 2][warp % 2 * 64 + lane / 4 * 8 + lane % 4 * 2 + side] = make_float4(mine[side].max, mine[side].sum, mine[side].moment, 0.f);
    __syncthreads();
    const int64_t token = first_token + threadIdx.x;
    if (threadIdx.x >= Many::N || token >= args.product.b.extent) return;
    softmax::Part all = {};
    for (int place = 0; place < 4; place++) {
      const float4 part = places[place][threadIdx.x];
      const softmax::Part one = {part.x, part.y, part.z};
      all = place == 0 ? one : softmax::merge(all, one);
    }
    args.parts[token * spans + span] = make_float4(all.max, all.sum, all.moment, 0.f);
  }
};

// What the policy says of the targets of a tile of tokens, a warp a token.
DEV void finish_tokens(const TokenLogprobArgs& args, int64_t first_token, int spans) {
  for (int i = threadIdx.x / 32; i < Many::N; i += Many::THREADS / 32) {
    const int64_t token = first_token + i;
    if (token >= args.product.b.extent) break;
    finish_token(args, token, spans);
  }
}

DEV void token_logprob(const TokenLogprobArgs& args) {
  const int64_t ids = args.product.a.extent;
  const int tiles = (int)((args.product.b.extent + Many::N - 1) / Many::N), spans = softmax::spans((int)ids);
  int token_tile, span;
  product::tile_of(blockIdx.x, tiles, spans, token_tile, span);
  SpanOfScores part{args, (int64_t)token_tile * Many::N, span, spans, {}};
  for (int tile = 0; tile < 4 && (int64_t)span * softmax::SPAN + tile * softmax::TILE < ids; tile++) {
    __syncthreads(); // nobody reads the last tile's stages any more
    part.tile(tile);
  }
  part.leave();
  if (!last_block(args.tickets + token_tile, spans)) return;
  if (threadIdx.x == 0) args.tickets[token_tile] = 0;
  finish_tokens(args, part.first_token, spans);
}

DEV void gradient(const GradientArgs& args) {
  const int64_t ids = args.product.a.extent, tokens = args.product.b.extent;
  int token_tile, id_tile;
  product::tile_of(blockIdx.x, (int)((tokens + Many::N - 1) / Many::N), (int)((ids + Many::M - 1) / Many::M), token_tile, id_tile);
  Scores<Many> scores(args.product, (int64_t)id_tile * Many::M, (int64_t)token_tile * Many::N);
  scores.multiply_all();
  bf16* out = reinterpret_cast<bf16*>(args.product.out);
  scores.each_quad(args.inv_temperature, [&](int, int, int64_t token, int64_t id, const float (&z)[4]) {
    if (token >= tokens || id >= ids) return;
    const Coefficients of(args, token);
    const int64_t target = (int64_t)args.targets[token] - args.first_id - id;
    const uint2 four = make_uint2(pack_bf16(of.of(z[0], target == 0), of.of(z[1], target == 1)),
                                  pack_bf16(of.of(z[2], target == 2), of.of(z[3], target == 3)));
    *reinterpret_cast<uint2*>(out + token * args.product.out_stride + id) = four;
  });
}

} // namespace head

KERNEL(128, head_logits_bf16_few16)(const head::LogitsArgs args) { head::logits<head::Few16>(args); }
EXPORT_KERNEL(128, head_logits_bf16_few16);
KERNEL(128, head_logits_bf16_few64)(const head::LogitsArgs args) { head::logits<head::Few64>(args); }
EXPORT_KERNEL(128, head_logits_bf16_few64);
KERNEL(256, head_token_logprob_bf16)(const head::TokenLogprobArgs args) { head::token_logprob(args); }
EXPORT_KERNEL(256, head_token_logprob_bf16);
KERNEL(256, head_gradient_bf16)(const head::GradientArgs args) { head::gradient(args); }
EXPORT_KERNEL(256, head_gradient_bf16);

#define HEAD_GROUP_KERNEL(threads, name, Args, ...)                                                                    \
  KERNEL(threads, name)                                                                                                \
  (const head::Args args, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b) {                 \
    __VA_ARGS__(args, &a, &b);                                                                                         \
  }                                                                                                                    \
  EXPORT_KERNEL(threads, name)

HEAD_GROUP_KERNEL(256, head_logits_bf16_few_wgmma, LogitsArgs, head::group_logits<product::FewGroups>);
HEAD_GROUP_KERNEL(256, head_logits_bf16_small_wgmma, LogitsArgs, head::group_logits<product::SmallGroups>);
HEAD_GROUP_KERNEL(384, head_logits_bf16_large_wgmma, LogitsArgs, head::group_logits<product::LargeGroups>);
HEAD_GROUP_KERNEL(384, head_token_logprob_bf16_wgmma, TokenLogprobArgs, head::group_token_logprob);
HEAD_GROUP_KERNEL(384, head_gradient_bf16_wgmma, GradientArgs, head::group_gradient);

// The finished dx, from the sum over the vocabulary to storage: eight elements a thread.
KERNEL(256, head_narrow_bf16)(const float* __restrict__ sum, bf16* __restrict__ dx, int64_t elements) {
  const int64_t i = ((int64_t)blockIdx.x * 256 + threadIdx.x) * 8;
  if (i >= elements) return;
  const float4 low = load_4(sum + i), high = load_4(sum + i + 4);
  store_8(dx + i, {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w});
}
EXPORT_KERNEL(256, head_narrow_bf16);
