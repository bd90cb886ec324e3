// The head's scores by warpgroups (sm_90a): tokens stand on wgmma's M and ids on its N, but where tokens are few. The numbers
// made of them, and their order, are those of head.cu.
#pragma once
#include "scores.cuh"
#include "warpgroup_product.cuh"

namespace head {

template <class S, class Deal = product::Items<S, product::LeavesAre::Equal>>
using Groups = product::Groups<S, product::Stored::Along, product::Stored::Along, product::LeavesAre::Equal, Deal>;

template <class S> DEV void group_logits(const LogitsArgs& args, const TensorMap* a, const TensorMap* b) {
  using Tiles = Groups<S>;
  using Own = typename Tiles::Own;
  constexpr bool FEW = S::N == product::FewGroups::N;
  float* out = reinterpret_cast<float*>(args.product.out);
  const int64_t rows = args.product.a.extent, columns = args.product.b.extent;
  const auto begin = [](typename Tiles::Sums& total, const auto&) { Own::clear(total); };
  Tiles::run(args.product, a, b, begin, [&](typename Tiles::Sums& total, const auto& items) {
    if constexpr (FEW) {
      Own::each(total, [&](int m, int n, float sum) {
        const int64_t id = items.m + m, token = items.n + n;
        if (id < rows && token < columns) out[token * rows + id] = __fmul_rn(sum, args.inv_temperature);
      });
    } else {
      Own::slices([&](int half, int slice) {
        const int64_t token = items.m + Own::row() + half * 8, id = items.n + slice + Own::eight();
        float z[8];
        Own::take(total, half, slice, z);
#pragma unroll
        for (int i = 0; i < 8; i++) z[i] = __fmul_rn(z[i], args.inv_temperature);
        if (token < rows && id < columns) store_8(out + token * columns + id, z);
      });
    }
  });
}

// The tiles of a block: those of a span of ids, ascending, for a tile of tokens; then of the next item.
struct SpanTiles {
  using S = product::MediumGroups;
  static_assert(S::N == softmax::TILE);

  const product::Args& args;
  const int token_tiles, spans;
  int item, token_tile, span, m, n;
  static constexpr int first_leaf = 0;
  const int last_leaf;

  DEV SpanTiles(const product::Args& args)
      : args(args), token_tiles((int)((args.a.extent + S::M - 1) / S::M)), spans(softmax::spans((int)args.b.extent)),
        item(blockIdx.x), last_leaf(args.leaves) {
    open();
  }
  DEV void open() {
    product::tile_of(item, token_tiles, spans, token_tile, span);
    m = token_tile * S::M;
    n = span * softmax::SPAN;
  }
  DEV bool any() const { return item < token_tiles * spans; }
  DEV bool begins_span() const { return n == span * softmax::SPAN; }
  DEV bool ends_span() const { return n + S::N >= min((span + 1) * softmax::SPAN, (int)args.b.extent); }
  DEV void next() {
    if (!ends_span()) {
      n += S::N;
    } else {
      item += gridDim.x;
      open();
    }
  }
};

// A warp's softmax parts: of its 16 tokens over a span of ids, 128 at a time.
struct GroupSpan {
  using Tiles = Groups<SpanTiles::S, SpanTiles>;
  using Own = Tiles::Own;

  const TokenLogprobArgs& args;
  softmax::Part mine[2]; // of this lane's place in a tile, for tokens row() and row() + 8

  DEV void tile(const Tiles::Sums& total, const SpanTiles& tiles) {
    const int64_t ids = args.product.b.extent, tokens = args.product.a.extent;
    softmax::Part now[2] = {};
    Own::slices([&](int half, int slice) {
      const int64_t token = tiles.m + Own::row() + half * 8, id = tiles.n + slice + Own::eight();
      float z[8];
      Own::take(total, half, slice, z);
      float low[4], high[4];
#pragma unroll
      for (int i = 0; i < 8; i++) {
        z[i] = __fmul_rn(z[i], args.inv_temperature);
        (i < 4 ? low[i % 4] : high[i % 4]) = id < ids ? z[i] : softmax::NOTHING;
      }
      if (token < tokens) keep_target(token, id, z);
      const softmax::Part part = softmax::of_slice(low, high);
      if (lane_id() % 4 == slice / softmax::SLICE) now[half] = part;
    });
#pragma unroll
    for (int half = 0; half < 2; half++)
      mine[half] = tiles.begins_span() ? now[half] : softmax::merge(mine[half], now[half]);
  }

  DEV void keep_target(int64_t token, int64_t id, const float (&z)[8]) const {
    const int64_t at = args.targets[token] - id;
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (at == i) args.of_target[token] = z[i];
  }

  // The four places of a tile, merged ascending; then, by the last warp that comes to these tokens, what the policy says.
  DEV void leave(const SpanTiles& tiles) const {
    const int lane = lane_id(), tokens = (int)args.product.a.extent;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const softmax::Part all = softmax::of_places<1>(mine[half], lane & ~3);
      const int token = tiles.m + Own::row() + half * 8;
      if (lane % 4 == 0 && token < tokens)
        args.parts[(int64_t)token * tiles.spans + tiles.span] = make_float4(all.max, all.sum, all.moment, 0.f);
    }
    const int warp = (threadIdx.x - 128) / 32;
    unsigned* ticket = args.tickets + tiles.token_tile * (SpanTiles::S::MULTIPLYING / 32) + warp;
    if (!last_warp(ticket, tiles.spans)) return;
    if (lane == 0) *ticket = 0;
    const int first = tiles.m + warp * 16;
    for (int token = first; token < min(first + 16, tokens); token++) finish_token(args, token, tiles.spans);
  }
};

DEV void group_token_logprob(const TokenLogprobArgs& args, const TensorMap* x, const TensorMap* w) {
  GroupSpan span{args, {}};
  const auto begin = [](GroupSpan::Tiles::Sums& total, const SpanTiles&) { GroupSpan::Own::clear(total); };
  GroupSpan::Tiles::run(args.product, x, w, begin, [&](GroupSpan::Tiles::Sums& total, const SpanTiles& tiles) {
    span.tile(total, tiles);
    if (tiles.ends_span()) span.leave(tiles);
  });
}

DEV void group_gradient(const GradientArgs& args, const TensorMap* x, const TensorMap* w) {
  using S = product::LargeGroups;
  using Tiles = Groups<S>;
  using Own = Tiles::Own;
  bf16* out = reinterpret_cast<bf16*>(args.product.out);
  const auto begin = [](Tiles::Sums& total, const auto&) { Own::clear(total); };
  Tiles::run(args.product, x, w, begin, [&](Tiles::Sums& total, const auto& items) {
    const int ids = (int)args.product.b.extent, tokens = (int)args.product.a.extent;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int token = items.m + Own::row() + half * 8, known = min(token, tokens - 1);
      const Coefficients of(args, known);
      const int first = items.n + Own::eight(), target = (int)args.targets[known] - args.first_id - first;
      bf16* row = out + (int64_t)token * args.product.out_stride + first;
#pragma unroll
      for (int slice = 0; slice < S::N; slice += 32) {
        float z[8];
        Own::take(total, half, slice, z);
#pragma unroll
        for (int i = 0; i < 8; i++) z[i] = of.of(__fmul_rn(z[i], args.inv_temperature), target == slice + i);
        if (token < tokens && first + slice < ids) store_8(row + slice, z);
      }
    }
  });
}

} // namespace head
