// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), word for word what
// src/ops/philox.rs computes: a number is a pure function of a key and a counter.
#pragma once
#include "kernel.cuh"

namespace philox {

// The random numbers of one request: a key, and the upper half of its counters.
struct Key {
  uint2 key, upper;
};

// Four words at `counter`.
DEV uint4 words(uint2 key, uint4 counter) {
  constexpr unsigned long long MULTIPLIER_X = 0xD2511F53u, MULTIPLIER_Z = 0xCD9E8D57u;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned long long p = MULTIPLIER_X * counter.x, q = MULTIPLIER_Z * counter.z;
    counter = make_uint4((uint32_t)(q >> 32) ^ counter.y ^ key.x, (uint32_t)q, (uint32_t)(p >> 32) ^ counter.w ^ key.y,
                         (uint32_t)p);
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}

// The words of vocabulary ids 4 block .. 4 block + 3 at `position`.
DEV uint4 of_ids(const Key& key, uint32_t position, uint32_t block) {
  return words(key.key, make_uint4(block, position, key.upper.x, key.upper.y));
}

} // namespace philox
