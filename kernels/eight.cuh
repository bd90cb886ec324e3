// A piece: eight elements of a row, which a thread loads at once (16 bytes of bf16, 32 of f32) and holds as floats in
// registers.
#pragma once
#include "kernel.cuh"
#include "vector.cuh"

constexpr uint32_t EIGHT = 8;

struct Eight {
  float at[EIGHT];
};

DEV Eight zero_eight() { return Eight{{0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f}}; }

DEV Eight widen(uint4 piece) {
  Eight e;
  unpack_8(piece, e.at);
  return e;
}

// Each rounded to the nearest bf16, ties to even.
DEV uint4 narrow(const Eight& e) { return pack_8(e.at); }

DEV Eight load_eight(const float* from) {
  const float4 a = load_4(from), b = load_4(from + 4);
  return Eight{{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

DEV void store_eight(float* to, const Eight& e) {
  store_4(to, make_float4(e.at[0], e.at[1], e.at[2], e.at[3]));
  store_4(to + 4, make_float4(e.at[4], e.at[5], e.at[6], e.at[7]));
}
