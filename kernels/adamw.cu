// Equation: g' = grad_scale g; w -= lr weight_decay w; m += (1 - beta1) (g' - m); v = beta2 v + (1 - beta2) g'^2; w -=
//   lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps).
// Shapes: w [count] bf16 or f32, g, m, v and master [count] f32; `_8bit`: m and v [count] codes, and for each a scale [count
//   / 256 rounded up] f32; any count, each tensor from a 16-byte boundary on.
// Traffic: bf16 w 24 bytes a parameter, with a master copy 30 (w is only written), f32 w 28: w, m, v once in, once out,
//   g once in. `_8bit`: 12.06, with a master copy 18.06.
// Launch: 256 threads, 8 elements a thread: grid = count / 2048 rounded up. No dynamic shared memory.
// Writes: w, m, v, master =. Every element stands alone; each product, sum, quotient and root is rounded on its own or
//   as the fused multiply-add that the host writes, so the f32 values are the host's to the bit. `_stochastic`: w is
//   rounded up with probability (distance to the lower bf16) / (distance between the two): element e adds the 16 random
//   bits that are half e % 2 of word e % 8 / 2 of Philox block e / 8 (its lower 32 bits the counter's first word, the
//   rest the second) to the f32's bits and cuts the lower 16 off; what is not finite is rounded as always. Without
//   noise in the mean, and the same bits on every grid. `_8bit`: a warp's 256 elements share a scale, their largest
//   magnitude, found over a thread's elements and then lanes by butterfly: a maximum has no order.
// Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, by torch's formulas; stochastic rounding as in Zamirai
//   et al., arXiv 2010.06192; codes as in Dettmers et al., arXiv 2110.02861, and src/ops/adamw/codes.rs, to the bit.
#include <cstddef>

#include "eight.cuh"
#include "philox.cuh"
#include "warp.cuh"

struct AdamwStep {
  void* w;
  const float* g;
  void* m;
  void* v;
  float* m_scales;
  float* v_scales;
  const uint4* maps;
  float* master;
  uint64_t count;
  float grad_scale, keep, toward_g, beta2, toward_square, step_size, root, eps;
  philox::Key noise;
};
static_assert(sizeof(AdamwStep) == 120 && offsetof(AdamwStep, count) == 64 && offsetof(AdamwStep, noise) == 104,
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
  float *to_m = static_cast<float*>(a.m), *to_v = static_cast<float*>(a.v);
  const Eight g = load(a.g, at);
  Eight m = load(to_m, at), v = load(to_v, at);
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) w.at[k] = updated(a, w.at[k], g.at[k], m.at[k], v.at[k]);
  store(to_m, at, m);
  store(to_v, at, v);
  return w;
}

// A map between codes and numbers of -1 to 1, as src/ops/adamw/codes.rs lays it out: 0, seven decades and 1 are its groups. A
// number's place is its index among those of its sign, 0's being 0 in the signed map and 1 in the unsigned one.
struct Map {
  // Place, in the unsigned map code, = inverse x + offset, rounded, and at most the group's last.
  float4 inverse_offset_last[9];
  // number = step place + start.
  float2 step_start[9];
  // For the binades from 2^-31 to 1: the one edge between groups that may lie there, and the group below it.
  float2 edge_group[32];
  float2 unused;
};
static_assert(sizeof(Map) == 480, "as in Rust");

constexpr uint32_t ELEMENTS_OF_SCALE = 256;
static_assert(ELEMENTS_OF_SCALE == 32 * EIGHT, "a warp's");
constexpr uint32_t CODE_OF_ZERO = 127;
// Floats from here on are whole numbers, and their lower bits count: additions convert, and not the slow pipe of conversions.
constexpr float WHOLE = 8388608.f;
constexpr float LEAST_BINADE = 0x1p-31f, LEAST_NUMBER = 3.25e-7f;

// A number's exponent tells its group, since each has twice as many places as the one before.
template <bool SIGNED> DEV float number_of(const Map& map, uint32_t code) {
  const float place = __uint_as_float(__float_as_uint(WHOLE) | code) - (SIGNED ? WHOLE + float(CODE_OF_ZERO) : WHOLE - 1.f);
  const uint32_t exponent = __float_as_uint(fabsf(place)) >> 23;
  const float2 group = map.step_start[SIGNED ? max(exponent, 126u) - 126u : exponent - 127u];
  const float number = fmaf(group.x, fabsf(place), group.y);
  return SIGNED ? copysignf(number, place) : number;
}

// The code, in the lowest byte, of the number nearest to x, `least` at least.
template <bool SIGNED> DEV uint32_t code_of(const Map& map, float x, float least) {
  const float magnitude = fmaxf(fabsf(x), least);
  const float2 edge = map.edge_group[(__float_as_uint(magnitude) >> 23) - (127 - 31)];
  const float4 group = map.inverse_offset_last[__float_as_uint(edge.y) + (magnitude >= edge.x ? 1u : 0u)];
  const float whole = fmaf(group.x, magnitude, group.y) + WHOLE;
  if (!SIGNED) return min(__float_as_uint(whole), __float_as_uint(group.z));
  const float place = fmaxf(copysignf(fminf(whole - WHOLE, group.z), x), -float(CODE_OF_ZERO));
  return __float_as_uint(place + (WHOLE + float(CODE_OF_ZERO)));
}

// Codes of a piece as they lie in memory; those that are not there are 0's.
template <bool SIGNED> DEV uint2 load_codes(const uint8_t* from, const Piece& at) {
  if (at.present == EIGHT) return *reinterpret_cast<const uint2*>(from + at.first);
  uint32_t word[2] = {0, 0};
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) {
    const uint32_t code = k < at.present ? from[at.first + k] : SIGNED ? CODE_OF_ZERO : 0u;
    word[k / 4] |= code << (k % 4 * 8);
  }
  return make_uint2(word[0], word[1]);
}

template <bool SIGNED> DEV Eight opened(const Map& map, uint2 codes, float scale) {
  Eight e;
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++)
    e.at[k] = __fmul_rn(number_of<SIGNED>(map, (k < 4 ? codes.x : codes.y) >> (k % 4 * 8) & 255u), scale);
  return e;
}

// The largest magnitude of a warp's elements; NaN if one is. 0 where none is a normal number.
DEV float scale_of(const Eight& e) {
  uint32_t largest = 0;
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) largest = max(largest, __float_as_uint(e.at[k]) & 0x7fffffffu);
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) largest = max(largest, __shfl_xor_sync(FULL_WARP, largest, lanes));
  return largest < 0x00800000u ? 0.f : __uint_as_float(largest);
}

// Codes the elements anew. In the unsigned map what is above 0 stays above 0.
template <bool SIGNED> DEV void close(const Map& map, const Eight& e, uint8_t* codes, float* scales, const Piece& at) {
  const float scale = scale_of(e), inverse = scale == 0.f ? 0.f : __fdiv_rn(1.f, scale);
  uint32_t code[EIGHT];
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) {
    const float least = SIGNED || e.at[k] == 0.f ? LEAST_BINADE : LEAST_NUMBER;
    code[k] = code_of<SIGNED>(map, __fmul_rn(e.at[k], inverse), least);
  }
  if (at.present == EIGHT) {
    *reinterpret_cast<uint2*>(codes + at.first) =
        make_uint2(pack_bytes(code[0], code[1], code[2], code[3]), pack_bytes(code[4], code[5], code[6], code[7]));
  } else {
#pragma unroll
    for (uint32_t k = 0; k < EIGHT; k++)
      if (k < at.present) codes[at.first + k] = uint8_t(code[k]);
  }
  if (lane_id() == 0 && at.present) scales[at.first / ELEMENTS_OF_SCALE] = scale;
}

// As `update`, with moments that are codes. For every thread of the block.
DEV Eight update_8bit(const AdamwStep& a, const Piece& at, Eight w) {
  SHARED_ARRAY(Map, maps, [2]);
  uint8_t *to_m = static_cast<uint8_t*>(a.m), *to_v = static_cast<uint8_t*>(a.v);
  const uint64_t scale = at.first / ELEMENTS_OF_SCALE;
  const bool there = scale * ELEMENTS_OF_SCALE < a.count;
  const Eight g = load(a.g, at);
  const uint2 m_codes = load_codes<true>(to_m, at), v_codes = load_codes<false>(to_v, at);
  const float m_scale = there ? a.m_scales[scale] : 0.f, v_scale = there ? a.v_scales[scale] : 0.f;
  if (threadIdx.x < sizeof(maps) / 16) reinterpret_cast<uint4*>(maps)[threadIdx.x] = a.maps[threadIdx.x];
  __syncthreads();
  Eight m = opened<true>(maps[0], m_codes, m_scale), v = opened<false>(maps[1], v_codes, v_scale);
#pragma unroll
  for (uint32_t k = 0; k < EIGHT; k++) w.at[k] = updated(a, w.at[k], g.at[k], m.at[k], v.at[k]);
  close<true>(maps[0], m, to_m, a.m_scales, at);
  close<false>(maps[1], v, to_v, a.v_scales, at);
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

KERNEL(256, adamw_step_bf16_8bit)(const AdamwStep a) {
  const Piece at = piece_of(a.count);
  bf16* w = static_cast<bf16*>(a.w);
  store(w, at, update_8bit(a, at, load(w, at)));
}
EXPORT_KERNEL(256, adamw_step_bf16_8bit);

KERNEL(256, adamw_step_bf16_8bit_stochastic)(const AdamwStep a) {
  const Piece at = piece_of(a.count);
  bf16* w = static_cast<bf16*>(a.w);
  store(w, at, rounded_stochastically(update_8bit(a, at, load(w, at)), at, a.noise));
}
EXPORT_KERNEL(256, adamw_step_bf16_8bit_stochastic);

KERNEL(256, adamw_step_bf16_8bit_master)(const AdamwStep a) {
  const Piece at = piece_of(a.count);
  const Eight w = update_8bit(a, at, load(a.master, at));
  store(a.master, at, w);
  store(static_cast<bf16*>(a.w), at, w);
}
EXPORT_KERNEL(256, adamw_step_bf16_8bit_master);
