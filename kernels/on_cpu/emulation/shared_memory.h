// One block's shared memory: a window with a guard page behind it, the allocations in it, and a shadow cell per byte.
#pragma once
#include <string>
#include <vector>

#include "clocks.h"
#include "report.h"

namespace on_cpu {

constexpr uint32_t WINDOW = 256 << 10; // offsets fit the 18 bits of a wgmma descriptor
constexpr uint32_t MOST_DYNAMIC = 227 << 10; // what a block can have on sm_90
constexpr uint32_t FIRST_STATIC = 1024, END_STATIC = FIRST_STATIC + (48 << 10) + 4096;

enum class Access : uint8_t { READ, WRITE, ATOMIC, TENSOR_READ };
inline bool reads(Access access) { return access == Access::READ || access == Access::TENSOR_READ; }
inline const char* verb(Access access) { return reads(access) ? "read" : "write"; }

// What happened to one byte. Cells of another generation, that is of another block, are blank.
struct SharedCell {
  uint32_t generation;
  uint32_t write_step, read_step[2]; // the last two readers that are not ordered before each other
  Place write_place, read_place;
  Actor writer, reader[2];
  uint16_t marks;
};
static_assert(sizeof(SharedCell) == 32);

enum Mark : uint16_t {
  WRITTEN = 1,
  READ_FIRST = 2, // reader[0] holds
  READ_SECOND = 4, // reader[1] holds
  IN_FLIGHT = 8, // an asynchronous copy is on its way here
  WRITTEN_ATOMICALLY = 16,
  WRITTEN_ORDINARILY = 32, // not by the asynchronous proxy, which sees it only after a fence
};

struct Range {
  uint32_t begin, end;
  const char* name;
  const void* key;
};

struct SharedMemory {
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void begin_block(uint32_t dynamic_bytes);
  // The array of this key, made when a thread first comes to it; null where it does not fit.
  unsigned char* array(const void* key, size_t bytes, size_t alignment, const char* name);
  const Range* range(uint32_t offset, uint32_t bytes) const; // the allocation that holds them all
  std::string name(uint32_t offset) const; // "tile+16"
  // How many bytes behind dynamic shared memory the first one stands that is no longer poison; -1 if there is none.
  long past_the_end() const;

  uint32_t offset(const void* p) const {
    return static_cast<uint32_t>(std::min<uintptr_t>(reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(window), WINDOW));
  }
  bool near(uintptr_t address) const; // in the window or its guard page
  SharedCell& cell(uint32_t offset) {
    SharedCell& cell = cells[offset];
    if (cell.generation != generation) cell = SharedCell{generation, 0, {0, 0}, 0, 0, 0, {0, 0}, 0};
    return cell;
  }

  unsigned char* window = nullptr;
  uint32_t dynamic_begin = 0, dynamic_end = 0;

private:
  SharedCell* cells = nullptr;
  uint32_t generation = 0, static_end = FIRST_STATIC;
  std::vector<Range> ranges;
};

} // namespace on_cpu
