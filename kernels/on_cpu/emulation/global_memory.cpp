#include "global_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace on_cpu {
namespace {

std::mutex lock;
std::map<uintptr_t, std::shared_ptr<Buffer>> buffers;

void* reserve(size_t bytes, int protection) {
  void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return p;
}

} // namespace

Buffer::Buffer(size_t wanted) : bytes(wanted) {
  const size_t body = (bytes + 15) / 16 * 16;
  const size_t pages = std::max<size_t>((body + PAGE - 1) / PAGE, 1) * PAGE;
  mapped = pages + 2 * PAGE;
  mapping = static_cast<char*>(reserve(mapped, PROT_NONE));
  cells = static_cast<GlobalCell*>(reserve((bytes + 1) * sizeof(GlobalCell), PROT_READ | PROT_WRITE));
  written = static_cast<uint8_t*>(reserve(bytes + 1, PROT_READ | PROT_WRITE));
  mprotect(mapping + PAGE, pages, PROT_READ | PROT_WRITE);
  std::memset(mapping + PAGE, 0xff, pages); // NaN in every format
  begin = reinterpret_cast<uintptr_t>(mapping) + PAGE + pages - body;
}

Buffer::~Buffer() {
  if (mapping) munmap(mapping, mapped);
  if (cells) munmap(cells, (bytes + 1) * sizeof(GlobalCell));
  if (written) munmap(written, bytes + 1);
}

void Buffer::mark_written(uintptr_t address, size_t n) { std::memset(written + (address - begin), 1, n); }

uintptr_t allocate(size_t bytes) {
  auto buffer = std::make_shared<Buffer>(bytes);
  const uintptr_t address = buffer->begin;
  const std::lock_guard guard(lock);
  buffers[address] = std::move(buffer);
  return address;
}

bool release(uintptr_t address) {
  const std::lock_guard guard(lock);
  return buffers.erase(address) == 1;
}

std::shared_ptr<Buffer> find(uintptr_t address, size_t bytes) {
  const std::lock_guard guard(lock);
  auto after = buffers.upper_bound(address);
  if (after == buffers.begin()) return nullptr;
  const auto& candidate = std::prev(after)->second;
  return candidate->holds(address, bytes) ? candidate : nullptr;
}

Buffers live_buffers() {
  const std::lock_guard guard(lock);
  Buffers live;
  live.reserve(buffers.size());
  for (const auto& entry : buffers) live.push_back(entry.second);
  return live;
}

} // namespace on_cpu
