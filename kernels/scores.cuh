// What the head's kernels take, and what they make of a token's scores, whichever way these are multiplied: a: w and b: x where
// ids stand on the mma's M, else a: x and b: w.
#pragma once
#include "product.cuh"
#include "softmax.cuh"

namespace head {

struct LogitsArgs {
  product::Args product; // out: z
  float inv_temperature;
};
static_assert(sizeof(LogitsArgs) == 104 && offsetof(LogitsArgs, inv_temperature) == 96);

struct TokenLogprobArgs {
  product::Args product;
  const uint32_t* targets;
  float* of_target;  // [N] scratch: the targets' scores
  float4* parts;     // [N, V / 512] scratch
  unsigned* tickets; // [N / 128], zero before and after
  float *logprob, *lse, *entropy;
  float inv_temperature;
};
static_assert(sizeof(TokenLogprobArgs) == 160 && offsetof(TokenLogprobArgs, inv_temperature) == 152);

// What the policy says of a token's target, by one warp.
DEV void finish_token(const TokenLogprobArgs& args, int64_t token, int spans) {
  const softmax::Row row = softmax::of_row(args.parts + token * spans, spans);
  if (lane_id() != 0) return;
  args.logprob[token] = __fsub_rn(args.of_target[token], row.lse);
  args.lse[token] = row.lse;
  args.entropy[token] = row.entropy;
}

struct GradientArgs {
  product::Args product; // some rows of w; out: dz of these ids, rows of `out_stride`
  const uint32_t* targets;
  const float* dlogprob;
  const float* dentropy; // may be null: the entropy is not part of the loss
  const float *lse, *entropy;
  int32_t first_id; // of the rows of w
  float inv_temperature;
};
static_assert(sizeof(GradientArgs) == 144 && offsetof(GradientArgs, first_id) == 136);

// A token's part of the loss: dz = e^t (slope t + level) with t = ln p, and `hot` more at its target.
struct Coefficients {
  float lse, slope, level, hot;

  DEV Coefficients(const GradientArgs& args, int64_t token) {
    const float dentropy = args.dentropy ? args.dentropy[token] : 0.f, dlogprob = args.dlogprob[token];
    lse = args.lse[token];
    slope = -dentropy * args.inv_temperature;
    level = -(dentropy == 0.f ? dlogprob : fmaf(dentropy, args.entropy[token], dlogprob)) * args.inv_temperature;
    hot = dlogprob * args.inv_temperature;
  }
  // A token without a part in the loss has no gradient, whatever its scores.
  DEV float of(float z, bool is_target) const {
    const float t = z - lse, all = __expf(t) * fmaf(slope, t, level) + (is_target ? hot : 0.f);
    return slope == 0.f && level == 0.f ? 0.f : all;
  }
};

} // namespace head
