// Which ids top-k and top-p leave of one row, by one block: ids in the order of falling scores, the lower id first among
// equals, up to a cut. The cut is found digit by digit of the ids' places in that order: three reads of the row, and two
// more where equal scores stand at the cut. Counts and masses are integers, so that atomics give the same sums always.
#pragma once
#include "vector.cuh"
#include "warp.cuh"

namespace truncation {

constexpr int THREADS = 1024, BINS = 2048, ID_BITS = 22, LOADS = 4;

// An id's place: ascending, and no two alike. A score that is not a number comes last.
DEV uint64_t place_of(float z, uint32_t id) {
  const uint32_t bits = __float_as_uint(z + 0.f); // 0 and -0 are equal
  const uint32_t rank = z != z ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
  return (uint64_t)~rank << ID_BITS | id;
}

// e^(z - max), and the same in units of 2^-44: a million ids stay below 2^64.
DEV float weight(float z, float max) { return expf(z - max); }
DEV unsigned long long mass_of(float z, float max) {
  const float w = weight(z, max);
  return w != w ? 0 : (unsigned long long)(w * 0x1p44f);
}

struct Tally {
  unsigned long long mass;
  uint32_t count;
};
DEV Tally operator+(const Tally& a, const Tally& b) { return {a.mass + b.mass, a.count + b.count}; }

// What a prefix of the order has to reach: a number of ids, or else a mass, which may be given as a share of the whole.
struct Goal {
  uint32_t count;
  float share;
  double mass;

  DEV bool reached(const Tally& prefix) const { return count ? prefix.count >= count : (double)prefix.mass >= mass; }
};

struct Row {
  const float* z;
  uint32_t ids;
  float max;

  // Calls f(id, z) for every id; several loads are on their way at once.
  template <class F> DEV void each(F f) const {
    for (uint32_t from = threadIdx.x * 4; from < ids; from += LOADS * THREADS * 4) {
      float4 quads[LOADS];
#pragma unroll
      for (int i = 0; i < LOADS; i++) {
        const uint32_t first = from + i * THREADS * 4;
        if (first < ids) quads[i] = load_4(z + first);
      }
#pragma unroll
      for (int i = 0; i < LOADS; i++) {
        const uint32_t first = from + i * THREADS * 4;
        if (first < ids) f(first, quads[i].x);
        if (first + 1 < ids) f(first + 1, quads[i].y);
        if (first + 2 < ids) f(first + 2, quads[i].z);
        if (first + 3 < ids) f(first + 3, quads[i].w);
      }
    }
  }
};

// The prefix found: up to and including a place.
struct Cut {
  uint64_t last;
  Tally kept;
};

// What the next digit says.
struct Choice {
  uint32_t bin;
  Tally ahead, inside;
};

struct Search {
  Row row;
  Goal goal;
  uint64_t prefix; // the leading digits of the cut's place
  Tally ahead;     // of all ids before them
  Tally inside;    // of those that share them

  // One read: goes on into the bin of the next digit in which the goal is reached.
  DEV void narrow(int shift, int bits) {
    SHARED_ARRAY(uint32_t, counts, [BINS]);
    SHARED_ARRAY(unsigned long long, masses, [BINS]);
    SHARED_ARRAY(Choice, choice, [1]);
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) counts[bin] = 0, masses[bin] = 0;
    __syncthreads();
    row.each([&](uint32_t id, float z) {
      const uint64_t place = place_of(z, id);
      if (place >> (shift + bits) != prefix) return;
      const uint32_t bin = (uint32_t)(place >> shift) & ((1u << bits) - 1);
      atomicAdd(&counts[bin], 1u);
      const unsigned long long mass = mass_of(z, row.max);
      if (mass) atomicAdd(&masses[bin], mass);
    });
    __syncthreads();
    if (threadIdx.x < 32) choose(counts, masses, choice);
    __syncthreads();
    prefix = prefix << bits | choice[0].bin;
    ahead = choice[0].ahead;
    inside = choice[0].inside;
  }

  // The first bin with an id that reaches the goal, by one warp: a lane has 64 neighbouring bins.
  DEV void choose(const uint32_t (&counts)[BINS], const unsigned long long (&masses)[BINS], Choice (&choice)[1]) {
    constexpr int MINE = BINS / 32;
    const int first = lane_id() * MINE;
    Tally mine = {}, sum;
    for (int i = first; i < first + MINE; i++) mine = mine + Tally{masses[i], counts[i]};
    sum = mine;
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const Tally left = {__shfl_up_sync(FULL_WARP, sum.mass, lanes), __shfl_up_sync(FULL_WARP, sum.count, lanes)};
      if (lane_id() >= lanes) sum = sum + left;
    }
    const unsigned long long whole = __shfl_sync(FULL_WARP, sum.mass, 31);
    if (goal.share > 0.f) goal = {goal.count, 0.f, (double)goal.share * (double)whole};
    const unsigned reached = __ballot_sync(FULL_WARP, sum.count > 0 && goal.reached(ahead + sum));
    if (lane_id() != (reached ? __ffs(reached) - 1 : 31)) return;
    Choice last = {(uint32_t)first, {}, {}};
    Tally upto = ahead + Tally{sum.mass - mine.mass, sum.count - mine.count};
    for (int i = first; i < first + MINE && !(last.inside.count && goal.reached(upto)); i++) {
      if (counts[i] == 0) continue;
      last = {(uint32_t)i, upto, {masses[i], counts[i]}};
      upto = upto + last.inside;
    }
    choice[0] = last;
  }
};

// The shortest prefix that reaches the goal.
DEV Cut cut(const Row& row, const Goal& goal) {
  Search search = {row, goal, 0, {}, {}};
  int shift = 32 + ID_BITS;
#pragma unroll 1
  for (int digit = 0; digit < 5; digit++) {
    const int bits = digit == 2 ? 10 : 11;
    shift -= bits;
    search.narrow(shift, bits);
    if (shift == ID_BITS && search.inside.count == 1) break;
  }
  return {((search.prefix + 1) << shift) - 1, search.ahead + search.inside};
}

} // namespace truncation
