#include "warp.h"

namespace on_cpu {
namespace {

void synchronise(const Warp& warp) {
  Thread* all[32];
  int n = 0;
  warp.each([&](Thread& thread) { all[n++] = &thread; });
  warp.block.synchronise(all, n);
}

// The lane that `lane` reads, by the rules of __shfl_*_sync.
int source_lane(int lane, int argument, Shuffle kind, int width) {
  const int segment = lane & ~(width - 1), end = segment + width;
  int source = lane;
  switch (kind) {
  case Shuffle::INDEX: return segment | (argument & (width - 1));
  case Shuffle::UP: source = lane - argument; return source < segment ? lane : source;
  case Shuffle::DOWN: source = lane + argument; break;
  case Shuffle::XOR: source = lane ^ argument; break;
  }
  return source >= end ? lane : source;
}

void shuffle_lanes(const Warp& warp) {
  warp.each([&](Thread& thread) {
    const auto kind = static_cast<Shuffle>(thread.call.detail & 3);
    const int source = source_lane(thread.lane, thread.call.argument, kind, thread.call.detail >> 2);
    if (!(warp.lanes >> source & 1))
      warp.block.fail(text("shuffle at %s: lane %d reads lane %d, which does not take part", text(thread.call.where).c_str(),
                           thread.lane, source));
    thread.result = warp.lane(source).call.value;
  });
}

uint64_t combine(Reduce kind, uint64_t a, uint64_t b) {
  const auto sa = static_cast<int64_t>(a), sb = static_cast<int64_t>(b);
  switch (kind) {
  case Reduce::ADD: return a + b;
  case Reduce::MAX_UNSIGNED: return std::max(a, b);
  case Reduce::MAX_SIGNED: return static_cast<uint64_t>(std::max(sa, sb));
  case Reduce::MIN_UNSIGNED: return std::min(a, b);
  case Reduce::MIN_SIGNED: return static_cast<uint64_t>(std::min(sa, sb));
  case Reduce::AND: return a & b;
  case Reduce::OR: return a | b;
  case Reduce::XOR: return a ^ b;
  case Reduce::BALLOT:
  case Reduce::MATCH: break;
  }
  return 0;
}

void reduce_lanes(const Warp& warp) {
  Thread& leader = warp.lane(__builtin_ctz(warp.lanes));
  const auto kind = static_cast<Reduce>(leader.call.detail);
  const auto lanes_where = [&](auto holds) {
    uint64_t bits = 0;
    warp.each([&](Thread& thread) { bits |= static_cast<uint64_t>(holds(thread)) << thread.lane; });
    return bits;
  };
  if (kind == Reduce::MATCH) {
    warp.each([&](Thread& thread) {
      thread.result = lanes_where([&](const Thread& other) { return other.call.value == thread.call.value; });
    });
    return;
  }
  uint64_t all = leader.call.value;
  if (kind == Reduce::BALLOT) all = lanes_where([](const Thread& thread) { return thread.call.value != 0; });
  else
    warp.each([&](Thread& thread) {
      if (&thread != &leader) all = combine(kind, all, thread.call.value);
    });
  warp.each([&](Thread& thread) { thread.result = all; });
}

void carry_out(const Warp& warp, WarpKind kind) {
  warp.block.launch->counters.warp_operations++;
  switch (kind) {
  case WarpKind::SYNC: return synchronise(warp);
  case WarpKind::SHUFFLE: return shuffle_lanes(warp);
  case WarpKind::REDUCE: return reduce_lanes(warp);
  case WarpKind::LDMATRIX: return load_matrices(warp);
  case WarpKind::MMA: return multiply(warp);
  }
}

bool agree(const WarpCall& a, const WarpCall& b) {
  return a.kind == b.kind && a.mask == b.mask && a.detail == b.detail && same(a.where, b.where);
}

bool needs_whole_warp(WarpKind kind) { return kind == WarpKind::LDMATRIX || kind == WarpKind::MMA; }

bool carry_out_if_complete(Thread& thread) {
  Block& block = *thread.block;
  const WarpCall& call = thread.call;
  const uint32_t own = 1u << thread.lane, absent = block.lanes_absent[thread.warp];
  const uint32_t gone = block.lanes_exited[thread.warp] | (needs_whole_warp(call.kind) ? absent : 0);
  if (call.mask & gone)
    block.fail(text("warp divergence: the operation at %s includes lanes %08x, which have exited or do not exist",
                    text(call.where).c_str(), call.mask & gone));
  const uint32_t others = call.mask & ~absent & ~own;
  uint32_t& waiting = block.lanes_waiting[thread.warp];
  if ((waiting & others) != others) return false;
  Thread* base = &block.threads[thread.warp * 32u];
  for (uint32_t left = others; left; left &= left - 1)
    if (!agree(base[__builtin_ctz(left)].call, call)) return false;
  carry_out({block, base, others | own}, call.kind);
  waiting &= ~others;
  for (uint32_t left = others; left; left &= left - 1) block.ready(base[__builtin_ctz(left)]);
  return true;
}

} // namespace

uint64_t meet(Thread& thread, const WarpCall& call) {
  Block& block = *thread.block;
  const uint32_t own = 1u << thread.lane;
  thread.call = call;
  if (!(call.mask & own))
    block.fail(text("warp operation at %s: lane %d is not in its mask %08x", text(call.where).c_str(), thread.lane, call.mask));
  if (!carry_out_if_complete(thread)) {
    block.lanes_waiting[thread.warp] |= own;
    block.wait(thread, State::IN_WARP, call.where);
  }
  return thread.result;
}

void sync_warp(unsigned mask, Location where) { meet(*current, {WarpKind::SYNC, mask, 0, where, 0, 0, nullptr}); }

uint64_t shuffle(unsigned mask, uint64_t value, int argument, Shuffle kind, int width, Location where) {
  const int detail = static_cast<int>(kind) | width << 2;
  return meet(*current, {WarpKind::SHUFFLE, mask, detail, where, value, argument, nullptr});
}

uint64_t reduce(unsigned mask, uint64_t value, Reduce kind, Location where) {
  return meet(*current, {WarpKind::REDUCE, mask, static_cast<int>(kind), where, value, 0, nullptr});
}

} // namespace on_cpu
