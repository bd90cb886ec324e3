// One CUDA thread: a fiber, and what it waits for.
#pragma once
#include <vector>

#include "calls.h"
#include "clocks.h"

namespace on_cpu {

struct Block;

enum class State : uint8_t { READY, AT_BARRIER, IN_WARP, IN_WARPGROUP, AT_MBARRIER, EXITED };

// Up to 16 bytes on their way into shared memory: `source_bytes` from `source`, then zeros.
struct Copy {
  uint32_t target;
  const char* source;
  uint16_t bytes, source_bytes;
  int group;
};

// An operation of the whole warp. Lanes meet where kind, mask, detail and location agree.
enum class WarpKind : uint8_t { SYNC, SHUFFLE, REDUCE, LDMATRIX, MMA };
struct WarpCall {
  WarpKind kind;
  uint32_t mask;
  int detail;
  Location where;
  uint64_t value; // of this lane
  int argument; // of this lane
  const void* operands; // of this lane
};

struct Thread {
  Block* block = nullptr;
  void* context = nullptr;
  uintptr_t stack = 0; // its lowest address
  uint3 index{};
  Actor number = 0;
  uint16_t warp = 0;
  uint8_t lane = 0;
  State state = State::READY;
  Location where; // it waits here
  uint64_t result = 0; // of what it waited for
  WarpCall call{};
  uint32_t mbarrier = 0, parity = 0; // it waits for the end of this phase
  Knowledge knows;
  uint32_t fenced = 0; // its steps up to this one are visible to the asynchronous proxy
  std::vector<Copy> copies; // issued by cp_async, not yet waited for
  int copy_group = 0;

  bool is_after(Actor who, uint32_t step) const { return who == number || step <= knows.row->of(who); }
};

// The thread that runs on this OS thread, if one does.
extern thread_local Thread* current __attribute__((tls_model("initial-exec")));

} // namespace on_cpu
