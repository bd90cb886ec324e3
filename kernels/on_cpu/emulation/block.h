// One block of a launch. It runs on one OS thread; its threads are fibers that run until they have to wait. When none can
// run, one bulk copy arrives; when none is under way either, the block is stuck, and the report says who waits where.
#pragma once
#include <setjmp.h>

#include <map>
#include <vector>

#include "launch.h"
#include "shared_memory.h"
#include "thread.h"

namespace on_cpu {

// __syncthreads (barrier 0) and the named barriers.
struct Barrier {
  int expected = 0; // 0: all threads of the block
  int vote = -1; // the kind of vote, if it is one
  int votes = 0;
  Location where; // of whoever came first
  std::vector<Actor> waiting, passed_by;
  Row* released = nullptr; // by those who passed by

  int count() const { return static_cast<int>(waiting.size() + passed_by.size()); }
};

struct MBarrier {
  uint32_t expected = 0, pending = 0, phase = 0;
  Actor made_by = 0;
  uint32_t made_at = 0; // that thread's step
  int64_t bytes = 0; // announced, not yet arrived
  Row* arriving = nullptr; // what those who arrived in this phase have done
  Row* completed = nullptr; // and those of the phases that are over
};

struct BulkCopy {
  std::vector<Copy> pieces;
  uint32_t mbarrier, bytes;
};

// An atomic access by which a thread met publications: the first `count` of them.
struct Meeting {
  const std::vector<Publication>* published;
  size_t count;
  Actor who;
  uint32_t step;
};

struct Warpgroup;

struct Block {
  Block();
  ~Block();

  // Takes over what differs between launches: its threads' stacks may have to grow in number.
  void begin_launch(Launch& next);
  void run(uint64_t number);

  // Scheduling.
  void ready(Thread& thread);
  void wait(Thread& thread, State state, Location where);

  // Errors. A report lets the block go on; a failure ends the launch, and does not return to a fiber.
  void report(const std::string& key, const std::string& what);
  void fail(const std::string& what);
  std::string name(Actor who) const;

  // Every load and store of a kernel comes through here.
  void access(Thread& thread, const void* address, uint32_t bytes, Access kind, const void* return_address);
  void access_shared(Thread& thread, uint32_t offset, uint32_t bytes, Access kind, Place place);
  void access_global(Thread& thread, uintptr_t address, uint32_t bytes, Access kind, Place place);
  // The tensor cores read in the background: `known` is what the threads were ordered after when they asked.
  void access_by_tensor_cores(const Warpgroup& group, const Row* known, uint32_t offset, uint32_t bytes, Place place);
  // The offset of an address that a wrapper was given.
  uint32_t shared_operand(const void* address, uint32_t bytes, uint32_t alignment, const char* what, Location where);
  // Copies: poisoned when they are issued, carried out when they arrive.
  void issue(Thread& thread, const Copy& copy, Location where);
  void land(const Copy& copy, Actor writer, uint32_t step);

  void synchronise(Thread* const* all, int count); // each is ordered after all before it goes on
  bool arrive_bulk_copy(); // false where none is under way
  void end_phase_if_over(uint32_t offset);
  Warpgroup& warpgroup(const Thread& thread);

  Launch* launch = nullptr;
  SharedMemory shared;
  Clocks clocks;
  std::vector<Thread> threads; // the first `count` of them take part
  int count = 0, warps = 0, alive = 0;
  uint64_t number = 0;
  uint3 index{};
  dim3 extent, grid;
  uint64_t idle_accesses = 0; // since a thread last waited
  uint32_t copier_step = 1;

  Barrier barriers[16];
  std::vector<uint32_t> lanes_waiting, lanes_exited, lanes_absent; // by warp
  std::map<uint32_t, MBarrier> mbarriers; // by offset
  std::vector<BulkCopy> bulk_copies;
  std::vector<Meeting> meetings;
  std::vector<Warpgroup> warpgroups;

  const Buffer* last_buffer = nullptr;
  char* stacks = nullptr;
  int stack_count = 0;
  sigjmp_buf out_of_fault;
  bool aborted = false;

  uint32_t random();
  const Buffer* buffer_near(uintptr_t address) const;

private:
  void outside_buffers(uintptr_t address, uint32_t bytes, Access kind, Place place);
  void meet_publications(const Thread& thread, uintptr_t address);
  bool is_after_publication(const Thread& thread, const GlobalCell::Access& past) const;
  bool access_global_byte(Thread& thread, const Buffer& buffer, size_t at, Access kind, Place place);
  void begin_block(uint64_t number);
  void begin_thread(int number, Row* row);
  void run_threads();
  Thread* next();
  void stuck();
  void check_end();

  void* scheduler = nullptr; // its context while a fiber runs
  uint64_t random_state = 1;
  uint32_t first = 0, last = 0; // of the ring
  Actor ring[MOST_THREADS * 2];
};

constexpr size_t STACK = 64 << 10;
constexpr size_t STACK_STRIDE = STACK + PAGE; // the page below a stack is its guard

} // namespace on_cpu
