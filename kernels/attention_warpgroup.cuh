// What attention's kernels on warpgroup tensor cores share: how operands lie in shared memory, and rings that one warpgroup
// fills while others multiply.
#pragma once
#include "attention.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

namespace attention {

// ROWS rows of D columns in panels of 64 columns, SWIZZLE_128: a row of a panel is 128 bytes, 8 rows are 1024.
// K-major (rows of an operand, d is the depth): the next 8 rows stand 1024 bytes further (SBO); a step of 16 in d is 32 bytes
// further. MN-major (rows are the depth, columns the operand's): the next 8 rows stand 1024 bytes further (SBO), the next 64
// columns a panel further (LBO); a step of 16 rows is 2048 bytes further.
template <int D, int ROWS> struct Panels {
  using Panel = SwizzledTile<ROWS, 64>;
  static constexpr int COUNT = D / 64, ELEMENTS = COUNT * Panel::ELEMENTS, PIECES = ROWS * D / 8;

  static DEV void copy(bf16* to, int row, int piece, const bf16* from, bool valid) {
    Panel::copy(to + piece / 8 * Panel::ELEMENTS, row, piece % 8, from, valid);
  }
  static DEV uint64_t k_major(const bf16* tile, int d) {
    return wgmma_desc(tile + d / 64 * Panel::ELEMENTS + d % 64, 16, 1024, SWIZZLE_128);
  }
  static DEV uint64_t mn_major(const bf16* tile, int row) {
    return wgmma_desc(tile + row * 64, 2 * Panel::ELEMENTS, 1024, SWIZZLE_128);
  }
  // Starts the copy of rows first .. first + ROWS - 1 of a tile of queries, or of what is laid out like them; zeros beyond it.
  template <int THREADS> static DEV void copy_rows(bf16* to, const bf16* from, const TileRows& rows, int first, int thread) {
#pragma unroll 4
    for (int i = thread; i < PIECES; i += THREADS) {
      const int row = i / (D / 8), piece = i % (D / 8);
      const bool valid = first + row < rows.count;
      copy(to, row, piece, from + (valid ? rows.index(first + row) * D + piece * 8 : 0), valid);
    }
  }
};

// Stores one of a lane's two rows of sums, each times `by`, unless it is no row; negative zeros become positive. The four lanes
// of a row trade what they hold of 32 neighbouring columns, so that each stores 16 bytes. All lanes come here.
template <int D> DEV void store_wide(bf16* row, bool valid, const float (&sums)[D / 8][4], int half, float by) {
  const int lane = lane_id() % 4;
#pragma unroll
  for (int j = 0; j < D / 8; j += 4) {
    uint32_t held[4]; // of columns (j + i) 8 + lane 2; at the end of (j + lane) 8 + i 2
#pragma unroll
    for (int i = 0; i < 4; i++)
      held[i] = pack_bf16(fmaf(sums[j + i][half * 2], by, 0.f), fmaf(sums[j + i][half * 2 + 1], by, 0.f));
#pragma unroll
    for (int step = 1; step < 4; step *= 2)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (i & step) continue;
        const bool upper = lane & step;
        const uint32_t got = __shfl_xor_sync(0xffffffffu, upper ? held[i] : held[i + step], step);
        (upper ? held[i] : held[i + step]) = got;
      }
    if (valid) reinterpret_cast<uint4*>(row)[j + lane] = make_uint4(held[0], held[1], held[2], held[3]);
  }
}

// A stage of a ring, and the parity of the round in which it comes next.
template <int STAGES> struct Place {
  int stage = 0;
  unsigned round = 0;

  DEV void next() {
    if (++stage == STAGES) stage = 0, round ^= 1;
  }
};

struct Ring {
  bf16* stages;
  uint64_t *full, *empty; // of each stage

  // By a warp that has read a stage.
  DEV void release(int stage) const {
    if (lane_id() == 0) mbar_arrive(&empty[stage]);
  }
};

// Keys, or values, of UNIT positions, of which `end` exist: 64 at a time by bulk copies where they lie evenly, row by row
// where they do not; zeros where there are none.
template <int D, int UNIT, Source S> struct Unit {
  using Tile = Panels<D, UNIT>;
  static constexpr int ARRIVALS = 32 + UNIT / KEYS; // at a stage's `full`

  static DEV void copy_rows(bf16* to, int half, const bf16* from, const KeyRows<D, S>& rows, int first, int end) {
#pragma unroll 4
    for (int i = lane_id(); i < KEYS * D / 8; i += 32) {
      const int row = i / (D / 8), piece = i % (D / 8);
      const bool valid = first + row < end;
      Tile::copy(to, half + row, piece, from + (valid ? rows.at(first + row) + piece * 8 : 0), valid);
    }
  }

  // By one warp.
  static DEV void fill(bf16* to, uint64_t* full, const TensorMap* map, const bf16* from, KeyRows<D, S>& rows, int unit, int end) {
    bool copies = false;
#pragma unroll
    for (int half = 0; half < UNIT; half += KEYS) {
      const int first = unit + half;
      if (first < end) rows.seek(first);
      const bool even = rows.even(first, end); // a position that is sought no more lies behind the last run, too
      if (lane_id() == 0) mbar_arrive_expect_tx(full, even ? KEYS * D * 2 : 0);
      if (!even) {
        copy_rows(to, half, from, rows, first, end);
        copies = true;
      } else if (lane_id() == 0) {
#pragma unroll
        for (int panel = 0; panel < Tile::COUNT; panel++)
          tma_load_2d(to + panel * Tile::Panel::ELEMENTS + half * 64, map, rows.column() + panel * 64, rows.row(first), full);
      }
    }
    if (copies) {
      cp_async_commit();
      cp_async_wait<0>();
      fence_proxy_async();
    }
    mbar_arrive(full);
  }
};

} // namespace attention
