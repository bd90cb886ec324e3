// Global memory: each allocation between guard pages, with a shadow cell for every byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "report.h"

namespace on_cpu {

constexpr size_t PAGE = 4096;

// Who last touched one byte of global memory, in which launch and block. A step that does not fit is the largest.
struct GlobalCell {
  struct Access {
    uint32_t launch = 0, block = 0;
    uint16_t thread = 0, step = 0;
  } write, read;
};
static_assert(sizeof(GlobalCell) == 24);

struct Buffer {
  explicit Buffer(size_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  bool holds(uintptr_t address, size_t n) const { return address >= begin && n <= bytes && address - begin <= bytes - n; }
  void mark_written(uintptr_t address, size_t n);

  uintptr_t begin = 0; // so that the last byte, rounded to 16, stands before the guard page
  size_t bytes = 0;
  char* mapping = nullptr;
  size_t mapped = 0;
  GlobalCell* cells = nullptr;
  uint8_t* written = nullptr;
};

// A launch keeps what it started with alive.
using Buffers = std::vector<std::shared_ptr<Buffer>>;

uintptr_t allocate(size_t bytes);
bool release(uintptr_t address);
// The live buffer that holds these bytes.
std::shared_ptr<Buffer> find(uintptr_t address, size_t bytes);
Buffers live_buffers(); // by address

} // namespace on_cpu
