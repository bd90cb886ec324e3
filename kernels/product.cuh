// The body that every product shares: c = a bᵀ over tiles, one order of sums whatever the tile.
//
// An operand is stored along the depth (rows [extent][depth]) or across it (rows [depth][extent]). Depth is cut into
// leaves; inside a leaf it ascends in mma steps of 16 from zero, and the leaf sums are added ascending to zero. Steps
// beyond a leaf's end multiply zeros and change no bit. Where leaves are given, they are added to the old values instead of
// zero. A block takes one tile and all leaves, or, where the grid's y is
// larger than 1, one leaf each: the sums then pass through `partial`, and the last block of the tile adds them.
#pragma once
#include "swizzled_tile.cuh"
#include "vector.cuh"

#include <cstddef>

namespace product {

constexpr int LEAF = 1024, STEP = 64, PANEL = 8;

struct Operand {
  const bf16* data;
  int64_t stride; // from one row in memory to the next
  int64_t extent; // rows or columns of c that it spans
};

struct Args {
  Operand a, b;
  void* out;              // [a.extent, b.extent], or [b.extent, a.extent] where the kernel turns it
  float* partial;         // [leaves, tiles, tile], where the grid's y is larger than 1
  unsigned* tickets;      // [tiles], zero before and after, where the grid's y is larger than 1
  const uint32_t* bounds; // [leaves + 1], ascending, where leaves are given
  int32_t depth, leaves;
  int32_t out_stride;
  int32_t add; // 0: out =, 1: out +=; given leaves are always added
};
static_assert(sizeof(Operand) == 24 && sizeof(Args) == 96 && offsetof(Args, out) == 48 && offsetof(Args, depth) == 80);

enum class Stored { Along, Across };
enum class LeavesAre { Equal, Given };
enum class Output { Straight, Turned };

// Which row of the tile in memory a row of shared memory holds.
struct InOrder {
  static DEV int row(int row) { return row; }
};

// A tile of c and how warps share it: each takes M / WARPS_M rows and N / WARPS_N columns.
template <int M_, int N_, int WARPS_M_, int WARPS_N_, int STAGES_> struct Shape {
  static constexpr int M = M_, N = N_, WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, STAGES = STAGES_;
  static constexpr int THREADS = 32 * WARPS_M * WARPS_N, ROWS = M / WARPS_M, COLUMNS = N / WARPS_N;
  static constexpr int SUMS = ROWS * COLUMNS / 32; // of a thread
  using OrderA = InOrder;
  static_assert(ROWS % 16 == 0 && COLUMNS % 16 == 0);
};

// The tile of one operand for one step of depth.
template <int EXTENT, Stored S, int THREADS, class Order = InOrder> struct Side {
  static constexpr bool ALONG = S == Stored::Along;
  using Tile = SwizzledTile<ALONG ? EXTENT : STEP, ALONG ? STEP : EXTENT>;

  static DEV void load(bf16* tile, const Operand& x, int64_t first, int from, int end) {
    constexpr int AT_ONCE = THREADS / Tile::PIECES; // rows
    static_assert(THREADS % Tile::PIECES == 0 && Tile::ROWS % AT_ONCE == 0);
    const int first_row = threadIdx.x / Tile::PIECES, piece = threadIdx.x % Tile::PIECES;
    const int64_t column = (ALONG ? from : first) + piece * 8;
    const int64_t rows = ALONG ? x.extent : end, columns = ALONG ? end : x.extent;
#pragma unroll
    for (int i = 0; i < Tile::ROWS; i += AT_ONCE) {
      const int64_t row = ALONG ? first + Order::row(first_row + i) : from + first_row + i;
      const bool valid = row < rows && column < columns;
      Tile::copy(tile, first_row + i, piece, x.data + (valid ? row * x.stride + column : 0), valid);
    }
  }
};

// The steps of a block's leaves, ascending.
template <LeavesAre L> struct Steps {
  const uint32_t* bounds;
  int depth, last, leaf, from, end;

  DEV Steps(const Args& args, int first, int last) : bounds(args.bounds), depth(args.depth), last(last), leaf(first) {
    open();
  }
  DEV void open() {
    if (leaf >= last) return;
    from = L == LeavesAre::Equal ? leaf * LEAF : (int)bounds[leaf];
    end = L == LeavesAre::Equal ? min(depth, (leaf + 1) * LEAF) : (int)bounds[leaf + 1];
  }
  DEV bool any() const { return leaf < last; }
  DEV bool in(int this_leaf) const { return leaf == this_leaf && any(); }
  DEV bool ends_leaf() const { return from + STEP >= end; }
  DEV void next() {
    if (ends_leaf()) {
      leaf++;
      open();
    } else {
      from += STEP;
    }
  }
};

// Neighbouring blocks take tiles of a panel of PANEL rows of tiles, so that what they read is still in the cache.
DEV void tile_of(int block, int tiles_m, int tiles_n, int& m, int& n) {
  const int first = block / (PANEL * tiles_n) * PANEL, height = min(PANEL, tiles_m - first);
  const int inside = block - first * tiles_n;
  m = first + inside % height;
  n = inside / height;
}

DEV void write(float* at, float value, bool add) { *at = add ? *at + value : value; }
DEV void write(bf16* at, float value, bool add) {
  *at = __float2bfloat16(add ? __bfloat162float(*at) + value : value);
}
DEV void write_pair(float* at, float x, float y, bool add) {
  float2* pair = reinterpret_cast<float2*>(at);
  const float2 old = add ? *pair : make_float2(0.f, 0.f);
  *pair = add ? make_float2(old.x + x, old.y + y) : make_float2(x, y);
}
DEV void write_pair(bf16* at, float x, float y, bool add) {
  uint32_t* pair = reinterpret_cast<uint32_t*>(at);
  const float2 old = add ? unpack_bf16(*pair) : make_float2(0.f, 0.f);
  *pair = add ? pack_bf16(old.x + x, old.y + y) : pack_bf16(x, y);
}

template <class S, Stored A, Stored B, LeavesAre L, class Out, Output O> struct Body {
  using SideA = Side<S::M, A, S::THREADS, typename S::OrderA>;
  using SideB = Side<S::N, B, S::THREADS>;
  static constexpr int TILES = SideA::Tile::ELEMENTS + SideB::Tile::ELEMENTS; // elements of a stage
  static constexpr int MS = S::ROWS / 16, NS = S::COLUMNS / 8;
  typedef float Sums[MS][NS][4];

  const Args& args;
  int64_t first_m, first_n; // of the tile
  int warp_m, warp_n;       // of the warp, in the tile
  bf16* stages;

  DEV void load(int stage, const Steps<L>& steps) const {
    if (!steps.any()) return;
    bf16* tiles = stages + stage * TILES;
    SideA::load(tiles, args.a, first_m, steps.from, steps.end);
    SideB::load(tiles + SideA::Tile::ELEMENTS, args.b, first_n, steps.from, steps.end);
  }

  DEV void step(Sums& sums, int stage) const {
    const bf16 *a = stages + stage * TILES, *b = a + SideA::Tile::ELEMENTS;
#pragma unroll
    for (int k = 0; k < STEP; k += 16) {
      uint32_t left[MS][4], right[NS / 2][4];
#pragma unroll
      for (int i = 0; i < MS; i++) {
        if (SideA::ALONG) SideA::Tile::a(left[i], a, warp_m + i * 16, k);
        else SideA::Tile::a_across(left[i], a, warp_m + i * 16, k);
      }
#pragma unroll
      for (int j = 0; j < NS / 2; j++) {
        if (SideB::ALONG) SideB::Tile::b(right[j], b, warp_n + j * 16, k);
        else SideB::Tile::b_across(right[j], b, warp_n + j * 16, k);
      }
#pragma unroll
      for (int i = 0; i < MS; i++)
#pragma unroll
        for (int j = 0; j < NS; j++) {
          const uint32_t* b = right[j / 2] + j % 2 * 2;
          mma_m16n8k16_bf16(sums[i][j], left[i], b[0], b[1]);
        }
    }
  }

  // Calls leaf_ends(sums, leaf) at each leaf's end; the sums are zeroed after it.
  template <class F> DEV void sum(int first, int last, F leaf_ends) const {
    constexpr int AHEAD = S::STAGES - 1;
    Steps<L> loading(args, first, last), steps(args, first, last);
#pragma unroll
    for (int stage = 0; stage < AHEAD; stage++) {
      load(stage, loading);
      cp_async_commit();
      if (loading.any()) loading.next();
    }
    for (int stage = 0; steps.any();) {
      const int leaf = steps.leaf;
      Sums sums;
      clear(sums);
      for (; steps.in(leaf); steps.next(), stage = stage + 1 == S::STAGES ? 0 : stage + 1) {
        cp_async_wait<AHEAD - 1>();
        __syncthreads(); // this stage has arrived for all, and nobody reads the one that is filled next
        load((stage + AHEAD) % S::STAGES, loading);
        cp_async_commit();
        if (loading.any()) loading.next();
        step(sums, stage);
      }
      leaf_ends(sums, leaf);
    }
    cp_async_wait<0>();
  }

  static DEV void clear(Sums& sums) {
    each([&](int i, int j, int e) { sums[i][j][e] = 0.f; });
  }
  static DEV void add(Sums& total, const Sums& sums) {
    each([&](int i, int j, int e) { total[i][j][e] += sums[i][j][e]; });
  }
  template <class F> static DEV void each(F f) {
#pragma unroll
    for (int i = 0; i < MS; i++)
#pragma unroll
      for (int j = 0; j < NS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) f(i, j, e);
  }

  // Where this thread's four sums of (i, j) of a leaf stand in `partial`.
  DEV float4* partial(int leaf, int i, int j) const {
    const int64_t tile = (int64_t)leaf * gridDim.x + blockIdx.x;
    return reinterpret_cast<float4*>(args.partial) + (tile * (S::SUMS / 4) + i * NS + j) * S::THREADS + threadIdx.x;
  }
  DEV void leave(const Sums& sums, int leaf) const {
#pragma unroll
    for (int i = 0; i < MS; i++)
#pragma unroll
      for (int j = 0; j < NS; j++)
        *partial(leaf, i, j) = make_float4(sums[i][j][0], sums[i][j][1], sums[i][j][2], sums[i][j][3]);
  }
  DEV void collect(Sums& total) const {
    for (int leaf = 0; leaf < args.leaves; leaf++) {
#pragma unroll
      for (int i = 0; i < MS; i++)
#pragma unroll
        for (int j = 0; j < NS; j++) {
          const float4 part = *partial(leaf, i, j);
          total[i][j][0] += part.x, total[i][j][1] += part.y, total[i][j][2] += part.z, total[i][j][3] += part.w;
        }
    }
  }

  // Calls f(m, n, x, y) with each pair of this thread that stands in c, at (m, n) and (m, n + 1).
  template <class F> DEV void pairs(Sums& total, F f) const {
    const int lane = lane_id();
#pragma unroll
    for (int i = 0; i < MS; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int64_t m = first_m + warp_m + i * 16 + half * 8 + lane / 4;
#pragma unroll
        for (int j = 0; j < NS; j++) {
          const int64_t n = first_n + warp_n + j * 8 + lane % 4 * 2;
          if (m < args.a.extent && n < args.b.extent) f(m, n, total[i][j][half * 2], total[i][j][half * 2 + 1]);
        }
      }
  }
  DEV void fetch(Sums& total) const {
    const float* out = reinterpret_cast<const float*>(args.out);
    pairs(total, [&](int64_t m, int64_t n, float& x, float& y) {
      const float2 old = *reinterpret_cast<const float2*>(out + m * args.out_stride + n);
      x = old.x, y = old.y;
    });
  }
  DEV void store(Sums& total, bool add) const {
    Out* out = reinterpret_cast<Out*>(args.out);
    pairs(total, [&](int64_t m, int64_t n, float x, float y) {
      if (O == Output::Straight) {
        write_pair(out + m * args.out_stride + n, x, y, add);
      } else {
        write(out + n * args.out_stride + m, x, add);
        if (n + 1 < args.b.extent) write(out + (n + 1) * args.out_stride + m, y, add);
      }
    });
  }

  static DEV void run(const Args& args) {
    DYN_SHARED(bf16, stages);
    const int tiles_m = (int)((args.a.extent + S::M - 1) / S::M), tiles_n = (int)((args.b.extent + S::N - 1) / S::N);
    int m, n;
    tile_of(blockIdx.x, tiles_m, tiles_n, m, n);
    const int warp = threadIdx.x / 32;
    const int warp_m = warp / S::WARPS_N * S::ROWS, warp_n = warp % S::WARPS_N * S::COLUMNS;
    const Body body{args, (int64_t)m * S::M, (int64_t)n * S::N, warp_m, warp_n, stages};
    Sums total;
    clear(total);
    if (L == LeavesAre::Given) body.fetch(total);
    if (gridDim.y == 1) {
      body.sum(0, args.leaves, [&](const Sums& sums, int) { add(total, sums); });
    } else {
      body.sum(blockIdx.y, blockIdx.y + 1, [&](const Sums& sums, int leaf) { body.leave(sums, leaf); });
      if (!last_block(args.tickets + blockIdx.x, gridDim.y)) return;
      if (threadIdx.x == 0) args.tickets[blockIdx.x] = 0;
      body.collect(total);
    }
    body.store(total, L == LeavesAre::Equal && args.add);
  }
};

} // namespace product
