// Equation: the pair (x[i], x[i + D/2]), i < D/2, turned by the angle position theta^(-2i/D): a c - b s, b c + a s.
//   Backward: the same with -s.
// Shapes: x [N, heads, D] bf16, positions [N] u32, cos, sin [table positions, D/2] f32; D a multiple of 16.
// Traffic: 4 bytes an element of x (once in, once out, in place). The table is read once for four heads, from the
//   caches.
// Launch: a thread turns 8 pairs of up to 4 heads of one token: N (D/16) ceil(heads / 4) threads in blocks of 128. No
//   dynamic shared memory.
// Writes: x =. Every pair stands alone: both products and their sum are rounded on their own, as on the host. A
//   position that is not in the table traps.
// Source: Su et al., arXiv 2104.09864, equation 34; halves paired as in Qwen3.
#include <cstddef>

#include "eight.cuh"

// Heads that a thread turns: their loads are all in flight at once, and the angles are read once.
constexpr uint32_t HEADS = 4;

struct Rope {
  bf16* x;
  const uint32_t* positions;
  const float* cos;
  const float* sin;
  uint32_t tokens, heads, d, table;
};
static_assert(sizeof(Rope) == 48 && offsetof(Rope, tokens) == 32 && offsetof(Rope, table) == 44, "as in Rust");

// Which pairs a thread turns: `part` counts eights of a half.
struct Place {
  uint32_t token, head, part;
};

DEV Place place_of(const Rope& a, uint32_t thread) {
  const uint32_t parts = a.d / 16, groups = (a.heads + HEADS - 1) / HEADS, group = thread / parts;
  return Place{group / groups, group % groups * HEADS, thread % parts};
}

// Turns one head's pieces. SIGN is that of the angle.
template <int SIGN> DEV void turn_pair(uint4& low, uint4& high, const Eight& cos, const Eight& sin) {
  Eight a = widen(low), b = widen(high);
#pragma unroll
  for (uint32_t i = 0; i < EIGHT; i++) {
    const float c = cos.at[i], s = SIGN * sin.at[i], x = a.at[i], y = b.at[i];
    a.at[i] = __fsub_rn(__fmul_rn(x, c), __fmul_rn(y, s));
    b.at[i] = __fadd_rn(__fmul_rn(y, c), __fmul_rn(x, s));
  }
  low = narrow(a);
  high = narrow(b);
}

template <int SIGN> DEV void turn(const Rope& a) {
  const Place at = place_of(a, blockIdx.x * 128 + threadIdx.x);
  if (at.token >= a.tokens) return;
  const uint32_t position = a.positions[at.token], pieces = a.d / EIGHT;
  if (position >= a.table) __trap();
  const size_t angles = size_t(position) * (a.d / 2) + at.part * EIGHT;
  const Eight cos = load_eight(a.cos + angles), sin = load_eight(a.sin + angles);
  uint4* x = reinterpret_cast<uint4*>(a.x) + (size_t(at.token) * a.heads + at.head) * pieces + at.part;
  uint4 low[HEADS], high[HEADS];
#pragma unroll
  for (uint32_t h = 0; h < HEADS; h++)
    if (at.head + h < a.heads) low[h] = x[h * pieces], high[h] = x[h * pieces + pieces / 2];
#pragma unroll
  for (uint32_t h = 0; h < HEADS; h++) {
    if (at.head + h >= a.heads) continue;
    turn_pair<SIGN>(low[h], high[h], cos, sin);
    x[h * pieces] = low[h];
    x[h * pieces + pieces / 2] = high[h];
  }
}

KERNEL(128, rope_forward_bf16)(const Rope a) { turn<1>(a); }
EXPORT_KERNEL(128, rope_forward_bf16);
KERNEL(128, rope_backward_bf16)(const Rope a) { turn<-1>(a); }
EXPORT_KERNEL(128, rope_backward_bf16);
