// Barriers of the block: __syncthreads, its votes, and the named ones.
#include "block.h"

namespace on_cpu {
namespace {

constexpr int NO_VOTE = -1;

uint64_t outcome(const Barrier& barrier) {
  switch (static_cast<Vote>(barrier.vote)) {
  case Vote::COUNT: return static_cast<uint64_t>(barrier.votes);
  case Vote::AND: return barrier.votes == barrier.count();
  case Vote::OR: return barrier.votes > 0;
  }
  return 0;
}

void open(Block& block, Barrier& barrier) {
  block.launch->counters.block_barriers++;
  const uint64_t result = outcome(barrier);
  std::vector<Thread*> all;
  for (const Actor who : barrier.waiting) all.push_back(&block.threads[who]);
  if (barrier.passed_by.empty()) {
    block.synchronise(all.data(), static_cast<int>(all.size()));
  } else { // whoever passed by has released, and acquires nothing
    for (Thread* thread : all) block.clocks.release(barrier.released, thread->number, thread->knows);
    for (Thread* thread : all) block.clocks.acquire(thread->knows, barrier.released);
    block.clocks.drop(barrier.released);
  }
  for (Thread* thread : all) {
    thread->result = result;
    if (thread != current) block.ready(*thread);
  }
  barrier = Barrier{};
}

uint64_t come_to(Barrier& barrier, int expected, Arrival arrival, int vote, bool in_favour, Location where) {
  Thread& thread = *current;
  Block& block = *thread.block;
  if (!expected && block.alive < block.count)
    block.fail(text("barrier divergence: barrier at %s after %d threads of the block have exited", text(where).c_str(),
                    block.count - block.alive));
  if (!barrier.count()) {
    barrier.where = where;
    barrier.expected = expected;
    barrier.vote = vote;
  } else if (barrier.expected != expected || barrier.vote != vote || (!expected && !same(barrier.where, where))) {
    block.fail(text("barrier divergence: this thread is at the barrier at %s, %d others wait at %s", text(where).c_str(),
                    barrier.count(), text(barrier.where).c_str()));
  }
  barrier.votes += in_favour;
  const bool waits = arrival == Arrival::WAITS;
  (waits ? barrier.waiting : barrier.passed_by).push_back(thread.number);
  if (!waits) block.clocks.release(barrier.released, thread.number, thread.knows);
  if (barrier.count() == (expected ? expected : block.count)) open(block, barrier);
  else if (waits) block.wait(thread, State::AT_BARRIER, where);
  return thread.result;
}

} // namespace

void block_barrier(Location where) { come_to(current->block->barriers[0], 0, Arrival::WAITS, NO_VOTE, false, where); }

unsigned block_vote(bool vote, Vote kind, Location where) {
  Barrier& barrier = current->block->barriers[0];
  return static_cast<unsigned>(come_to(barrier, 0, Arrival::WAITS, static_cast<int>(kind), vote, where));
}

void named_barrier(int id, int threads, Arrival arrival, Location where) {
  Block& block = *current->block;
  if (id < 1 || id > 15 || threads < 32 || threads % 32 || threads > block.count)
    block.fail(text("named barrier %d for %d threads at %s: ids are 1 to 15, threads whole warps of the block", id, threads,
                    text(where).c_str()));
  come_to(block.barriers[id], threads, arrival, NO_VOTE, false, where);
}

} // namespace on_cpu
