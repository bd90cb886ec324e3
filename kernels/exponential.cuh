// 2 to a power by one instruction of the special function unit: within 2 units of the last place, results below the
// smallest normal number are zero.
#pragma once
#include "kernel.cuh"

DEV float fast_exp2(float x) {
  GPU(float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y);
  CPU(const float y = exp2f(x); return y < 0x1p-126f ? 0.f : y);
}
