// The softmax statistic of one row of scores: sampling and training both come here, so that their bits agree.
//
// Order: spans of 512 ids. A span is four tiles of 128, a tile four slices of 32, a slice eight quads of neighbouring
// ids. A slice takes its largest score first; then each quad sums its four ids ascending from zero, and the eight quads
// are added as a tree (neighbours, then pairs, then fours). Slices at the same place of a span's tiles are merged
// ascending, then the four places. A row's spans are rescaled to the row's largest score; lane l adds spans l, l + 32, ...
// ascending from zero, and the 32 lanes are added as a tree (distances 16, 8, 4, 2, 1).
//
// Every operation is named (__fadd_rn, ...), so that no compiler contracts it in one kernel and not in the other.
#pragma once
#include "vector.cuh"
#include "warp.cuh"

namespace softmax {

constexpr int QUAD = 4, SLICE = 32, TILE = 128, SPAN = 512;

// The score of an id that does not exist: below all others, and so near to zero that its multiples stay finite.
constexpr float NOTHING = -1e30f;

// Sums over some scores z.
struct Part {
  float max;    // the largest score m
  float sum;    // of e^(z - m)
  float moment; // of e^(z - m) (z - m)
};

DEV int spans(int vocabulary) { return (vocabulary + SPAN - 1) / SPAN; }

// Of a slice; eight lanes, STRIDE apart, hold a quad each. All eight get it. A score that is not finite makes the moment NaN.
template <int STRIDE> DEV Part of_slice(const float (&z)[QUAD]) {
  float max = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
#pragma unroll
  for (int lanes = STRIDE; lanes < 8 * STRIDE; lanes *= 2) max = fmaxf(max, shuffle_xor(max, lanes));
  Part part = {fmaxf(max, NOTHING), 0.f, 0.f};
#pragma unroll
  for (int i = 0; i < QUAD; i++) {
    const float d = __fsub_rn(z[i], part.max), e = __expf(d);
    part.sum = __fadd_rn(part.sum, e);
    part.moment = __fmaf_rn(e, d, part.moment);
  }
#pragma unroll
  for (int lanes = STRIDE; lanes < 8 * STRIDE; lanes *= 2) {
    part.sum = __fadd_rn(part.sum, shuffle_xor(part.sum, lanes));
    part.moment = __fadd_rn(part.moment, shuffle_xor(part.moment, lanes));
  }
  return part;
}

// Sums over more scores, relative to their own largest, added to those of `all`, relative to `all.max`.
DEV void add(Part& all, const Part& more) {
  const float d = __fsub_rn(more.max, all.max), scale = __expf(d);
  all.sum = __fmaf_rn(scale, more.sum, all.sum);
  all.moment = __fmaf_rn(scale, __fmaf_rn(d, more.sum, more.moment), all.moment);
}

DEV Part merge(const Part& earlier, const Part& later) {
  const bool rises = later.max > earlier.max;
  Part all = rises ? later : earlier;
  add(all, rises ? earlier : later);
  return all;
}

// Of a tile's four places, which lanes 0, 8, 16 and 24 hold: merged ascending, in every lane.
DEV Part of_places(const Part& mine) {
  Part all = {};
#pragma unroll
  for (int place = 0; place < 4; place++) {
    const Part part = {__shfl_sync(FULL_WARP, mine.max, place * 8), __shfl_sync(FULL_WARP, mine.sum, place * 8),
                       __shfl_sync(FULL_WARP, mine.moment, place * 8)};
    all = place == 0 ? part : merge(all, part);
  }
  return all;
}

// What is said of a row: ln of the sum of e^z, and -sum p ln p.
struct Row {
  float lse, entropy;
};

// Of a whole row, from the parts of its spans (x, y, z: max, sum, moment); in every lane of the warp that calls.
DEV Row of_row(const float4* parts, int count) {
  float max = NOTHING;
  for (int i = lane_id(); i < count; i += 32) max = fmaxf(max, parts[i].x);
  Part all = {warp_max(max), 0.f, 0.f};
  for (int i = lane_id(); i < count; i += 32) {
    const float4 part = parts[i];
    add(all, {part.x, part.y, part.z});
  }
  all.sum = warp_sum(all.sum);
  all.moment = warp_sum(all.moment);
  const float ln = logf(all.sum);
  return {__fadd_rn(all.max, ln), __fsub_rn(ln, __fdiv_rn(all.moment, all.sum))};
}

} // namespace softmax
