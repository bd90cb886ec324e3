// What attention's passes share: runs of rows that a block takes, and where the keys of a sequence lie.
//
// Rows of a tile are (query, head of the group) pairs, heads fastest: heads that share a key head share its loads.
#pragma once
#include "swizzled_tile.cuh"
#include "vector.cuh"

#include <cstddef>

namespace attention {

constexpr int CHUNK = 256; // keys that are summed from zero, counted from the sequence's own start
constexpr int KEYS = 64;   // keys of a tile: a chunk is a whole number of tiles
constexpr float LOG2E = 1.4426950408889634f;

enum class Source { Packed, Paged };

// Keys or values of one key head of one sequence, by position. `map` is, for packed rows, pairs (end, shift) with ascending
// ends: the keys at positions below `end` lie in the packed row position + shift, mod 2^32; for the paged cache, its blocks.
template <int D, Source S> struct KeyRows {
  const uint32_t* map;
  int kv_heads, head;
  uint32_t end, shift; // packed: of the run in work

  DEV KeyRows(const uint32_t* map, int kv_heads, int head) : map(map), kv_heads(kv_heads), head(head), end(0), shift(0) {
    if constexpr (S == Source::Packed) end = map[0], shift = map[1];
  }
  // Moves on to the run, or the block, of `position`; tiles of the cache are its blocks.
  DEV void seek(uint32_t position) {
    if constexpr (S == Source::Paged) {
      shift = map[position / KEYS];
    } else {
      while (position >= end) {
        map += 2;
        end = map[0], shift = map[1];
      }
    }
  }
  // Whether the KEYS rows from the position on that was sought lie evenly, `keys` positions being all there are.
  DEV bool even(uint32_t position, uint32_t keys) const { return position + KEYS <= (S == Source::Paged ? keys : end); }
  // Where those lie in a matrix of rows: [rows, KVH D] of packed keys, [Blocks 2 KVH 64, D] of the cache.
  DEV int row(uint32_t position) const {
    return S == Source::Paged ? (int)(shift * 2 * kv_heads + head) * KEYS : (int)(position + shift);
  }
  DEV int column() const { return S == Source::Paged ? 0 : head * D; }
  // First element of the row at a position of the tile that was sought.
  DEV int64_t at(uint32_t position) const {
    if constexpr (S == Source::Paged) {
      return (((int64_t)shift * 2 * kv_heads + head) * KEYS + position % KEYS) * D;
    } else {
      uint32_t add = shift;
      if (position >= end) {
        const uint32_t* run = map + 2;
        while (position >= run[0]) run += 2;
        add = run[1];
      }
      return ((int64_t)(position + add) * kv_heads + head) * D;
    }
  }
};

// Starts the copy of the keys and values at positions from .. from + KEYS - 1, zeros from `keys` on.
template <int D, int THREADS, Source S>
DEV void load_keys(bf16* to_k, bf16* to_v, const bf16* k, const bf16* v, KeyRows<D, S>& rows, int from, int keys) {
  using Tile = SwizzledTile<KEYS, D>;
  rows.seek(from);
#pragma unroll
  for (int i = threadIdx.x; i < Tile::ELEMENTS / 8; i += THREADS) {
    const int row = i / Tile::PIECES, piece = i % Tile::PIECES;
    const bool valid = from + row < keys;
    const int64_t at = valid ? rows.at(from + row) + piece * 8 : 0;
    Tile::copy(to_k, row, piece, k + at, valid);
    Tile::copy(to_v, row, piece, v + at, valid);
  }
}

// Where a tile's row stands in q, out and lse.
struct TileRows {
  int row, count; // first packed row; rows of the tile
  int heads, first_head, group;

  DEV int query(int r) const { return r / group; }
  DEV int64_t index(int r) const { return (int64_t)(row + r / group) * heads + first_head + r % group; }
};

// Starts the copy of ROWS rows of queries, or of what is laid out like them, zeros beyond the tile's.
template <int D, int ROWS, int THREADS> DEV void load_rows(bf16* to, const bf16* from, const TileRows& rows) {
  using Tile = SwizzledTile<ROWS, D>;
#pragma unroll
  for (int i = threadIdx.x; i < Tile::ELEMENTS / 8; i += THREADS) {
    const int row = i / Tile::PIECES, piece = i % Tile::PIECES;
    const bool valid = row < rows.count;
    Tile::copy(to, row, piece, from + (valid ? rows.index(row) * D + piece * 8 : 0), valid);
  }
}

// c = a bᵀ for 16 rows of a tile a [.][D], from row m on, and all rows of a tile b [.][D].
template <class A, class B> DEV void scores(float (&c)[B::ROWS / 8][4], const bf16* a, int m, const bf16* b) {
#pragma unroll
  for (int j = 0; j < B::ROWS / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) c[j][e] = 0.f;
#pragma unroll
  for (int d = 0; d < B::COLUMNS; d += 16) {
    uint32_t left[4];
    A::a(left, a, m, d);
#pragma unroll
    for (int j = 0; j < B::ROWS / 8; j += 2) {
      uint32_t right[4];
      B::b(right, b, j * 8, d);
      mma_m16n8k16_bf16(c[j], left, right[0], right[1]);
      mma_m16n8k16_bf16(c[j + 1], left, right[2], right[3]);
    }
  }
}

// c += w b for 16 rows of weights, rounded to bf16, and columns `first` .. of a tile b.
template <class B, int COLUMNS>
DEV void gather(float (&c)[COLUMNS / 8][4], const float (&w)[B::ROWS / 8][4], const bf16* b, int first) {
#pragma unroll
  for (int row = 0; row < B::ROWS; row += 16) {
    const float(&low)[4] = w[row / 8], (&high)[4] = w[row / 8 + 1];
    const uint32_t left[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                              pack_bf16(high[2], high[3])};
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j += 2) {
      uint32_t right[4];
      B::b_across(right, b, first + j * 8, row);
      mma_m16n8k16_bf16(c[j], left, right[0], right[1]);
      mma_m16n8k16_bf16(c[j + 1], left, right[2], right[3]);
    }
  }
}

// Stores one of a lane's two rows of sums, each times `by`; negative zeros become positive.
template <int D> DEV void store_row(bf16* row, const float (&sums)[D / 8][4], int half, float by) {
  uint32_t* out = reinterpret_cast<uint32_t*>(row) + lane_id() % 4;
#pragma unroll
  for (int j = 0; j < D / 8; j++)
    out[j * 4] = pack_bf16(fmaf(sums[j][half * 2], by, 0.f), fmaf(sums[j][half * 2 + 1], by, 0.f));
}

} // namespace attention
