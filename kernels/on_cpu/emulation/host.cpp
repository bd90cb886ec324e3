#include "host.h"

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "block.h"
#include "faults.h"
#include "tensor_map.h"
#include "wgmma.h"

namespace on_cpu {
namespace {

std::map<std::string, NamedKernel>& kernels() { // objects register while they are loaded, before a plain global may exist
  static std::map<std::string, NamedKernel> all;
  return all;
}
std::mutex kernels_lock;

thread_local std::string last_reports;

std::mutex idle_lock;
std::vector<std::unique_ptr<Block>> idle_blocks;

std::unique_ptr<Block> take_block() {
  const std::lock_guard lock(idle_lock);
  if (idle_blocks.empty()) return std::make_unique<Block>();
  auto block = std::move(idle_blocks.back());
  idle_blocks.pop_back();
  return block;
}

void give_back(std::unique_ptr<Block> block) {
  const std::lock_guard lock(idle_lock);
  idle_blocks.push_back(std::move(block));
}

// Why the driver would refuse this launch; empty where it would not.
std::string refusal(const NamedKernel& kernel, const Configuration& shape) {
  const uint64_t threads = static_cast<uint64_t>(shape.block[0]) * shape.block[1] * shape.block[2];
  if (!shape.grid[0] || !shape.grid[1] || !shape.grid[2] || !threads) return "an empty grid or block";
  if (shape.grid[1] > 65535 || shape.grid[2] > 65535) return "more than 65535 blocks along y or z";
  if (threads > kernel.most_threads)
    return text("%u threads a block, and the launch bounds allow %u", static_cast<unsigned>(threads), kernel.most_threads);
  if (shape.dynamic_bytes > MOST_DYNAMIC) return text("%u bytes of shared memory, %u is the most", shape.dynamic_bytes, MOST_DYNAMIC);
  return "";
}

std::atomic<uint32_t> launches{0};

} // namespace

Registration::Registration(const char* name, const Kernel* kernel, uint32_t most_threads) {
  const std::lock_guard lock(kernels_lock);
  kernels()[name] = {name, kernel, most_threads, image_of(name)};
}

} // namespace on_cpu

using namespace on_cpu;

uintptr_t on_cpu_allocate(size_t bytes) try {
  return allocate(bytes);
} catch (const std::bad_alloc&) {
  return 0;
}

bool on_cpu_free(uintptr_t address) { return release(address); }

bool on_cpu_upload(uintptr_t to, const void* from, size_t bytes) {
  const auto buffer = find(to, bytes);
  if (!buffer) return false;
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  buffer->mark_written(to, bytes);
  return true;
}

bool on_cpu_download(void* to, uintptr_t from, size_t bytes) {
  const auto buffer = find(from, bytes);
  if (buffer) std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return buffer != nullptr;
}

bool on_cpu_fill(uintptr_t to, uint8_t byte, size_t bytes) {
  const auto buffer = find(to, bytes);
  if (!buffer) return false;
  std::memset(reinterpret_cast<void*>(to), byte, bytes);
  buffer->mark_written(to, bytes);
  return true;
}

bool on_cpu_copy(uintptr_t to, uintptr_t from, size_t bytes) {
  const auto target = find(to, bytes), source = find(from, bytes);
  if (!target || !source) return false;
  std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  std::memmove(target->written + (to - target->begin), source->written + (from - source->begin), bytes);
  return true;
}

bool on_cpu_first_unwritten(uintptr_t address, size_t bytes, size_t* first) {
  const auto buffer = find(address, bytes);
  if (!buffer) return false;
  const uint8_t* written = buffer->written + (address - buffer->begin);
  const void* blank = std::memchr(written, 0, bytes);
  *first = blank ? static_cast<size_t>(static_cast<const uint8_t*>(blank) - written) : bytes;
  return true;
}

const NamedKernel* on_cpu_find(const char* name) {
  const std::lock_guard lock(kernels_lock);
  const auto found = kernels().find(name);
  return found == kernels().end() ? nullptr : &found->second;
}

const char* on_cpu_source(const NamedKernel* kernel) { return kernel->image.path.c_str(); }

uint32_t on_cpu_parameters(const NamedKernel* kernel, const uint32_t** bytes) {
  *bytes = kernel->kernel->parameter_bytes;
  return kernel->kernel->parameters;
}

uint32_t on_cpu_most_threads(const NamedKernel* kernel) { return kernel->most_threads; }

bool on_cpu_launch(const NamedKernel* kernel, const Configuration* shape, void** parameters, Counters* counters) {
  last_reports = refusal(*kernel, *shape);
  if (!last_reports.empty()) {
    last_reports = std::string(kernel->name) + ": " + last_reports;
    return false;
  }
  Launch launch{*kernel, *shape, parameters, ++launches, live_buffers()};
  catch_faults();
  auto block = take_block();
  block->begin_launch(launch);
  const uint64_t blocks = static_cast<uint64_t>(shape->grid[0]) * shape->grid[1] * shape->grid[2];
  for (uint64_t i = 0; i < blocks && !launch.stopped; i++) block->run(i);
  give_back(std::move(block));
  *counters = launch.counters;
  for (const std::string& report : launch.reports) last_reports += resolve(report, kernel->image) + "\n";
  return launch.reports.empty();
}

const char* on_cpu_last_reports() { return last_reports.c_str(); }

bool on_cpu_tensor_map(void* map, uintptr_t base, uint32_t rank, const uint64_t* extent, const uint64_t* stride,
                       const uint32_t* box, uint32_t element_bytes, uint32_t swizzle) {
  if (rank < 1 || rank > 5 || base % 16 || !element_bytes || element_bytes > 8) return false;
  if (swizzle != 0 && swizzle != 32 && swizzle != 64 && swizzle != 128) return false;
  if (swizzle && box[0] * element_bytes > swizzle) return false;
  if (box[0] * element_bytes % 16) return false;
  TensorMapFields fields{};
  for (uint32_t d = 0; d < rank; d++) {
    if (!extent[d] || !box[d] || box[d] > 256 || (d && stride[d - 1] % 16)) return false;
    fields.extent[d] = extent[d];
    fields.box[d] = static_cast<uint16_t>(box[d]);
    if (d) fields.stride[d - 1] = stride[d - 1];
  }
  fields.magic = TENSOR_MAP_MAGIC;
  fields.base = base;
  fields.rank = static_cast<uint8_t>(rank);
  fields.element_bytes = static_cast<uint16_t>(element_bytes);
  fields.swizzle = static_cast<uint16_t>(swizzle);
  std::memset(map, 0, 128);
  std::memcpy(map, &fields, sizeof fields);
  return true;
}
