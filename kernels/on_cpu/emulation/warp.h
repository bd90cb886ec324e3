// Operations in which the lanes of a warp meet.
#pragma once
#include "block.h"

namespace on_cpu {

// Carries `call` out once every lane of its mask has come to the same one; returns this lane's result.
uint64_t meet(Thread& thread, const WarpCall& call);

// A warp that has met: lanes[i] is absent (null) where bit i is not in the mask.
struct Warp {
  Block& block;
  Thread* base;
  uint32_t lanes;

  Thread& lane(int i) const { return base[i]; }
  template <class F> void each(F f) const {
    for (uint32_t left = lanes; left; left &= left - 1) f(base[__builtin_ctz(left)]);
  }
};

void load_matrices(const Warp& warp);
void multiply(const Warp& warp);

} // namespace on_cpu
