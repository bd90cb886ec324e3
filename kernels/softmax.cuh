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

// e^(z - m) of a quad, summed onto zero.
DEV Part of_quad(const float (&z)[QUAD], float max) {
  Part part = {max, 0.f, 0.f};
#pragma unroll
  for (int i = 0; i < QUAD; i++) {
    const float d = __fsub_rn(z[i], part.max), e = __expf(d);
    part.sum = __fadd_rn(part.sum, e);
    part.moment = __fmaf_rn(e, d, part.moment);
  }
  return part;
}

// The parts of lanes STRIDE and more apart, LANES of them, added as a tree.
template <int STRIDE, int LANES> DEV void add_lanes(Part& part) {
#pragma unroll
  for (int lanes = STRIDE; lanes < LANES * STRIDE; lanes *= 2) {
    part.sum = __fadd_rn(part.sum, shuffle_xor(part.sum, lanes));
    part.moment = __fadd_rn(part.moment, shuffle_xor(part.moment, lanes));
  }
}

DEV float largest(const float (&z)[QUAD]) { return fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3])); }

// Of a slice; eight lanes, STRIDE apart, hold a quad each. All eight get it. A score that is not finite makes the moment NaN.
template <int STRIDE> DEV Part of_slice(const float (&z)[QUAD]) {
  float max = largest(z);
#pragma unroll
  for (int lanes = STRIDE; lanes < 8 * STRIDE; lanes *= 2) max = fmaxf(max, shuffle_xor(max, lanes));
  Part part = of_quad(z, fmaxf(max, NOTHING));
  add_lanes<STRIDE, 8>(part);
  return part;
}

// The same where four neighbouring lanes hold two neighbouring quads each.
DEV Part of_slice(const float (&low)[QUAD], const float (&high)[QUAD]) {
  float max = fmaxf(largest(low), largest(high));
#pragma unroll
  for (int lanes = 1; lanes < 4; lanes *= 2) max = fmaxf(max, shuffle_xor(max, lanes));
  Part part = of_quad(low, fmaxf(max, NOTHING));
  const Part next = of_quad(high, part.max);
  part.sum = __fadd_rn(part.sum, next.sum);
  part.moment = __fadd_rn(part.moment, next.moment);
  add_lanes<1, 4>(part);
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

// Of a tile's four places, which lanes `first`, `first` + STRIDE, ... hold: merged ascending, in every lane.
template <int STRIDE> DEV Part of_places(const Part& mine, int first) {
  Part all = {};
#pragma unroll
  for (int place = 0; place < 4; place++) {
    const int lane = first + place * STRIDE;
    const Part part = {__shfl_sync(FULL_WARP, mine.max, lane), __shfl_sync(FULL_WARP, mine.sum, lane),
                       __shfl_sync(FULL_WARP, mine.moment, lane)};
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
