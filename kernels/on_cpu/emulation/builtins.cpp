// Built-in variables, shared arrays, atomics, traps.
#include <algorithm>

#include "block.h"

namespace on_cpu {

uint3 thread_index() { return current->index; }
uint3 block_index() { return current->block->index; }
dim3 block_extent() { return current->block->extent; }
dim3 grid_extent() { return current->block->grid; }
unsigned char* dynamic_shared() { return current->block->shared.window + current->block->shared.dynamic_begin; }
unsigned shared_offset(const void* address) { return current->block->shared.offset(address); }

void* static_shared(const void* key, size_t bytes, size_t alignment, const char* name) {
  Block& block = *current->block;
  unsigned char* array = block.shared.array(key, bytes, alignment, name);
  if (!array) block.fail(text("shared array '%s' of %zu bytes does not fit", name, bytes));
  return array;
}

void fence_global() { current->block->clocks.fence(current->knows, current->number); }

void trap(const char* why, Location where) {
  current->block->fail(text("%s at %s", why, text(where).c_str()));
  __builtin_unreachable();
}

// Threads of a launch take turns, so plain loads and stores are atomic.
template <class T> T atomic(T* address, T value, Atomic kind) {
  current->block->access(*current, address, sizeof(T), Access::ATOMIC, __builtin_return_address(0));
  const T old = *address;
  switch (kind) {
  case Atomic::ADD: *address = static_cast<T>(static_cast<unsigned long long>(old) + static_cast<unsigned long long>(value)); break;
  case Atomic::MAX: *address = std::max(old, value); break;
  case Atomic::MIN: *address = std::min(old, value); break;
  case Atomic::EXCHANGE: *address = value; break;
  case Atomic::AND: *address = old & value; break;
  case Atomic::OR: *address = old | value; break;
  case Atomic::XOR: *address = old ^ value; break;
  }
  return old;
}

template <class T> T compare_and_swap(T* address, T expected, T value) {
  current->block->access(*current, address, sizeof(T), Access::ATOMIC, __builtin_return_address(0));
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}

template int atomic(int*, int, Atomic);
template unsigned atomic(unsigned*, unsigned, Atomic);
template unsigned long long atomic(unsigned long long*, unsigned long long, Atomic);
template int compare_and_swap(int*, int, int);
template unsigned compare_and_swap(unsigned*, unsigned, unsigned);
template unsigned long long compare_and_swap(unsigned long long*, unsigned long long, unsigned long long);

} // namespace on_cpu
