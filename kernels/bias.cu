// Equation: y += bias, a number a column. Backward: dbias += sum of dy's rows.
// Shapes: y, dy [rows, columns] bf16, bias, dbias [columns] f32. A thread takes a piece of a row: eight columns, and
//   columns is a multiple of 8; in `_any` one column, and there may be any number.
// Traffic: forward 4 bytes an element; backward 2, and 8 bytes a column for each chunk of rows.
// Launch: 128 threads. Forward: grid.x = pieces of a row / 128 rounded up, grid.y = rows / 8 rounded up. Backward:
//   grid.x as before, grid.y = chunks of the leaf table, whose chunk_rows is 64. Sums: grid = columns / 32 rounded up,
//   1024 threads. No dynamic shared memory.
// Writes: y +=, rounded once; dbias +=: in a chunk rows ascending from zero, then as leaf_sums.cuh says.
// Source: none needed.
#include "eight.cuh"
#include "leaf_sums.cuh"

// Rows whose loads are in flight at once.
constexpr uint32_t ROWS = 8;

// A single column, where a row is not made of eights.
struct One {
  float at[1];
};

// What a thread loads of a row, 16 bytes or one element, as floats.
template <class Raw> struct Floats {
  using Type = Eight;
};
template <> struct Floats<bf16> {
  using Type = One;
};
DEV Eight floats_of(uint4 raw) { return widen(raw); }
DEV One floats_of(bf16 raw) { return One{{__bfloat162float(raw)}}; }
DEV uint4 rounded(const Eight& x) { return narrow(x); }
DEV bf16 rounded(const One& x) { return __float2bfloat16(x.at[0]); }
DEV void load(Eight& to, const float* from) { to = load_eight(from); }
DEV void load(One& to, const float* from) { to.at[0] = *from; }
DEV void store(float* to, const Eight& x) { store_eight(to, x); }
DEV void store(float* to, const One& x) { *to = x.at[0]; }
DEV void clear(uint4& raw) { raw = make_uint4(0, 0, 0, 0); }
DEV void clear(bf16& raw) { raw = __float2bfloat16(0.f); }

template <class Raw> constexpr uint32_t WIDTH = sizeof(Raw) / sizeof(bf16);

template <class Raw> DEV void add(typename Floats<Raw>::Type& sum, const typename Floats<Raw>::Type& x) {
#pragma unroll
  for (uint32_t k = 0; k < WIDTH<Raw>; k++) sum.at[k] += x.at[k];
}

// One piece of rows first to first + ROWS - 1; zeros from row `last` on.
template <class Raw> DEV void load_rows(Raw (&to)[ROWS], const Raw* y, uint32_t first, uint32_t last, uint32_t pieces) {
#pragma unroll
  for (uint32_t i = 0; i < ROWS; i++) {
    clear(to[i]);
    if (first + i < last) to[i] = y[size_t(first + i) * pieces];
  }
}

template <class Raw> DEV void add_bias(const float* bias, Raw* y, uint32_t rows, uint32_t pieces) {
  const uint32_t piece = blockIdx.x * 128 + threadIdx.x, first = blockIdx.y * ROWS;
  if (piece >= pieces) return;
  Raw held[ROWS];
  typename Floats<Raw>::Type addend;
  load_rows(held, y + piece, first, rows, pieces);
  load(addend, bias + piece * WIDTH<Raw>);
#pragma unroll
  for (uint32_t i = 0; i < ROWS; i++) {
    if (first + i >= rows) continue;
    typename Floats<Raw>::Type sum = floats_of(held[i]);
    add<Raw>(sum, addend);
    y[size_t(first + i) * pieces + piece] = rounded(sum);
  }
}

template <class Raw> DEV void sum_chunk(const Raw* dy, float* chunk_sums, uint32_t pieces, const LeafTable& leaves) {
  const uint32_t piece = blockIdx.x * 128 + threadIdx.x;
  if (piece >= pieces) return;
  const RowRange rows = chunk_rows_of(leaves, blockIdx.y);
  typename Floats<Raw>::Type sum{};
  for (uint32_t first = rows.first; first < rows.last; first += ROWS) {
    Raw held[ROWS];
    load_rows(held, dy + piece, first, rows.last, pieces);
#pragma unroll
    for (uint32_t i = 0; i < ROWS; i++) add<Raw>(sum, floats_of(held[i]));
  }
  store(chunk_sums + (size_t(blockIdx.y) * pieces + piece) * WIDTH<Raw>, sum);
}

KERNEL(128, bias_forward_bf16)(const float* __restrict__ bias, uint4* __restrict__ y, uint32_t rows, uint32_t pieces) {
  add_bias(bias, y, rows, pieces);
}
EXPORT_KERNEL(128, bias_forward_bf16);
KERNEL(128, bias_forward_bf16_any)(const float* __restrict__ bias, bf16* __restrict__ y, uint32_t rows,
                                   uint32_t pieces) {
  add_bias(bias, y, rows, pieces);
}
EXPORT_KERNEL(128, bias_forward_bf16_any);

KERNEL(128, bias_backward_bf16)(const uint4* __restrict__ dy, float* __restrict__ chunk_sums, uint32_t pieces,
                                const __grid_constant__ LeafTable leaves) {
  sum_chunk(dy, chunk_sums, pieces, leaves);
}
EXPORT_KERNEL(128, bias_backward_bf16);
KERNEL(128, bias_backward_bf16_any)(const bf16* __restrict__ dy, float* __restrict__ chunk_sums, uint32_t pieces,
                                    const __grid_constant__ LeafTable leaves) {
  sum_chunk(dy, chunk_sums, pieces, leaves);
}
EXPORT_KERNEL(128, bias_backward_bf16_any);

// dbias += the chunks' sums.
KERNEL(1024, bias_sums_f32)(const float* chunk_sums, float* dbias, uint32_t columns,
                            const __grid_constant__ LeafTable leaves) {
  add_leaf_sums<32>(chunk_sums, dbias, columns, leaves);
}
EXPORT_KERNEL(1024, bias_sums_f32);
