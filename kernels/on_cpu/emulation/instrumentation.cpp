// The callbacks of -fsanitize=thread and of the undefined-behaviour sanitizers. Neither library is linked: kernels are
// compiled to call these functions, and so every load and store of theirs is seen here, with no change to their sources.
#include <cstddef>

#include "block.h"

namespace {

using namespace on_cpu;

constexpr uint64_t MOST_IDLE_ACCESSES = 20'000'000;

inline void note(const void* address, size_t bytes, Access kind, const void* return_address) {
  Thread* thread = current;
  if (!thread) return;
  Block& block = *thread->block;
  block.launch->counters.accesses++;
  if (++block.idle_accesses > MOST_IDLE_ACCESSES) [[unlikely]]
    block.fail(text("no progress: this thread loops without reaching a barrier, at %s",
                    text(block.launch->kernel.image.place(return_address)).c_str()));
  if (reinterpret_cast<uintptr_t>(address) - thread->stack < STACK) [[likely]]
    return;
  block.access(*thread, address, static_cast<uint32_t>(bytes), kind, return_address);
}

// What a sanitizer says about a place in the source; further fields, which differ, follow.
struct SourcePlace {
  const char* file;
  uint32_t line, column;
};

// What it says about a pointer.
struct PointerPlace {
  SourcePlace place;
  const void* type;
  uint8_t log_alignment, kind;
};

const char* wrong_with(uintptr_t pointer, const PointerPlace& at) {
  if (!pointer) return "null pointer";
  return pointer & ((uintptr_t{1} << at.log_alignment) - 1) ? "misaligned pointer" : "access past the end of an array";
}

void undefined(const char* what, const SourcePlace* place) {
  if (!current) return;
  const std::string file = place->file;
  const std::string where = file.substr(file.rfind('/') + 1) + text(":%u", place->line);
  current->block->fail(text("%s at %s", what, where.c_str()));
}

} // namespace

#pragma GCC visibility push(default)
extern "C" {

#define ACCESSES(n)                                                                                                    \
  void __tsan_read##n(void* p) { note(p, n, Access::READ, __builtin_return_address(0)); }                              \
  void __tsan_write##n(void* p) { note(p, n, Access::WRITE, __builtin_return_address(0)); }                            \
  void __tsan_unaligned_read##n(void* p) { note(p, n, Access::READ, __builtin_return_address(0)); }                    \
  void __tsan_unaligned_write##n(void* p) { note(p, n, Access::WRITE, __builtin_return_address(0)); }                  \
  void __tsan_volatile_read##n(void* p) { note(p, n, Access::READ, __builtin_return_address(0)); }                     \
  void __tsan_volatile_write##n(void* p) { note(p, n, Access::WRITE, __builtin_return_address(0)); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

void __tsan_read_range(void* p, size_t n) { note(p, n, Access::READ, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { note(p, n, Access::WRITE, __builtin_return_address(0)); }
void __tsan_init() {}

void __ubsan_handle_type_mismatch_v1(PointerPlace* p, uintptr_t pointer) { undefined(wrong_with(pointer, *p), &p->place); }
void __ubsan_handle_out_of_bounds(SourcePlace* p, void*) { undefined("array index out of bounds", p); }
void __ubsan_handle_shift_out_of_bounds(SourcePlace* p, void*, void*) { undefined("shift out of range", p); }
void __ubsan_handle_divrem_overflow(SourcePlace* p, void*, void*) { undefined("integer division by zero", p); }
}
#pragma GCC visibility pop
