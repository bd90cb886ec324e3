// Equation:  z + g is largest at the drawn id, g = -ln(-ln u), u = (word + 1/2) / 2^32, word = Philox(request, position, id);
//            lse = ln sum e^z, H = -sum p ln p over all V ids. No backward.
// Shapes:    logits [B, V] f32, V a multiple of 4; draws [B]; drawn [B]; parts [B, V / 512] and tickets [B] are scratch.
// Traffic:   B V 4 bytes: one read, and about one span of 512 ids of each row again (two at most on average). Truncated
//            rows: the same, then reads of the row: one for min-p alone, four for top-k or top-p, seven for both; two more
//            for each of the two where equal scores stand at its cut.
// Launch:    sample_forward_f32: grid (V / 2048, B), 128 threads; then, where a row is truncated, sample_truncated_f32: grid
//            (B), 1024 threads. No dynamic shared memory; one struct as argument. V below 2^22 for truncation.
// Writes:    drawn =; tickets are zero before and after. A row's bits depend on its scores and its draw alone: the order of
//            its sums is that of softmax.cuh, and whoever races, the same id wins.
// Source:    Gumbel-max; Philox4x32-10 (Salmon et al., SC 2011).
//
// The race is the host's: scores z + g in f64, the lowest id among equals, so that the same id wins wherever the two
// machines' double logarithms agree. Only few ids take part. With t = 1 - u the number g is at most -ln t, which costs one
// fast logarithm; each warp leaves the largest z - ln t of its span, and the last block of a row races the spans whose
// bound reaches the best score found, the most promising first. Greedy drawing is the same race with g = 0; so is what
// sample_forward_f32 does for a truncated row, whose most likely id and statistics sample_truncated_f32 starts from.
#include "philox.cuh"
#include "softmax.cuh"
#include "truncation.cuh"

namespace sample {

constexpr int WARPS = 4, THREADS = 32 * WARPS;
static_assert(THREADS * softmax::QUAD == softmax::SPAN, "the last block races a span at a time");

enum Choice : uint32_t { GREEDY, GUMBEL, FORCED, TRUNCATED };

// What one row asks for.
struct alignas(16) Draw {
  philox::Key key;
  uint32_t position;
  uint32_t vocabulary; // ids from here on are never drawn
  uint32_t choice;
  uint32_t forced; // the id, where it is
  uint32_t top_k;  // of a truncated row; 0: all
  float top_p;     // 1: all
  float min_p;     // 0: all
  uint32_t unused;
};
static_assert(sizeof(Draw) == 48 && offsetof(Draw, position) == 16 && offsetof(Draw, min_p) == 40);

struct Drawn {
  uint32_t token;
  float logprob, lse, entropy;
};

struct Args {
  const float* logits;
  const Draw* draws;
  float4* parts;
  unsigned* tickets;
  Drawn* drawn;
  int32_t vocabulary; // V
};
static_assert(sizeof(Args) == 48 && offsetof(Args, vocabulary) == 40);

// One of four, without an array in memory.
template <class T> DEV T pick(T a, T b, T c, T d, int i) { return i < 2 ? (i == 0 ? a : b) : (i == 2 ? c : d); }

// At least -ln(-ln u): of t = 1 - u = (~word + 1/2) / 2^32 the number -ln u is no less than t itself.
DEV float gumbel_bound(uint32_t word) { return 22.180710f - __logf((float)~word + 0.5f); }

// What the bound of a score may miss by rounding: that of two fast logarithms' distance, and of a sum of this size.
DEV double slack(double score) { return 1e-4 + fabs(score) * 0x1p-22; }

DEV double gumbel(uint32_t word) { return -log(-log(((double)word + 0.5) * 0x1p-32)); }

// No less, but for slack, than the score that an id races with.
DEV float bound_of(bool gumbel, float z, uint32_t word) { return gumbel ? z + gumbel_bound(word) : z; }

// The words of a quad of ids; where none are needed, none are made.
DEV uint4 words_of(const Draw& draw, uint32_t first) {
  if (draw.choice != GUMBEL) return make_uint4(0, 0, 0, 0);
  return philox::of_ids(draw.key, draw.position, first / softmax::QUAD);
}

// The largest bound of a quad's scores.
DEV float quad_bound(const Draw& draw, uint32_t first, const float (&z)[4]) {
  const uint4 four = words_of(draw, first);
  const uint32_t words[4] = {four.x, four.y, four.z, four.w};
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (first + i < draw.vocabulary) most = fmaxf(most, bound_of(draw.choice == GUMBEL, z[i], words[i]));
  }
  return most;
}

// A span's softmax part and bound, by one warp: four independent loads, then arithmetic.
DEV void leave_span(const Args& args, const Draw& draw, const float* row, int span) {
  const int first = span * softmax::SPAN + lane_id() * softmax::QUAD;
  float z[4][4], bound = -INFINITY;
#pragma unroll
  for (int tile = 0; tile < 4; tile++) {
    const int id = first + tile * softmax::TILE;
    float4 quad = make_float4(softmax::NOTHING, softmax::NOTHING, softmax::NOTHING, softmax::NOTHING);
    if (id < args.vocabulary) quad = load_4(row + id);
    z[tile][0] = quad.x, z[tile][1] = quad.y, z[tile][2] = quad.z, z[tile][3] = quad.w;
  }
  softmax::Part place = softmax::of_slice<1>(z[0]);
#pragma unroll
  for (int tile = 1; tile < 4; tile++) place = softmax::merge(place, softmax::of_slice<1>(z[tile]));
#pragma unroll
  for (int tile = 0; tile < 4; tile++) bound = fmaxf(bound, quad_bound(draw, first + tile * softmax::TILE, z[tile]));
  bound = warp_max(bound);
  const softmax::Part all = softmax::of_places<8>(place, 0);
  if (lane_id() == 0) args.parts[(int64_t)blockIdx.y * softmax::spans(args.vocabulary) + span] = make_float4(all.max, all.sum, all.moment, bound);
}

struct Best {
  double score;
  uint32_t id;
};

DEV Best better(const Best& a, const Best& b) {
  return b.score > a.score || (b.score == a.score && b.id < a.id) ? b : a;
}

// The best of all threads' bests, in every thread.
template <int WARPS> DEV Best best_of_block(Best best) {
  SHARED_ARRAY(Best, bests, [WARPS]);
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2)
    best = better(best, {__shfl_xor_sync(FULL_WARP, best.score, lanes), __shfl_xor_sync(FULL_WARP, best.id, lanes)});
  __syncthreads();
  if (lane_id() == 0) bests[threadIdx.x / 32] = best;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < WARPS; warp++) best = better(best, bests[warp]);
  return best;
}

// Lets the ids of a span race, a quad a thread.
DEV Best race(const Draw& draw, const float* row, int span, Best best) {
  const uint32_t first = span * softmax::SPAN + threadIdx.x * softmax::QUAD;
  if (first < draw.vocabulary) {
    const float4 quad = load_4(row + first);
    const uint4 four = words_of(draw, first);
#pragma unroll 1
    for (int i = 0; i < 4 && first + i < draw.vocabulary; i++) {
      const float z = pick(quad.x, quad.y, quad.z, quad.w, i);
      const uint32_t word = pick(four.x, four.y, four.z, four.w, i);
      if (bound_of(draw.choice == GUMBEL, z, word) < best.score - slack(best.score)) continue;
      best = better(best, {draw.choice == GUMBEL ? z + gumbel(word) : (double)z, first + i});
    }
  }
  return best_of_block<WARPS>(best);
}

// The span of the largest bound, the first among equals; the same in every warp.
DEV int most_promising(const float4* parts, int count) {
  float most = -INFINITY;
  int at = 0;
  for (int i = lane_id(); i < count; i += 32)
    if (parts[i].w > most) most = parts[i].w, at = i;
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const float other = __shfl_xor_sync(FULL_WARP, most, lanes);
    const int there = __shfl_xor_sync(FULL_WARP, at, lanes);
    if (other > most || (other == most && there < at)) most = other, at = there;
  }
  return at;
}

// Races the most promising span, then every other that could still hold the winner.
DEV uint32_t winner(const Draw& draw, const float* row, const float4* parts, int count) {
  SHARED_ARRAY(unsigned, could_win, [WARPS]);
  const int favourite = most_promising(parts, count);
  Best best = race(draw, row, favourite, {-INFINITY, 0});
  for (int from = 0; from < count; from += THREADS) {
    const int mine = from + threadIdx.x;
    const bool could = mine < count && mine != favourite && parts[mine].w >= best.score - slack(best.score);
    const unsigned lanes = __ballot_sync(FULL_WARP, could);
    __syncthreads();
    if (lane_id() == 0) could_win[threadIdx.x / 32] = lanes;
    __syncthreads();
    for (int warp = 0; warp < WARPS; warp++)
      for (unsigned rest = could_win[warp]; rest != 0; rest &= rest - 1)
        best = race(draw, row, from + warp * 32 + __ffs(rest) - 1, best);
  }
  return best.id;
}

DEV void finish_row(const Args& args, const Draw& draw, const float* row) {
  const int count = softmax::spans(args.vocabulary);
  const float4* parts = args.parts + (int64_t)blockIdx.y * count;
  const uint32_t token = draw.choice == FORCED ? draw.forced : winner(draw, row, parts, count);
  const softmax::Row all = softmax::of_row(parts, count);
  if (threadIdx.x == 0) {
    args.drawn[blockIdx.y] = {token, __fsub_rn(row[token], all.lse), all.lse, all.entropy};
    args.tickets[blockIdx.y] = 0;
  }
}

// Gumbel-max among the ids that the truncation keeps.
DEV uint32_t winner_of_kept(const Draw& draw, const truncation::Row& row) {
  uint64_t last = ~0ull;
  if (draw.top_k != 0) {
    const truncation::Cut cut = truncation::cut(row, {min(draw.top_k, row.ids), 0.f, 0});
    last = cut.last;
    if (draw.top_p < 1.f) last = truncation::cut(row, {0, 0.f, (double)draw.top_p * (double)cut.kept.mass}).last;
  } else if (draw.top_p < 1.f) {
    last = truncation::cut(row, {0, draw.top_p, 0}).last;
  }
  Best best = {-INFINITY, 0};
  row.each([&](uint32_t id, float z) {
    if (truncation::place_of(z, id) > last || truncation::weight(z, row.max) < draw.min_p) return;
    const uint4 four = philox::of_ids(draw.key, draw.position, id / 4);
    const uint32_t word = pick(four.x, four.y, four.z, four.w, id % 4);
    if (bound_of(true, z, word) < best.score - slack(best.score)) return;
    best = better(best, {z + gumbel(word), id});
  });
  return best_of_block<truncation::THREADS / 32>(best).id;
}

} // namespace sample

KERNEL(128, sample_forward_f32)(sample::Args args) {
  const sample::Draw draw = args.draws[blockIdx.y];
  const float* row = args.logits + (int64_t)blockIdx.y * args.vocabulary;
  const int span = blockIdx.x * sample::WARPS + threadIdx.x / 32;
  if (span < softmax::spans(args.vocabulary)) sample::leave_span(args, draw, row, span);
  if (last_block(args.tickets + blockIdx.y, gridDim.x)) sample::finish_row(args, draw, row);
}
EXPORT_KERNEL(128, sample_forward_f32);

KERNEL(1024, sample_truncated_f32)(sample::Args args) {
  const sample::Draw draw = args.draws[blockIdx.x];
  if (draw.choice != sample::TRUNCATED) return;
  const float* row = args.logits + (int64_t)blockIdx.x * args.vocabulary;
  sample::Drawn& drawn = args.drawn[blockIdx.x];
  const uint32_t token = sample::winner_of_kept(draw, {row, draw.vocabulary, row[drawn.token]});
  if (threadIdx.x == 0) drawn.token = token, drawn.logprob = __fsub_rn(row[token], drawn.lse);
}
EXPORT_KERNEL(1024, sample_truncated_f32);
