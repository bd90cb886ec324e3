#include "shared_memory.h"

#include <sys/mman.h>

#include <new>

#include "global_memory.h"

namespace on_cpu {
namespace {

constexpr size_t MAPPED = WINDOW + 2 * PAGE;
constexpr unsigned char POISON = 0xff; // NaN in every format
constexpr uint32_t RED_ZONE = 64; // between arrays, so that a step past one is not a step into the next

template <class T> T* reserve(size_t bytes, int protection) {
  void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<T*>(p);
}

} // namespace

SharedMemory::SharedMemory() {
  window = reserve<unsigned char>(MAPPED, PROT_NONE) + PAGE;
  mprotect(window, WINDOW, PROT_READ | PROT_WRITE);
  cells = reserve<SharedCell>(WINDOW * sizeof(SharedCell), PROT_READ | PROT_WRITE);
}

SharedMemory::~SharedMemory() {
  munmap(window - PAGE, MAPPED);
  munmap(cells, WINDOW * sizeof(SharedCell));
}

void SharedMemory::begin_block(uint32_t dynamic_bytes) {
  generation++;
  static_end = FIRST_STATIC;
  dynamic_begin = (WINDOW - dynamic_bytes) & ~1023u; // as aligned as a swizzled tile wants to be
  dynamic_end = dynamic_begin + dynamic_bytes;
  std::memset(window + dynamic_begin, POISON, WINDOW - dynamic_begin);
  ranges.clear();
  if (dynamic_bytes) ranges.push_back({dynamic_begin, dynamic_end, "dynamic shared memory", nullptr});
}

unsigned char* SharedMemory::array(const void* key, size_t bytes, size_t alignment, const char* name) {
  for (const Range& range : ranges)
    if (range.key == key) return window + range.begin;
  const uint32_t step = static_cast<uint32_t>(std::max<size_t>(alignment, 16));
  const uint32_t begin = (static_end + RED_ZONE + step - 1) / step * step;
  if (begin + bytes > std::min(END_STATIC, dynamic_begin)) return nullptr;
  static_end = begin + static_cast<uint32_t>(bytes);
  ranges.push_back({begin, static_end, name, key});
  std::memset(window + begin, POISON, bytes);
  return window + begin;
}

const Range* SharedMemory::range(uint32_t offset, uint32_t bytes) const {
  for (const Range& range : ranges)
    if (offset >= range.begin && offset + bytes <= range.end) return &range;
  return nullptr;
}

std::string SharedMemory::name(uint32_t offset) const {
  for (const Range& range : ranges)
    if (offset >= range.begin && offset < range.end) return text("%s+%u", range.name, offset - range.begin);
  for (const Range& range : ranges)
    if (offset >= range.end && offset < range.end + 1024)
      return text("%s+%u (its size is %u)", range.name, offset - range.begin, range.end - range.begin);
  return text("shared offset 0x%x, in no allocation", offset);
}

long SharedMemory::past_the_end() const {
  for (uint32_t at = dynamic_end; at < WINDOW; at++)
    if (window[at] != POISON) return static_cast<long>(at - dynamic_end);
  return -1;
}

bool SharedMemory::near(uintptr_t address) const {
  return address - reinterpret_cast<uintptr_t>(window) < WINDOW + PAGE;
}

} // namespace on_cpu
