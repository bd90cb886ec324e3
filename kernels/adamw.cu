// Equation: g' = grad_scale g; w -= lr weight_decay w; m += (1 - beta1) (g' - m); v = beta2 v + (1 - beta2) g'^2; w -=
//   lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps).
// Shapes: w [count] bf16 or f32, g, m, v and master [count] f32; any count, each tensor from a 16-byte boundary on.
// Traffic: bf16 w 24 bytes a parameter, with a master copy 30 (w is only written), f32 w 28: w, m, v once in, once out,
//   g once in.
// Launch: 256 threads, 8 elements a thread: grid = count / 2048 rounded up. No dynamic shared memory.
// Writes: w, m, v, master =. Every element stands alone; each product, sum, quotient and root is rounded on its own or
//   as the fused multiply-add that the host writes, so the f32 values are the host's to the bit. `_stochastic`: w is
//   rounded up with probability (distance to the lower bf16) / (distance between the two): element e adds the 16 random
//   bits that are half e % 2 of word e % 8 / 2 of Philox block e / 8 (its lower 32 bits the counter's first word, the
//   rest the second) to the f32's bits and cuts the lower 16 off; what is not finite is rounded as always. Without
//   noise in the mean, and the same bits on every grid.
// Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, by torch's formulas; stochastic rounding as in Zamirai
//   et al., arXiv 2010.06192.
#include <cstddef>

#include "eight.cuh"
#include "philox.cuh"

struct AdamwStep {
  void* w;
  const float* g;
  float* m;
  float* v;
  float* master;
  uint64_t count;
  float grad_scale, keep, toward_g, beta2, toward_square, step_size, root, eps;
  philox::Key noise;
};
static_assert(sizeof(AdamwStep) == 96 && offsetof(AdamwStep, count) == 40 && offsetof(AdamwStep, noise) == 80,
              "as in Rust");

// What a thread works on: eight elements, or what is left of them.
struct Piece {
  uint64_t first;
  uint32_t present;
};

DEV Piece piece_of(uint64_t count) {
  const uint64_t first = (uint64_t(blockIdx.x) * 256 + threadIdx.x) * EIGHT;
  return Piece{first, uint32_t(min(count - min(first, count), uint64_t(EIGHT)))};
}

DEV Eight load(const float* from, const Piece& at) {
  if (at.present == EIGHT) return load_eight(from + at.first);
  Eight e;
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) e.at[k] = k < at.present ? from[at.first + k] : 0.f;
  return e;
}

DEV void store(float* to, const Piece& at, const Eight& e) {
  if (at.present == EIGHT) return store_eight(to + at.first, e);
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++)
    if (k < at.present) to[at.first + k] = e.at[k];
}

DEV Eight load(const bf16* from, const Piece& at) {
  if (at.present == EIGHT) return widen(*reinterpret_cast<const uint4*>(from + at.first));
  Eight e;
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) e.at[k] = k < at.present ? __bfloat162float(from[at.first + k]) : 0.f;
  return e;
}

DEV void store(bf16* to, const Piece& at, const Eight& e) {
  if (at.present == EIGHT) {
    *reinterpret_cast<uint4*>(to + at.first) = narrow(e);
    return;
  }
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++)
    if (k < at.present) to[at.first + k] = __float2bfloat16(e.at[k]);
}

DEV float updated(const AdamwStep& a, float w, float g, float& m, float& v) {
  const float scaled = __fmul_rn(g, a.grad_scale);
  m = fmaf(a.toward_g, __fsub_rn(scaled, m), m);
  v = fmaf(a.beta2, v, __fmul_rn(__fmul_rn(a.toward_square, scaled), scaled));
  const float denominator = fmaf(__fsqrt_rn(v), a.root, a.eps);
  return __fsub_rn(__fmul_rn(w, a.keep), __fmul_rn(a.step_size, __fdiv_rn(m, denominator)));
}

// The update on `w` in registers; m and v in memory.
DEV Eight update(const AdamwStep& a, const Piece& at, Eight w) {
  const Eight g = load(a.g, at);
  Eight m = load(a.m, at), v = load(a.v, at);
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) w.at[k] = updated(a, w.at[k], g.at[k], m.at[k], v.at[k]);
  store(a.m, at, m);
  store(a.v, at, v);
  return w;
}

// Up or down to a bf16 as 16 random bits say; exact in f32.
DEV float rounded_by(float x, uint32_t random) {
  const uint32_t bits = __float_as_uint(x);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return finite ? __uint_as_float((bits + random) & 0xffff0000u) : x;
}

DEV Eight rounded_stochastically(const Eight& e, const Piece& at, const philox::Key& noise) {
  const uint64_t block = at.first / EIGHT;
  const uint4 words = philox::of_ids(noise, uint32_t(block >> 32), uint32_t(block));
  const uint32_t word[4] = {words.x, words.y, words.z, words.w};
  Eight out;
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) out.at[k] = rounded_by(e.at[k], word[k / 2] >> (k % 2 * 16) & 0xffffu);
  return out;
}

KERNEL(256, adamw_step_f32)(const AdamwStep a) {
  const Piece at = piece_of(a.count);
  float* w = static_cast<float*>(a.w);
  if (at.present) store(w, at, update(a, at, load(w, at)));
}
EXPORT_KERNEL(256, adamw_step_f32);

KERNEL(256, adamw_step_bf16)(const AdamwStep a) {
  const Piece at = piece_of(a.count);
  bf16* w = static_cast<bf16*>(a.w);
  if (at.present) store(w, at, update(a, at, load(w, at)));
}
EXPORT_KERNEL(256, adamw_step_bf16);

KERNEL(256, adamw_step_bf16_stochastic)(const AdamwStep a) {
  const Piece at = piece_of(a.count);
  bf16* w = static_cast<bf16*>(a.w);
  if (at.present) store(w, at, rounded_stochastically(update(a, at, load(w, at)), at, a.noise));
}
EXPORT_KERNEL(256, adamw_step_bf16_stochastic);

KERNEL(256, adamw_step_bf16_master)(const AdamwStep a) {
  const Piece at = piece_of(a.count);
  if (!at.present) return;
  const Eight w = update(a, at, load(a.master, at));
  store(a.master, at, w);
  store(static_cast<bf16*>(a.w), at, w);
}
EXPORT_KERNEL(256, adamw_step_bf16_master);
