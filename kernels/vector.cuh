// Sixteen bytes at a time: eight bf16 or four f32 between memory and registers. Addresses are 16-byte aligned.
#pragma once
#include "kernel.cuh"

// Two bf16 in one register, `lo` in the lower half, rounded to nearest even.
DEV uint32_t pack_bf16(float lo, float hi) {
  const bf162 pair = __floats2bfloat162_rn(lo, hi);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

DEV float2 unpack_bf16(uint32_t bits) {
  bf162 pair;
  memcpy(&pair, &bits, sizeof pair);
  return __bfloat1622float2(pair);
}

// The lowest bytes of four words, `a`'s lowest.
DEV uint32_t pack_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return (a & 255u) | (b & 255u) << 8 | (c & 255u) << 16 | d << 24;
}

DEV void unpack_8(uint4 bits, float (&x)[8]) {
  const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float2 pair = unpack_bf16(pairs[i]);
    x[2 * i] = pair.x;
    x[2 * i + 1] = pair.y;
  }
}

DEV uint4 pack_8(const float (&x)[8]) {
  return make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]));
}

DEV void load_8(const bf16* from, float (&x)[8]) { unpack_8(*reinterpret_cast<const uint4*>(from), x); }
DEV void store_8(bf16* to, const float (&x)[8]) { *reinterpret_cast<uint4*>(to) = pack_8(x); }
DEV float4 load_4(const float* from) { return *reinterpret_cast<const float4*>(from); }
DEV void store_4(float* to, float4 x) { *reinterpret_cast<float4*>(to) = x; }
DEV void load_8(const float* from, float (&x)[8]) {
  const float4 low = load_4(from), high = load_4(from + 4);
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w, x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}
DEV void store_8(float* to, const float (&x)[8]) {
  store_4(to, make_float4(x[0], x[1], x[2], x[3]));
  store_4(to + 4, make_float4(x[4], x[5], x[6], x[7]));
}
