// The place of each key in the sorted order, by counting: no atomics, no passes over digits, and the order is stable. A
// warp counts for eight consecutive keys at once; N keys cost N^2 comparisons, which for the tokens of a batch (16k:
// about 20 us) is less than the rows that they name.
#pragma once
#include "kernel.cuh"
#include "warp.cuh"

constexpr uint32_t QUERIES = 8;

// Keys that a warp asks for, and how many other keys stand before each.
struct Queries {
  uint32_t key[QUERIES];
};
struct Counts {
  uint32_t of[QUERIES];
};

// Keys `first` and on; past the end, 0.
DEV Queries queries_of(const uint32_t* keys, uint32_t first, uint32_t count) {
  Queries queries;
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++) queries.key[i] = first + i < count ? keys[first + i] : 0;
  return queries;
}

DEV void count_one(Counts& below, uint32_t key, const Queries& limit) {
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++) below.of[i] += key < limit.key[i];
}

// Adds, for this lane's share of keys[from..to], how many lie below each limit. `from` is a multiple of 4.
DEV void count_below(Counts& below, const uint32_t* keys, uint32_t from, uint32_t to, const Queries& limit) {
  const uint32_t whole = to - (to - from) % 4;
  for (uint32_t at = from + lane_id() * 4; at < whole; at += 32 * 4) {
    const uint4 four = *reinterpret_cast<const uint4*>(keys + at);
    count_one(below, four.x, limit);
    count_one(below, four.y, limit);
    count_one(below, four.z, limit);
    count_one(below, four.w, limit);
  }
  if (whole + lane_id() < to) count_one(below, keys[whole + lane_id()], limit);
}

// The lanes' counts added up, in every lane.
DEV Counts all_lanes(Counts below) {
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++) below.of[i] = __reduce_add_sync(FULL_WARP, below.of[i]);
  return below;
}

// For each of the keys `first` to `first + 7`: the smaller keys, and the equal ones that stand before it. `first` is a
// multiple of 8; no key is the largest u32.
DEV Counts count_before(const uint32_t* keys, uint32_t count, uint32_t first, const Queries& queries) {
  Counts below{};
  Queries or_equal;
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++) or_equal.key[i] = queries.key[i] + 1;
  const uint32_t start = min(first, count), end = min(first + QUERIES, count);
  count_below(below, keys, 0, start, or_equal);
  count_below(below, keys, end, count, queries);
  Counts all = all_lanes(below);
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++) {
#pragma unroll
    for (uint32_t k = 0; k < i; k++) all.of[i] += queries.key[k] < or_equal.key[i];
#pragma unroll
    for (uint32_t k = i + 1; k < QUERIES; k++) all.of[i] += start + k < end && queries.key[k] < queries.key[i];
  }
  return all;
}

// order[place] = (key, its index) for the warp's keys. A key that is not below `limit` traps.
DEV void store_order(uint2* order, const Counts& before, const Queries& queries, uint32_t first, uint32_t count,
                     uint32_t limit) {
#pragma unroll
  for (uint32_t i = 0; i < QUERIES; i++) {
    if (uint32_t(lane_id()) != i || first + i >= count) continue;
    if (queries.key[i] >= limit) __trap();
    order[before.of[i]] = make_uint2(queries.key[i], first + i);
  }
}
