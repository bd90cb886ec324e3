// Tiles of bf16 in shared memory, laid out so that ldmatrix meets no bank twice, and the operands of mma read from them.
//
// A tile is ROWS rows of COLUMNS elements; rows are cut into pieces of 16 bytes. Within a line of 128 bytes the pieces
// trade places by a number that differs in any 8 neighbouring rows, so that 8 rows of one piece touch all 32 banks once.
#pragma once
#include "async_copy.cuh"
#include "kernel.cuh"
#include "tensor_core.cuh"
#include "warp.cuh"

template <int ROWS_, int COLUMNS_> struct SwizzledTile {
  static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, ELEMENTS = ROWS * COLUMNS, PIECES = COLUMNS / 8;
  static_assert((PIECES & (PIECES - 1)) == 0 && PIECES >= 2, "rows of 16, 32, 64, 128, ... elements");

  // First element of a row's piece.
  static DEV int at(int row, int piece) {
    constexpr int rows_in_line = PIECES < 8 ? 8 / PIECES : 1, mask = PIECES < 8 ? PIECES - 1 : 7;
    return row * COLUMNS + ((piece ^ ((row / rows_in_line) & mask)) << 3);
  }

  // Starts the copy of a piece, or fills it with zeros where !valid.
  static DEV void copy(bf16* tile, int row, int piece, const bf16* from, bool valid) {
    cp_async_16(tile + at(row, piece), from, valid);
  }

  // Operand a, 16 x 16 at (m, k), of a tile [m][k].
  static DEV void a(uint32_t (&a)[4], const bf16* tile, int m, int k) {
    const int lane = lane_id();
    ldmatrix_x4(a, tile + at(m + (lane & 15), k / 8 + (lane >> 4)));
  }

  // Operand a, 16 x 16 at (m, k), of a tile [k][m].
  static DEV void a_across(uint32_t (&a)[4], const bf16* tile, int m, int k) {
    const int lane = lane_id();
    ldmatrix_x4_trans(a, tile + at(k + (lane & 7) + ((lane >> 4) << 3), m / 8 + ((lane >> 3) & 1)));
  }

  // Operands b of columns n .. n + 7 (b[0], b[1]) and n + 8 .. n + 15 (b[2], b[3]), k .. k + 15, of a tile [n][k].
  static DEV void b(uint32_t (&b)[4], const bf16* tile, int n, int k) {
    const int lane = lane_id();
    ldmatrix_x4(b, tile + at(n + (lane & 7) + ((lane >> 4) << 3), k / 8 + ((lane >> 3) & 1)));
  }

  // The same of a tile [k][n].
  static DEV void b_across(uint32_t (&b)[4], const bf16* tile, int n, int k) {
    const int lane = lane_id();
    ldmatrix_x4_trans(b, tile + at(k + (lane & 15), n / 8 + (lane >> 4)));
  }
};
