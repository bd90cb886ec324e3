// Equation: out = silu(gate) up, silu(g) = g s, s = 1 / (1 + e^-g). Backward: gate <- dout up s (1 + g (1 - s)), up <-
//   dout silu(gate).
// Shapes: gate, up, out, dout of any shape, bf16, a multiple of 8 elements.
// Traffic: forward 6 bytes an element, backward 10.
// Launch: 256 threads, two pieces of 8 elements a thread: grid = pieces / 512 rounded up. No dynamic shared memory.
// Writes: out =; gate and up = their gradients, in place. Every element stands alone: no sums.
// Source: Shazeer, arXiv 2002.05202, equation 6.
#include "eight.cuh"

// Pieces that a thread loads before it computes.
constexpr uint32_t PAIR = 2;
constexpr uint32_t THREADS = 256;

DEV float sigmoid(float g) { return 1.f / (1.f + __expf(-g)); }

DEV uint64_t piece_of_thread(uint32_t i) { return uint64_t(blockIdx.x * PAIR + i) * THREADS + threadIdx.x; }

DEV void load_pieces(uint4 (&to)[PAIR], const uint4* from, uint64_t pieces) {
#pragma unroll
  for (uint32_t i = 0; i < PAIR; i++)
    to[i] = piece_of_thread(i) < pieces ? from[piece_of_thread(i)] : make_uint4(0, 0, 0, 0);
}

DEV void store_piece(uint4* to, uint32_t i, uint64_t pieces, const Eight& value) {
  if (piece_of_thread(i) < pieces) to[piece_of_thread(i)] = narrow(value);
}

KERNEL(256, swiglu_forward_bf16)(const uint4* __restrict__ gate, const uint4* __restrict__ up, uint4* __restrict__ out,
                                 uint64_t pieces) {
  uint4 gates[PAIR], ups[PAIR];
  load_pieces(gates, gate, pieces);
  load_pieces(ups, up, pieces);
#pragma unroll
  for (uint32_t i = 0; i < PAIR; i++) {
    Eight g = widen(gates[i]);
    const Eight u = widen(ups[i]);
#pragma unroll
    for (uint32_t k = 0; k < EIGHT; k++) g.at[k] = g.at[k] * sigmoid(g.at[k]) * u.at[k];
    store_piece(out, i, pieces, g);
  }
}
EXPORT_KERNEL(256, swiglu_forward_bf16);

KERNEL(256, swiglu_backward_bf16)(const uint4* __restrict__ dout, uint4* __restrict__ gate, uint4* __restrict__ up,
                                  uint64_t pieces) {
  uint4 douts[PAIR], gates[PAIR], ups[PAIR];
  load_pieces(douts, dout, pieces);
  load_pieces(gates, gate, pieces);
  load_pieces(ups, up, pieces);
#pragma unroll
  for (uint32_t i = 0; i < PAIR; i++) {
    const Eight d = widen(douts[i]);
    Eight g = widen(gates[i]), u = widen(ups[i]);
#pragma unroll
    for (uint32_t k = 0; k < EIGHT; k++) {
      const float s = sigmoid(g.at[k]), silu = g.at[k] * s;
      g.at[k] = d.at[k] * u.at[k] * (s * (1.f + g.at[k] * (1.f - s)));
      u.at[k] = d.at[k] * silu;
    }
    store_piece(gate, i, pieces, g);
    store_piece(up, i, pieces, u);
  }
}
EXPORT_KERNEL(256, swiglu_backward_bf16);
