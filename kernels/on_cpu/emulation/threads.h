// CUDA's built-in variables and functions by which threads see, wait for and talk to each other. The location is a
// default argument, which keeps CUDA's signatures.
#pragma once

#define threadIdx (on_cpu::thread_index())
#define blockIdx (on_cpu::block_index())
#define blockDim (on_cpu::block_extent())
#define gridDim (on_cpu::grid_extent())
constexpr int warpSize = 32;

#define ON_CPU_WHERE on_cpu::Location where = on_cpu::Location::current()

inline void __syncthreads(ON_CPU_WHERE) { on_cpu::block_barrier(where); }
inline int __syncthreads_count(int p, ON_CPU_WHERE) { return on_cpu::block_vote(p, on_cpu::Vote::COUNT, where); }
inline int __syncthreads_and(int p, ON_CPU_WHERE) { return on_cpu::block_vote(p, on_cpu::Vote::AND, where); }
inline int __syncthreads_or(int p, ON_CPU_WHERE) { return on_cpu::block_vote(p, on_cpu::Vote::OR, where); }
inline void __syncwarp(unsigned mask = 0xffffffffu, ON_CPU_WHERE) { on_cpu::sync_warp(mask, where); }

// What came before a fence and an atomic access is seen behind an atomic access to the same location and a fence, by other
// blocks and by threads of the same that no barrier orders.
inline void __threadfence() { on_cpu::fence_global(); }
inline void __threadfence_block() {}
inline void __trap(ON_CPU_WHERE) { on_cpu::trap("__trap()", where); }

namespace on_cpu {
template <class T> uint64_t to_bits(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T> T from_bits(uint64_t bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T> T shuffle(unsigned mask, T value, int argument, Shuffle kind, int width, Location where) {
  return from_bits<T>(shuffle(mask, to_bits(value), argument, kind, width, where));
}
} // namespace on_cpu

template <class T> inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32, ON_CPU_WHERE) {
  return on_cpu::shuffle<T>(mask, v, lane, on_cpu::Shuffle::INDEX, width, where);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, ON_CPU_WHERE) {
  return on_cpu::shuffle<T>(mask, v, static_cast<int>(by), on_cpu::Shuffle::UP, width, where);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, ON_CPU_WHERE) {
  return on_cpu::shuffle<T>(mask, v, static_cast<int>(by), on_cpu::Shuffle::DOWN, width, where);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, ON_CPU_WHERE) {
  return on_cpu::shuffle<T>(mask, v, lanes, on_cpu::Shuffle::XOR, width, where);
}

inline unsigned __ballot_sync(unsigned mask, int p, ON_CPU_WHERE) {
  return static_cast<unsigned>(on_cpu::reduce(mask, p != 0, on_cpu::Reduce::BALLOT, where));
}
inline int __any_sync(unsigned mask, int p, ON_CPU_WHERE) {
  return on_cpu::reduce(mask, p != 0, on_cpu::Reduce::BALLOT, where) != 0;
}
inline int __all_sync(unsigned mask, int p, ON_CPU_WHERE) {
  return on_cpu::reduce(mask, p == 0, on_cpu::Reduce::BALLOT, where) == 0;
}
template <class T> inline unsigned __match_any_sync(unsigned mask, T v, ON_CPU_WHERE) {
  return static_cast<unsigned>(on_cpu::reduce(mask, on_cpu::to_bits(v), on_cpu::Reduce::MATCH, where));
}
#define ON_CPU_REDUCE(name, T, wide, kind)                                                                             \
  inline T __reduce_##name##_sync(unsigned mask, T v, ON_CPU_WHERE) {                                                  \
    return static_cast<T>(on_cpu::reduce(mask, static_cast<uint64_t>(static_cast<wide>(v)), kind, where));             \
  }
ON_CPU_REDUCE(add, unsigned, uint64_t, on_cpu::Reduce::ADD)
ON_CPU_REDUCE(add, int, int64_t, on_cpu::Reduce::ADD)
ON_CPU_REDUCE(max, unsigned, uint64_t, on_cpu::Reduce::MAX_UNSIGNED)
ON_CPU_REDUCE(max, int, int64_t, on_cpu::Reduce::MAX_SIGNED)
ON_CPU_REDUCE(min, unsigned, uint64_t, on_cpu::Reduce::MIN_UNSIGNED)
ON_CPU_REDUCE(min, int, int64_t, on_cpu::Reduce::MIN_SIGNED)
ON_CPU_REDUCE(and, unsigned, uint64_t, on_cpu::Reduce::AND)
ON_CPU_REDUCE(or, unsigned, uint64_t, on_cpu::Reduce::OR)
ON_CPU_REDUCE(xor, unsigned, uint64_t, on_cpu::Reduce::XOR)
#undef ON_CPU_REDUCE

// Of integers alone: the order of atomic additions is not fixed, and sums of floats depend on it.
#define ON_CPU_ATOMIC(name, kind, T)                                                                                   \
  inline T name(T* p, T v) { return on_cpu::atomic<T>(p, v, on_cpu::Atomic::kind); }
#define ON_CPU_ATOMICS(T)                                                                                              \
  ON_CPU_ATOMIC(atomicAdd, ADD, T)                                                                                     \
  ON_CPU_ATOMIC(atomicMax, MAX, T)                                                                                     \
  ON_CPU_ATOMIC(atomicMin, MIN, T)                                                                                     \
  ON_CPU_ATOMIC(atomicExch, EXCHANGE, T)                                                                               \
  ON_CPU_ATOMIC(atomicAnd, AND, T)                                                                                     \
  ON_CPU_ATOMIC(atomicOr, OR, T)                                                                                       \
  ON_CPU_ATOMIC(atomicXor, XOR, T)                                                                                     \
  inline T atomicCAS(T* p, T expected, T v) { return on_cpu::compare_and_swap<T>(p, expected, v); }
ON_CPU_ATOMICS(int)
ON_CPU_ATOMICS(unsigned)
ON_CPU_ATOMICS(unsigned long long)
#undef ON_CPU_ATOMICS
#undef ON_CPU_ATOMIC
