// ldmatrix and mma.sync, by the fragment layouts of the PTX ISA.
#include <cstring>

#include "bfloat16.h"
#include "warp.h"

namespace on_cpu {
namespace {

struct MatrixOperands {
  uint32_t* registers;
  const unsigned char* row;
};

struct ProductOperands {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

// How often the banks would have to be read beyond once: rows of one matrix that fall on the same four banks.
uint64_t extra_passes(const unsigned char* const (&rows)[8]) {
  unsigned on_banks[8] = {}, worst = 1;
  for (int r = 0; r < 8; r++) {
    bool repeated = false;
    for (int q = 0; q < r; q++) repeated |= rows[q] == rows[r];
    if (!repeated) worst = std::max(worst, ++on_banks[(reinterpret_cast<uintptr_t>(rows[r]) >> 4) & 7]);
  }
  return worst - 1;
}

} // namespace

void load_matrices(const Warp& warp) {
  const WarpCall& call = warp.lane(0).call;
  const int matrices = call.detail & 7;
  const bool transposed = call.detail >> 3;
  const Place here = place(call.where);
  Counters& counters = warp.block.launch->counters;
  counters.ldmatrix++;
  const auto operands = [&](int lane) { return *static_cast<const MatrixOperands*>(warp.lane(lane).call.operands); };
  for (int m = 0; m < matrices; m++) {
    const unsigned char* rows[8];
    for (int r = 0; r < 8; r++) {
      rows[r] = operands(m * 8 + r).row;
      warp.block.access_shared(warp.lane(m * 8 + r), warp.block.shared.offset(rows[r]), 16, Access::READ, here);
    }
    counters.ldmatrix_extra_passes += extra_passes(rows);
    for (int lane = 0; lane < 32; lane++) { // two neighbours of row lane / 4, or of a column
      const auto element = [&](int half) {
        const int along = lane % 4 * 2 + half, across = lane / 4;
        uint16_t bits;
        std::memcpy(&bits, rows[transposed ? along : across] + 2 * (transposed ? across : along), 2);
        return static_cast<uint32_t>(bits);
      };
      operands(lane).registers[m] = element(0) | element(1) << 16;
    }
  }
}

// Each element adds its sixteen products to d in ascending k; every product and every sum is rounded to f32. The GPU's order
// and rounding inside one instruction are not documented.
void multiply(const Warp& warp) {
  warp.block.launch->counters.mma++;
  const auto operands = [&](int lane) { return *static_cast<const ProductOperands*>(warp.lane(lane).call.operands); };
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const ProductOperands own = operands(lane);
    const int row = lane / 4, column = lane % 4 * 2;
    for (int half = 0; half < 2; half++) {
      a[row][column + half] = bf16_half(own.a[0], half);
      a[row + 8][column + half] = bf16_half(own.a[1], half);
      a[row][column + 8 + half] = bf16_half(own.a[2], half);
      a[row + 8][column + 8 + half] = bf16_half(own.a[3], half);
      b[column + half][row] = bf16_half(own.b[0], half);
      b[column + 8 + half][row] = bf16_half(own.b[1], half);
      d[row][column + half] = own.d[half];
      d[row + 8][column + half] = own.d[2 + half];
    }
  }
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++)
      for (int j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
  for (int lane = 0; lane < 32; lane++) {
    float* own = operands(lane).d;
    for (int half = 0; half < 2; half++) {
      own[half] = d[lane / 4][lane % 4 * 2 + half];
      own[2 + half] = d[lane / 4 + 8][lane % 4 * 2 + half];
    }
  }
}

void ldmatrix(uint32_t* registers, int matrices, Order order, const void* row, Location where) {
  Thread& thread = *current;
  if (thread.lane < matrices * 8) thread.block->shared_operand(row, 16, 16, "ldmatrix", where);
  const MatrixOperands operands{registers, static_cast<const unsigned char*>(row)};
  const int detail = matrices | (order == Order::COLUMNS ? 8 : 0);
  meet(thread, {WarpKind::LDMATRIX, ~0u, detail, where, 0, 0, &operands});
}

void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, Location where) {
  const ProductOperands operands{d, a, b};
  meet(*current, {WarpKind::MMA, ~0u, 0, where, 0, 0, &operands});
}

} // namespace on_cpu
