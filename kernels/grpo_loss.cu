// Equation:  with l = logp - behaviour, r = e^l or e^(mean of l over the sequence), c = clamp(r, 1 - low, 1 + high), d =
//            reference - logp: loss = sum w (-min(r A, c A)) + kl sum w_kl k(d) - entropy sum w_entropy H, where A < 0 at most
//            w dual |A|. dL/dlogp = w (-r A where r A <= c A, else 0) + kl w_kl (-k'(d)), dL/dH = -entropy w_entropy.
// Shapes:    every column [N] f32, sequence [N] u32: equal neighbours are of one sequence. sums: twelve f64.
//            of_sequence [N] and starts [N / 32] are scratch.
// Traffic:   44 N bytes and 96 a sequence.
// Launch:    grpo_loss_forward_backward_f32: grid (N / 256), 256 threads, no dynamic shared memory; one struct as argument.
// Writes:    dlogprob, dentropy =; sums +=, in f64: lane l of a warp adds tokens l, l + 32, ... of a sequence ascending from
//            zero, lanes are added as a tree (distances 16, 8, 4, 2, 1), sequences ascending onto the old sums. So neither
//            other sequences nor a batch's split between sequences changes a bit. A sequence's mean of l is summed alike.
// Source:    GRPO arXiv 2402.03300, DAPO 2503.14476, GSPO 2507.18071, dual clip 1912.09729; the settings as in
//            src/ops/grpo_loss.
//
// Each warp owns 32 tokens and takes every sequence that begins there, whole. Loads are one token a lane: a warp reads 128
// neighbouring bytes of nine columns at once, and where sequences begin at any token no wider load would be aligned.
#include "warp.cuh"

namespace grpo_loss {

constexpr int THREADS = 256, WINDOW = 32;

// The order of the fields of `sums`.
enum Field { LOSS, POLICY, KL, ENTROPY, RATIO, KL_ESTIMATE, TOKEN_ENTROPY, LARGEST_GAP, TOKENS, CLIPPED_LOW, CLIPPED_HIGH, CLIPPED_DUAL, FIELDS };
enum RatioOver : int32_t { TOKEN, SEQUENCE };
enum KlForm : int32_t { K1, K2, K3 };

struct Args {
  const float *logprob, *behaviour, *reference; // reference may be null
  const float *entropy, *advantage, *weight, *kl_weight, *entropy_weight;
  const uint32_t* sequence;
  float *dlogprob, *dentropy;
  double* of_sequence; // [N, FIELDS], at each sequence's first token
  uint32_t* starts;    // [N / 32], a bit where a sequence begins
  double* sums;        // [FIELDS]
  unsigned* ticket;    // zero before and after
  float low, high;     // clip below and above: 1 - clip_low, 1 + clip_high
  float dual;          // infinity where there is none
  float kl, entropy_bonus;
  RatioOver ratio;
  KlForm kl_form;
  int32_t tokens;
};
static_assert(sizeof(Args) == 152 && offsetof(Args, low) == 120 && offsetof(Args, tokens) == 148);

typedef double Sums[FIELDS];

DEV double larger(double a, double b) { return a > b || a != a ? a : b; } // NaN if either is
DEV double combine(int field, double a, double b) { return field == LARGEST_GAP ? larger(a, b) : a + b; }

DEV double across_warp(int field, double v) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) v = combine(field, v, __shfl_xor_sync(FULL_WARP, v, lanes));
  return v;
}

// Whether a sequence begins at a token.
DEV bool begins(const Args& args, int i) { return i == 0 || args.sequence[i] != args.sequence[i - 1]; }

// Lanes from `from` on whose tokens are of the same sequence; fewer than 32 where it ends.
DEV int length_here(const Args& args, int from, uint32_t sequence) {
  const int i = from + lane_id();
  const unsigned same = __ballot_sync(FULL_WARP, i < args.tokens && args.sequence[i] == sequence);
  return same == FULL_WARP ? 32 : __ffs(~same) - 1;
}

// The mean of logp - behaviour over the tokens of a sequence that have a weight.
DEV float mean_log_ratio(const Args& args, int start) {
  double sum = 0, count = 0;
  for (int from = start, length = 32; length == 32; from += 32) {
    length = length_here(args, from, args.sequence[start]);
    const int i = from + lane_id();
    if (lane_id() < length && args.weight[i] != 0.f) {
      sum += args.logprob[i] - args.behaviour[i];
      count += 1;
    }
  }
  sum = across_warp(LOSS, sum);
  count = across_warp(LOSS, count);
  return count == 0 ? 0.f : (float)(sum / count);
}

// Adds -w min(r A, c A), where A < 0 at most -w dual A; gives its derivative by the log-ratio.
DEV float policy_term(const Args& args, float ratio, float weight, float advantage, Sums& sums) {
  const float free = ratio * advantage, clipped = fminf(fmaxf(ratio, args.low), args.high) * advantage;
  const bool beyond = advantage < 0.f && ratio > args.dual;
  const float gain = beyond ? args.dual * advantage : clipped < free ? clipped : free;
  const double term = -(weight * gain);
  sums[LOSS] += term;
  sums[POLICY] += term;
  sums[TOKENS] += 1;
  sums[RATIO] += ratio;
  sums[CLIPPED_LOW] += ratio < args.low && advantage < 0.f;
  sums[CLIPPED_HIGH] += ratio > args.high && advantage > 0.f;
  sums[CLIPPED_DUAL] += beyond;
  return free > clipped || beyond ? 0.f : -(weight * free);
}

DEV float kl_estimate(KlForm form, float d) {
  return form == K1 ? -d : form == K2 ? 0.5f * d * d : expf(d) - d - 1.f;
}
DEV float kl_slope(KlForm form, float d) { return form == K1 ? 1.f : form == K2 ? -d : 1.f - expf(d); }

// Adds kl w k(d); gives its dL/dlogp.
DEV float kl_term(const Args& args, int i, float logprob, float policy_weight, Sums& sums) {
  if (!args.reference) return 0.f;
  const float d = args.reference[i] - logprob, estimate = kl_estimate(args.kl_form, d), weight = args.kl * args.kl_weight[i];
  if (policy_weight != 0.f) sums[KL_ESTIMATE] += estimate;
  if (weight == 0.f) return 0.f;
  const double term = weight * estimate;
  sums[LOSS] += term;
  sums[KL] += term;
  return weight * kl_slope(args.kl_form, d);
}

DEV void token(const Args& args, int i, float mean, Sums& sums) {
  const float logprob = args.logprob[i], l = logprob - args.behaviour[i], weight = args.weight[i], entropy = args.entropy[i];
  const float advantage = args.advantage[i], entropy_weight = -(args.entropy_bonus * args.entropy_weight[i]);
  float slope = 0.f;
  if (weight != 0.f) {
    slope = policy_term(args, expf(args.ratio == SEQUENCE ? mean : l), weight, advantage, sums);
    sums[TOKEN_ENTROPY] += entropy;
    sums[LARGEST_GAP] = larger(sums[LARGEST_GAP], fabsf(l));
  }
  args.dlogprob[i] = slope + kl_term(args, i, logprob, weight, sums);
  args.dentropy[i] = entropy_weight;
  if (entropy_weight != 0.f) {
    const double term = entropy_weight * entropy;
    sums[LOSS] += term;
    sums[ENTROPY] += term;
  }
}

// A whole sequence, by one warp.
DEV void sequence_from(const Args& args, int start) {
  const float mean = args.ratio == SEQUENCE ? mean_log_ratio(args, start) : 0.f;
  Sums sums = {};
  for (int from = start, length = 32; length == 32; from += 32) {
    length = length_here(args, from, args.sequence[start]);
    if (lane_id() < length) token(args, from + lane_id(), mean, sums);
  }
#pragma unroll
  for (int field = 0; field < FIELDS; field++) {
    const double all = across_warp(field, sums[field]);
    if (lane_id() == field) args.of_sequence[(int64_t)start * FIELDS + field] = all;
  }
}

// The sequences that begin in a warp's window, one after the other.
DEV void window(const Args& args, int window) {
  const int mine = window * WINDOW + lane_id();
  const unsigned starts = __ballot_sync(FULL_WARP, mine < args.tokens && begins(args, mine));
  if (lane_id() == 0) args.starts[window] = starts;
  for (unsigned rest = starts; rest != 0; rest &= rest - 1) sequence_from(args, window * WINDOW + __ffs(rest) - 1);
}

// Adds the sums of all sequences, ascending, to the old ones: 32 windows at a time, a thread a field.
DEV void add_sequences(const Args& args) {
  SHARED_ARRAY(int, firsts, [WINDOW * 32]);
  SHARED_ARRAY(int, counted, [1]);
  const int windows = (args.tokens + WINDOW - 1) / WINDOW, field = threadIdx.x;
  const bool adds = field < FIELDS;
  double sum = adds ? args.sums[field] : 0;
  for (int from = 0; from < windows; from += 32) {
    if (threadIdx.x < 32) {
      const int mine = from + lane_id();
      const unsigned starts = mine < windows ? args.starts[mine] : 0;
      int before = __popc(starts);
#pragma unroll
      for (int lanes = 1; lanes < 32; lanes *= 2) {
        const int left = __shfl_up_sync(FULL_WARP, before, lanes);
        if (lane_id() >= lanes) before += left;
      }
      if (lane_id() == 31) counted[0] = before;
      before -= __popc(starts);
      for (unsigned rest = starts; rest != 0; rest &= rest - 1) firsts[before++] = mine * WINDOW + __ffs(rest) - 1;
    }
    __syncthreads();
    if (adds) {
#pragma unroll 8
      for (int i = 0; i < counted[0]; i++) sum = combine(field, sum, args.of_sequence[(int64_t)firsts[i] * FIELDS + field]);
    }
    __syncthreads();
  }
  if (adds) args.sums[field] = sum;
}

} // namespace grpo_loss

KERNEL(256, grpo_loss_forward_backward_f32)(const grpo_loss::Args args) {
  using namespace grpo_loss;
  const int mine = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  if (mine * WINDOW < args.tokens) window(args, mine);
  if (!last_block(args.ticket, gridDim.x)) return;
  add_sequences(args);
  if (threadIdx.x == 0) *args.ticket = 0;
}
EXPORT_KERNEL(256, grpo_loss_forward_backward_f32);
