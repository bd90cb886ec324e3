// What product.cuh promises, with the same order of sums, by Hopper's own instructions (sm_90a).
//
// The first warpgroup of a block fetches: one thread asks the tensor memory accelerator for the boxes of a step of depth, into
// a ring of stages. The others multiply: each has 64 rows of the tile, all its columns, the sums of a leaf and their total in
// registers. A phase of full[i] ends when stage i has arrived, one of empty[i] when every multiplying warp has done with it.
// A block takes every gridDim.x-th item: a tile, or a leaf of one where `partial` is given. The boxes of the next item arrive
// while the sums of the last are written.
//
// Both operands lie under the 128-byte swizzle, in boxes of 64 elements a row, as wgmma's descriptors have it (canonical
// layouts of the PTX ISA; CUTLASS's names):
//   Along   Layout_K_SW128    one box [EXTENT][64 of depth]; 8 rows further 1024 bytes, 16 of depth further 32 bytes
//   Across  Layout_MN_SW128   boxes [64 of depth][64] behind one another: 64 columns further 8192 bytes (leading offset),
//                             8 of depth further 1024 bytes (stride offset), 16 of depth further 2048 bytes
#pragma once
#include "product.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

namespace product {

// A tile of c of 64 rows a warpgroup. A thread's N / 2 sums and N / 2 totals are most of its registers. From 64 of each on 168,
// which is what 384 threads can have alike, do not suffice beside what else it holds: the fetching warpgroup gives its own away.
template <int WARPGROUPS_, int N_, int STAGES_> struct GroupShape {
  static constexpr int WARPGROUPS = WARPGROUPS_, M = 64 * WARPGROUPS, N = N_, STAGES = STAGES_;
  static constexpr int MULTIPLYING = 128 * WARPGROUPS, THREADS = 128 + MULTIPLYING, SUMS = N / 2;
  static constexpr bool TRADES_REGISTERS = SUMS >= 64;
  static_assert(!TRADES_REGISTERS || WARPGROUPS == 2, "40 and twice 232 registers are three times 168");
};

// The shapes in use: 160 KiB or more of operands on their way to an SM.
using LargeGroups = GroupShape<2, 192, 5>;
using MediumGroups = GroupShape<2, 128, 6>;
using SmallGroups = GroupShape<1, 64, 12>;
using FewGroups = GroupShape<1, 16, 20>;

// One operand's boxes of a step.
template <int EXTENT, Stored S> struct Boxes {
  static constexpr bool ALONG = S == Stored::Along;
  static constexpr int ELEMENTS = EXTENT * STEP, SIDE = 64; // a box across is SIDE wide
  static_assert(STEP == 64 && (ALONG ? EXTENT % 8 == 0 && EXTENT <= 256 : EXTENT % SIDE == 0));

  static DEV void load(bf16* tile, const TensorMap* map, int first, int from, uint64_t* full) {
    if constexpr (ALONG) {
      tma_load_2d(tile, map, from, first, full);
    } else {
#pragma unroll
      for (int i = 0; i < EXTENT / SIDE; i++) tma_load_2d(tile + i * SIDE * STEP, map, first + i * SIDE, from, full);
    }
  }

  // Of the rows or columns from `first` on, a multiple of 64, and 16 of depth from 0 on; `deeper` says what the descriptor of
  // those from k on has more: the bytes between them in the units of its address.
  static DEV uint64_t described(const bf16* tile, int first) {
    return wgmma_desc(tile + first * STEP, ALONG ? 16 : 8192, 1024, SWIZZLE_128);
  }
  static DEV uint64_t deeper(int k) { return (ALONG ? k : k * SIDE) * sizeof(bf16) / 16; }
};

// A stage of the ring, and the parity of the round that it is in.
template <int STAGES> struct Turn {
  int stage = 0;
  unsigned parity = 0;

  DEV void next() {
    if (++stage < STAGES) return;
    stage = 0;
    parity ^= 1;
  }
};

// The items of a block. Given leaves are added to what stands in c, one after the other: they are not split.
template <class S, LeavesAre L> struct Items {
  const Args& args;
  const int tiles_m, tiles_n;
  int item, tile, first_leaf, last_leaf, m, n; // of the tile its first row and column

  DEV Items(const Args& args)
      : args(args), tiles_m((int)((args.a.extent + S::M - 1) / S::M)),
        tiles_n((int)((args.b.extent + S::N - 1) / S::N)), item(blockIdx.x) {
    open();
  }
  DEV int tiles() const { return tiles_m * tiles_n; }
  DEV bool split() const { return L == LeavesAre::Equal && args.partial != nullptr; }
  DEV bool any() const { return item < tiles() * (split() ? args.leaves : 1); }
  DEV void open() {
    tile = item % tiles();
    first_leaf = split() ? item / tiles() : 0;
    last_leaf = split() ? first_leaf + 1 : args.leaves;
    tile_of(tile, tiles_m, tiles_n, m, n);
    m *= S::M, n *= S::N;
  }
  DEV void next() {
    item += gridDim.x;
    open();
  }
};

// What a thread that multiplies has of a tile: sum j stands in row() + 8 (j / 2 % 2) and column 8 (j / 4) + column() + j % 2.
template <class S> struct Fragment {
  typedef float Sums[S::SUMS];

  static DEV int row() { return (threadIdx.x - 128) / 32 * 16 + lane_id() / 4; }
  static DEV int column() { return lane_id() % 4 * 2; }

  static DEV void clear(Sums& sums) {
#pragma unroll
    for (int j = 0; j < S::SUMS; j++) sums[j] = 0.f;
  }
  static DEV void add(Sums& total, const Sums& sums) {
#pragma unroll
    for (int j = 0; j < S::SUMS; j++) total[j] += sums[j];
  }

  // Calls f(m, n, sum) with each.
  template <class F> static DEV void each(const Sums& sums, F f) {
#pragma unroll
    for (int j = 0; j < S::SUMS; j++) f(row() + (j >> 1 & 1) * 8, j / 4 * 8 + column() + (j & 1), sums[j]);
  }

  // The four lanes of a row trade their pairs of four blocks of eight columns for the whole of one block each, and back.
  static DEV void trade(float (&x)[8]) {
#pragma unroll
    for (int distance = 1; distance < 4; distance *= 2) {
      const bool upper = lane_id() & distance;
#pragma unroll
      for (int block = 0; block < 4; block++) {
        if (block & distance) continue;
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float &low = x[block * 2 + i], &high = x[(block + distance) * 2 + i];
          const float other = shuffle_xor(upper ? low : high, distance);
          low = upper ? other : low;
          high = upper ? high : other;
        }
      }
    }
  }

  // c is met in pieces of 16 bytes, eight neighbouring columns of a row in a lane: a lane's own pairs of bf16 would be half a
  // sector of memory. A slice is 32 columns: its eights of rows row() + 8 half stand in columns slice + eight().
  static DEV int eight() { return lane_id() % 4 * 8; }
  static DEV void take(const Sums& sums, int half, int slice, float (&x)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = sums[of_slice(half, slice, i)];
    trade(x);
  }
  static DEV void put(Sums& sums, int half, int slice, float (&x)[8]) {
    trade(x);
#pragma unroll
    for (int i = 0; i < 8; i++) sums[of_slice(half, slice, i)] = x[i];
  }
  static DEV int of_slice(int half, int slice, int i) { return slice / 2 + i / 2 * 4 + half * 2 + i % 2; }
  // Calls f(half, slice) with all.
  template <class F> static DEV void slices(F f) {
    static_assert(S::N % 32 == 0);
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int slice = 0; slice < S::N; slice += 32) f(half, slice);
  }
};

// Sums of tiles, leaf by leaf; Deal says which tiles are this block's.
template <class S, Stored A, Stored B, LeavesAre L, class Deal = Items<S, L>> struct Groups {
  using SideA = Boxes<S::M, A>;
  using SideB = Boxes<S::N, B>;
  using Own = Fragment<S>;
  using Sums = typename Own::Sums;
  static constexpr int STAGE = SideA::ELEMENTS + SideB::ELEMENTS, BYTES = STAGE * (int)sizeof(bf16); // of a stage

  const Args& args;
  bf16* stages;
  uint64_t *full, *empty;
  int first; // of the tile's rows, this warpgroup's
  Turn<S::STAGES> turn = {};

  DEV bf16* stage() const { return stages + turn.stage * STAGE; }

  DEV void fetch(const TensorMap* a, const TensorMap* b) {
    tma_prefetch(a), tma_prefetch(b);
    for (Deal items(args); items.any(); items.next())
      for (Steps<L> steps(args, items.first_leaf, items.last_leaf); steps.any(); steps.next(), turn.next()) {
        mbar_wait(empty + turn.stage, turn.parity ^ 1);
        mbar_arrive_expect_tx(full + turn.stage, BYTES);
        SideA::load(stage(), a, items.m, steps.from, full + turn.stage);
        SideB::load(stage() + SideA::ELEMENTS, b, items.n, steps.from, full + turn.stage);
      }
  }

  // A given leaf may end inside a box: what the box brings of the next one is made zero, in both operands, so that not even
  // an infinity of it counts.
  DEV void cut(int depth) const {
    static_assert(L == LeavesAre::Equal || (!SideA::ALONG && !SideB::ALONG));
    if (depth >= STEP) return;
    constexpr int PIECES = STEP * 8; // of 16 bytes, of a box
    uint4* box = reinterpret_cast<uint4*>(stage());
#pragma unroll 1
    for (int boxes = STAGE / (STEP * 64); boxes > 0; boxes--, box += PIECES)
      for (int i = depth * 8 + threadIdx.x - 128; i < PIECES; i += S::MULTIPLYING) box[i] = make_uint4(0, 0, 0, 0);
    fence_proxy_async();
    named_sync(1, S::MULTIPLYING);
  }

  // Multiplies a stage in the background, onto the sums or from zero.
  DEV void step(Sums& sums, bool onto) const {
    constexpr int TA = !SideA::ALONG, TB = !SideB::ALONG;
    const uint64_t of_a = SideA::described(stage(), first), of_b = SideB::described(stage() + SideA::ELEMENTS, 0);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < STEP; k += 16) {
      const uint64_t a = of_a + SideA::deeper(k), b = of_b + SideB::deeper(k);
      const int scale = onto || k > 0;
      if constexpr (S::N == 16) wgmma_m64n16k16_bf16<TB, TA>(sums, a, b, scale);
      else if constexpr (S::N == 64) wgmma_m64n64k16_bf16<TB, TA>(sums, a, b, scale);
      else if constexpr (S::N == 128) wgmma_m64n128k16_bf16<TB, TA>(sums, a, b, scale);
      else wgmma_m64n192k16_bf16<TB, TA>(sums, a, b, scale);
    }
    wgmma_commit();
  }

  // This warp has done with a stage.
  DEV void leave(int stage) const {
    if (lane_id() == 0) mbar_arrive(empty + stage);
  }

  // The next leaf, from zero. Its steps are multiplied in the background, each while the next one is waited for.
  DEV void leaf(Sums& sums, Steps<L>& steps) {
    int before = -1;
    for (const int leaf = steps.leaf; steps.in(leaf); steps.next(), turn.next()) {
      mbar_wait(full + turn.stage, turn.parity);
      if constexpr (L == LeavesAre::Given) cut(steps.end - steps.from);
      step(sums, before >= 0);
      wgmma_wait<1>(sums);
      if (before >= 0) leave(before);
      before = turn.stage;
    }
    wgmma_wait<0>(sums);
    leave(before);
  }

  // Calls begin(total, items), and end(total, items) once all leaves of the item have been added.
  template <class Begin, class End> DEV void multiply(Begin begin, End end) {
    for (Deal items(args); items.any(); items.next()) {
      Sums total;
      begin(total, items);
      for (Steps<L> steps(args, items.first_leaf, items.last_leaf); steps.any();) {
        Sums sums;
        leaf(sums, steps);
        Own::add(total, sums);
      }
      end(total, items);
    }
  }

  template <class Begin, class End>
  static DEV void run(const Args& args, const TensorMap* a, const TensorMap* b, Begin begin, End end) {
    if constexpr (HAS_SM90) run_here(args, a, b, begin, end);
    else __trap();
  }
  template <class Begin, class End>
  static DEV void run_here(const Args& args, const TensorMap* a, const TensorMap* b, Begin begin, End end) {
    DYN_SHARED(bf16, stages);
    SHARED_ARRAY(uint64_t, full, [S::STAGES]);
    SHARED_ARRAY(uint64_t, empty, [S::STAGES]);
    if (threadIdx.x == 0) {
      for (int i = 0; i < S::STAGES; i++) {
        mbar_init(full + i, 1);
        mbar_init(empty + i, S::MULTIPLYING / 32);
      }
      fence_mbar_init();
    }
    __syncthreads();
    const int warpgroup = warpgroup_id();
    Groups groups{args, stages, full, empty, S::WARPGROUPS == 1 ? 0 : (warpgroup - 1) * 64};
    if (warpgroup == 0) {
      if constexpr (S::TRADES_REGISTERS) setmaxnreg_dec<40>();
      if (threadIdx.x == 0) groups.fetch(a, b);
    } else {
      if constexpr (S::TRADES_REGISTERS) setmaxnreg_inc<232>();
      groups.multiply(begin, end);
    }
  }
};

// A product whose tiles are written as they are.
template <class S, Stored A, Stored B, LeavesAre L, class Out, Output O> struct GroupProduct {
  using Tiles = Groups<S, A, B, L>;
  using Own = typename Tiles::Own;
  using Sums = typename Own::Sums;

  const Args& args;
  const Items<S, L>& items;

  // Where this thread's sums 4 i to 4 i + 3 of a leaf stand in `partial`.
  DEV float4* partial(int leaf, int i) const {
    const int64_t tile = (int64_t)leaf * items.tiles() + items.tile;
    return reinterpret_cast<float4*>(args.partial) + (tile * (S::SUMS / 4) + i) * S::MULTIPLYING + threadIdx.x - 128;
  }
  // Leaves this warp's sums of one leaf to the last warp that comes with others of the same rows; that one has them all.
  DEV bool collect(Sums& total) const {
#pragma unroll
    for (int i = 0; i < S::SUMS / 4; i++)
      *partial(items.first_leaf, i) = make_float4(total[4 * i], total[4 * i + 1], total[4 * i + 2], total[4 * i + 3]);
    unsigned* ticket = args.tickets + items.tile * (S::MULTIPLYING / 32) + (threadIdx.x - 128) / 32;
    if (!last_warp(ticket, args.leaves)) return false;
    if (lane_id() == 0) *ticket = 0;
    Own::clear(total);
    for (int leaf = 0; leaf < args.leaves; leaf++) {
#pragma unroll
      for (int i = 0; i < S::SUMS / 4; i++) {
        const float4 part = *partial(leaf, i);
        total[4 * i] += part.x, total[4 * i + 1] += part.y, total[4 * i + 2] += part.z, total[4 * i + 3] += part.w;
      }
    }
    return true;
  }

  DEV Out* at(int m, int n) const { return reinterpret_cast<Out*>(args.out) + (int64_t)m * args.out_stride + n; }
  // Eight columns from n on stand in c together or not at all.
  DEV bool in(int m, int n) const { return m < args.a.extent && n < args.b.extent; }

  // The old values, where leaves are added to them.
  DEV void begin(Sums& total) const {
    if constexpr (L == LeavesAre::Given) {
      Own::slices([&](int half, int slice) {
        const int m = items.m + Own::row() + half * 8, n = items.n + slice + Own::eight();
        float x[8] = {};
        if (in(m, n)) load_8(at(m, n), x);
        Own::put(total, half, slice, x);
      });
    } else {
      Own::clear(total);
    }
  }
  DEV void end(Sums& total) const {
    if (items.split() && !collect(total)) return;
    const bool add = L == LeavesAre::Equal && args.add;
    if constexpr (O == Output::Straight) {
      Own::slices([&](int half, int slice) {
        const int m = items.m + Own::row() + half * 8, n = items.n + slice + Own::eight();
        float x[8], old[8];
        Own::take(total, half, slice, x);
        if (!in(m, n)) return;
        if (add) load_8(at(m, n), old);
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = add ? old[i] + x[i] : x[i];
        store_8(at(m, n), x);
      });
    } else {
      Own::each(total, [&](int tile_m, int tile_n, float x) {
        const int m = items.m + tile_m, n = items.n + tile_n;
        if (in(m, n)) write(at(n, m), x, add);
      });
    }
  }

  static DEV void run(const Args& args, const TensorMap* a, const TensorMap* b) {
    Tiles::run(args, a, b, [&](Sums& total, const Items<S, L>& items) { GroupProduct{args, items}.begin(total); },
               [&](Sums& total, const Items<S, L>& items) { GroupProduct{args, items}.end(total); });
  }
};

} // namespace product
