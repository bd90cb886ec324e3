// bf16 storage. There are no implicit conversions, on purpose: what compiles here then compiles under nvcc.
#pragma once
#include <bit>
#include <cstdint>

#include "vector_types.h"

struct alignas(2) __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

namespace on_cpu {
// To nearest, ties to even; every NaN becomes the canonical one, as on the GPU.
inline uint16_t bf16_from(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}
inline float f32_from(uint16_t bf16) { return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16); }
// Of two bf16 in one register, the lower (0) or the upper (1).
inline float bf16_half(uint32_t pair, int half) { return f32_from(static_cast<uint16_t>(pair >> (16 * half))); }
} // namespace on_cpu

inline __nv_bfloat16 __float2bfloat16(float f) { return {on_cpu::bf16_from(f)}; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return {on_cpu::bf16_from(f)}; }
inline float __bfloat162float(__nv_bfloat16 h) { return on_cpu::f32_from(h.bits); }
inline __nv_bfloat162 __floats2bfloat162_rn(float lo, float hi) {
  return {{on_cpu::bf16_from(lo)}, {on_cpu::bf16_from(hi)}};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {on_cpu::f32_from(v.x.bits), on_cpu::f32_from(v.y.bits)}; }
inline float __low2float(__nv_bfloat162 v) { return on_cpu::f32_from(v.x.bits); }
inline float __high2float(__nv_bfloat162 v) { return on_cpu::f32_from(v.y.bits); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
