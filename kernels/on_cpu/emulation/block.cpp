#include "block.h"

#include <sys/mman.h>

#include <map>
#include <new>

#include "context.h"
#include "faults.h"
#include "wgmma.h"

namespace on_cpu {

thread_local Thread* current = nullptr;

namespace {

// The threads of a warp that wait for a lane that is gone.
void check_exit(Block& block, const Thread& gone) {
  if (!gone.copies.empty()) block.fail("this thread exits with cp_async copies it has not waited for");
  const Barrier& barrier = block.barriers[0];
  if (barrier.count())
    block.fail(text("barrier divergence: this thread exits while %d threads wait at the barrier at %s", barrier.count(),
                    text(barrier.where).c_str()));
  for (uint32_t lanes = block.lanes_waiting[gone.warp]; lanes; lanes &= lanes - 1) {
    const Thread& other = block.threads[static_cast<size_t>(gone.warp * 32 + __builtin_ctz(lanes))];
    if (other.call.mask >> gone.lane & 1)
      block.fail(text("warp divergence: this thread exits while its warp waits for it at %s",
                      text(other.where).c_str()));
  }
}

void fiber() {
  Thread& thread = *current;
  Block& block = *thread.block;
  block.launch->kernel.kernel->run(block.launch->parameters);
  block.alive--;
  block.lanes_exited[thread.warp] |= 1u << thread.lane;
  check_exit(block, thread);
  block.wait(thread, State::EXITED, {});
  __builtin_unreachable();
}

} // namespace

Block::Block() : threads(MOST_THREADS) {}

Block::~Block() {
  if (stacks) munmap(stacks, static_cast<size_t>(stack_count) * STACK_STRIDE);
}

void Block::begin_launch(Launch& next) {
  launch = &next;
  last_buffer = nullptr;
  const auto& [grid_size, block_size, dynamic_bytes, seed] = next.shape;
  extent = dim3(block_size[0], block_size[1], block_size[2]);
  grid = dim3(grid_size[0], grid_size[1], grid_size[2]);
  count = static_cast<int>(extent.x * extent.y * extent.z);
  warps = (count + 31) / 32;
  if (stack_count >= count) return;
  if (stacks) munmap(stacks, static_cast<size_t>(stack_count) * STACK_STRIDE);
  stack_count = count;
  void* p = mmap(nullptr, static_cast<size_t>(count) * STACK_STRIDE, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  stacks = static_cast<char*>(p);
  for (int i = 0; i < count; i++)
    mprotect(stacks + static_cast<size_t>(i) * STACK_STRIDE + PAGE, STACK, PROT_READ | PROT_WRITE);
}

void Block::begin_block(uint64_t which) {
  number = which;
  index = {static_cast<unsigned>(which % grid.x), static_cast<unsigned>(which / grid.x % grid.y),
           static_cast<unsigned>(which / grid.x / grid.y)};
  alive = count;
  aborted = false;
  idle_accesses = 0;
  copier_step = 1;
  random_state = (launch->shape.seed * 0x9e3779b97f4a7c15u) ^ ((which + 1) * 0xd1b54a32d192ed03u);
  random_state += random_state == 0;
  shared.begin_block(launch->shape.dynamic_bytes);
  clocks.begin(count);
  lanes_waiting.assign(static_cast<size_t>(warps), 0);
  lanes_exited.assign(static_cast<size_t>(warps), 0);
  lanes_absent.assign(static_cast<size_t>(warps), 0);
  if (count % 32) lanes_absent.back() = ~0u << (count % 32);
  for (Barrier& barrier : barriers) {
    clocks.drop(barrier.released);
    barrier = Barrier{};
  }
  for (auto& [offset, mbarrier] : mbarriers) {
    clocks.drop(mbarrier.arriving);
    clocks.drop(mbarrier.completed);
  }
  mbarriers.clear();
  bulk_copies.clear();
  meetings.clear();
  for (Warpgroup& group : warpgroups) group.forget(clocks);
  warpgroups.assign(static_cast<size_t>((count + 127) / 128), Warpgroup{});
  first = last = 0;
}

void Block::begin_thread(int which, Row* row) {
  Thread& thread = threads[static_cast<size_t>(which)];
  const unsigned i = static_cast<unsigned>(which);
  thread.block = this;
  thread.number = static_cast<Actor>(which);
  thread.warp = static_cast<uint16_t>(which / 32);
  thread.lane = static_cast<uint8_t>(which % 32);
  thread.index = {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y};
  clocks.give(thread.knows, row);
  thread.knows.step = 1;
  thread.fenced = 0;
  thread.copies.clear();
  thread.copy_group = 0;
  char* stack = stacks + static_cast<size_t>(which) * STACK_STRIDE + PAGE;
  thread.stack = reinterpret_cast<uintptr_t>(stack);
  thread.context = new_context(stack, STACK, fiber);
  ready(thread);
}

void Block::run(uint64_t which) {
  begin_block(which);
  Row* nothing = clocks.nothing();
  nothing->users++;
  for (int i = 0; i < count; i++) begin_thread(i, nothing);
  clocks.drop(nothing);
  if (sigsetjmp(out_of_fault, 0) == 0) {
    run_threads();
    if (!aborted) check_end();
  }
  current = nullptr;
}

void Block::run_threads() {
  while (!aborted) {
    if (Thread* thread = next()) {
      current = thread;
      on_cpu_switch(&scheduler, thread->context);
      current = nullptr;
    } else if (alive == 0) {
      return;
    } else if (!arrive_bulk_copy()) {
      stuck();
    }
  }
}

void Block::check_end() {
  if (!bulk_copies.empty()) fail(text("the block ends with %zu bulk copies under way", bulk_copies.size()));
  if (const long past = shared.past_the_end(); past >= 0)
    fail(text("write past the end of dynamic shared memory, %ld bytes behind it", past));
}

uint32_t Block::random() { // xorshift64
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<uint32_t>(random_state >> 32);
}

void Block::ready(Thread& thread) {
  thread.state = State::READY;
  ring[last++ % (MOST_THREADS * 2)] = thread.number;
}

Thread* Block::next() {
  if (first == last) return nullptr;
  const auto slot = [this](uint32_t i) -> Actor& { return ring[i % (MOST_THREADS * 2)]; };
  if (launch->shape.seed) std::swap(slot(first), slot(first + random() % (last - first)));
  return &threads[slot(first++)];
}

void Block::wait(Thread& thread, State state, Location where) {
  thread.state = state;
  thread.where = where;
  launch->counters.switches++;
  idle_accesses = 0;
  Thread* other = next();
  if (other == &thread) return;
  current = other;
  on_cpu_switch(&thread.context, other ? other->context : scheduler);
}

void Block::stuck() {
  std::map<std::string, int> places;
  for (int i = 0; i < count; i++) {
    const Thread& thread = threads[static_cast<size_t>(i)];
    const std::string where = text(thread.where);
    switch (thread.state) {
    case State::READY:
    case State::EXITED: places["have exited"]++; break;
    case State::AT_BARRIER: places["wait at " + where + " for a barrier of the block"]++; break;
    case State::IN_WARP: places["wait at " + where + " for the rest of their warp"]++; break;
    case State::IN_WARPGROUP: places["wait at " + where + " for the rest of their warpgroup"]++; break;
    case State::AT_MBARRIER: {
      const MBarrier& mbarrier = mbarriers[thread.mbarrier];
      places["wait at " + where +
             text(" for an mbarrier (parity %u; %u arrivals and %lld bytes are missing)", thread.parity, mbarrier.pending,
                  static_cast<long long>(mbarrier.bytes))]++;
      break;
    }
    }
  }
  std::string all = "deadlock or divergence:";
  for (const auto& [place, threads_there] : places) all += text("\n    %d threads ", threads_there) + place;
  fail(all);
}

std::string Block::name(Actor who) const {
  if (who == COPIER) return "an asynchronous copy";
  if (who >= WARPGROUPS) return text("the tensor cores of warpgroup %d", who - WARPGROUPS);
  const uint3& i = threads[who].index;
  return text("thread (%u,%u,%u)", i.x, i.y, i.z);
}

void Block::report(const std::string& key, const std::string& what) {
  constexpr size_t MOST_REPORTS = 8;
  if (!launch->seen.insert(key).second || launch->reports.size() == MOST_REPORTS) return;
  std::string who = text("%s: block (%u,%u,%u)", launch->kernel.name, index.x, index.y, index.z);
  if (current) who += " " + name(current->number);
  launch->reports.push_back(who + ": " + what);
}

void Block::fail(const std::string& what) {
  report(what, what);
  aborted = launch->stopped = true;
  Thread* thread = current;
  if (!thread) return;
  current = nullptr; // kernels own nothing, so a fiber may be left where it stands
  on_cpu_switch(&thread->context, scheduler);
}

void Block::synchronise(Thread* const* all, int n) {
  Row* joined = clocks.copy(all[0]->knows.row);
  const Row* last_raised = all[0]->knows.row;
  for (int i = 1; i < n; i++) {
    const Row* row = all[i]->knows.row;
    if (row != last_raised) clocks.raise(joined, row);
    last_raised = row;
  }
  for (int i = 0; i < n; i++) joined->of(all[i]->number) = all[i]->knows.step++;
  joined->users++;
  for (int i = 0; i < n; i++) clocks.give(all[i]->knows, joined);
  clocks.drop(joined);
}

const Buffer* Block::buffer_near(uintptr_t address) const {
  for (const auto& buffer : launch->buffers)
    if (address + PAGE >= buffer->begin && address < buffer->begin + buffer->bytes + PAGE) return buffer.get();
  return nullptr;
}

} // namespace on_cpu
