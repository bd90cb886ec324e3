// What the cores of attention's forward share: the items of work, and the sums that keys leave.
#pragma once
#include "attention.cuh"

namespace attention {

struct Item {
  uint32_t row, queries; // packed rows
  uint32_t start;        // position of the first query
  uint32_t end;          // positions of the whole span: so many keys lie in memory
  uint32_t map;          // where the span's keys begin in `map`
  uint32_t first, last;  // chunks of this part
  uint32_t slot;         // of chunk 0 in `partial` and of the ticket, where there are several parts
  uint32_t parts;
};
struct ForwardArgs {
  const bf16 *q, *k, *v;
  bf16* out;
  float* lse;
  const Item* items;
  const uint32_t* map;
  float* partial;    // of each chunk, key head and group of threads that share a ticket: [4 + columns of a warp / 2, threads]
  unsigned* tickets; // of each chunk, key head and such group, zero before and after
  int32_t heads, kv_heads;
  float scale;
  int32_t items_count;
};
static_assert(sizeof(Item) == 36 && sizeof(ForwardArgs) == 88 && offsetof(ForwardArgs, heads) == 72);

// What keys add up to, for rows lane / 4 and lane / 4 + 8 of a warp's 16: in units of scores before the scale.
template <int COLUMNS> struct Sums {
  static constexpr int NUMBERS = COLUMNS / 2 + 4; // of a thread
  float m[2], l[2], o[COLUMNS / 8][4];

  DEV void clear() {
#pragma unroll
    for (int half = 0; half < 2; half++) m[half] = -INFINITY, l[half] = 0.f;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) o[j][e] = 0.f;
  }

  // Adds the four lanes of a row.
  DEV void close() {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      l[half] += __shfl_xor_sync(0xffffffffu, l[half], 1);
      l[half] += __shfl_xor_sync(0xffffffffu, l[half], 2);
    }
  }

  // Adds the sums of the chunk that follows.
  DEV void merge(const Sums& part, float log2_scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float largest = fmaxf(m[half], part.m[half]), from = largest == -INFINITY ? 0.f : largest;
      const float old = exp2f(__fmul_rn(m[half] - from, log2_scale));
      const float fresh = exp2f(__fmul_rn(part.m[half] - from, log2_scale));
      m[half] = largest;
      l[half] = fmaf(l[half], old, __fmul_rn(part.l[half], fresh));
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
        for (int e = half * 2; e < half * 2 + 2; e++) o[j][e] = fmaf(o[j][e], old, __fmul_rn(part.o[j][e], fresh));
    }
  }

  // Calls f(place, number) for each number; `at` is where the thread's first stands, the next is `threads` further.
  template <class F> DEV void each(float* at, int threads, F f) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      f(at[half * threads], m[half]);
      f(at[(2 + half) * threads], l[half]);
    }
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) f(at[(4 + j * 4 + e) * threads], o[j][e]);
  }
  DEV void leave(float* at, int threads) {
    each(at, threads, [](float& place, float number) { place = number; });
  }
  // Adds `chunks` chunks that were left, neighbours `stride` numbers apart.
  DEV void collect(float* at, int threads, int chunks, int64_t stride, float log2_scale) {
    Sums part;
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; chunk++) {
      part.each(at + chunk * stride, threads, [](const float& place, float& number) { number = place; });
      merge(part, log2_scale);
    }
  }
};

} // namespace attention
