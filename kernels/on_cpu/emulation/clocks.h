// Vector clocks: who has seen what of whom. A thread's row says up to which of its steps every other actor is ordered
// before it; synchronisation joins rows. Rows are shared by the threads that left the same barrier. Other blocks are another
// matter: they see what was done before a __threadfence, so a row also says what came before the fences it is ordered after.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace on_cpu {

constexpr int MOST_THREADS = 1024;
constexpr int MOST_WARPGROUPS = MOST_THREADS / 128;

// An actor is a thread of the block by its number, or one of these.
using Actor = uint16_t;
constexpr Actor COPIER = 0xffff; // the asynchronous copies
constexpr Actor WARPGROUPS = COPIER - MOST_WARPGROUPS; // the tensor cores of each warpgroup

struct Row {
  int users;
  bool fences; // `fenced` holds something
  uint32_t clock[MOST_THREADS + MOST_WARPGROUPS + 1];
  uint32_t fenced[MOST_THREADS + MOST_WARPGROUPS + 1];

  // Actors that are no threads come first, so that a row of few threads is short.
  static constexpr int place(Actor who) { return static_cast<uint16_t>(who + MOST_WARPGROUPS + 1); }
  uint32_t& of(Actor who) { return clock[place(who)]; }
  uint32_t of(Actor who) const { return clock[place(who)]; }
};

// What a thread knows, and the step it is at. Steps begin with 1.
struct Knowledge {
  Row* row = nullptr;
  uint32_t step = 1;
};

class Clocks {
public:
  // Begins a block of `threads` threads.
  void begin(int threads) { length = Row::place(static_cast<Actor>(threads)); }

  Row* nothing() { // ordered before nobody
    Row* row = fresh();
    row->fences = false;
    std::memset(row->clock, 0, bytes());
    return row;
  }
  Row* copy(const Row* of) {
    Row* row = fresh();
    std::memcpy(row->clock, of->clock, bytes());
    row->fences = of->fences;
    if (row->fences) std::memcpy(row->fenced, of->fenced, bytes());
    return row;
  }
  void drop(Row*& row) {
    if (row && --row->users == 0) unused.push_back(row);
    row = nullptr;
  }
  void raise(Row* row, const Row* by) {
    for (int i = 0; i < length; i++) row->clock[i] = std::max(row->clock[i], by->clock[i]);
    if (!by->fences) return;
    if (!row->fences) std::memset(row->fenced, 0, bytes());
    row->fences = true;
    for (int i = 0; i < length; i++) row->fenced[i] = std::max(row->fenced[i], by->fenced[i]);
  }
  void lower(Row* row, const Row* by) {
    for (int i = 0; i < length; i++) row->clock[i] = std::min(row->clock[i], by->clock[i]);
  }
  void give(Knowledge& to, Row* row) {
    row->users++;
    drop(to.row);
    to.row = row;
  }
  // What `from` (actor `who`) has done is seen by whoever acquires `row`.
  void release(Row*& row, Actor who, Knowledge& from) {
    if (!row) {
      row = nothing();
      row->users = 1;
    }
    raise(row, from.row);
    row->of(who) = std::max(row->of(who), from.step++);
  }
  void acquire(Knowledge& to, const Row* row) {
    if (!row) return;
    Row* joined = copy(to.row);
    raise(joined, row);
    give(to, joined);
  }

  // What `of` (actor `who`) has done and is ordered after comes before its fence.
  void fence(Knowledge& of, Actor who) {
    Row* row = copy(of.row);
    std::memcpy(row->fenced, row->clock, bytes());
    row->fenced[Row::place(who)] = of.step++;
    row->fences = true;
    give(of, row);
  }
  std::vector<uint32_t> fenced(const Row* row) const { return {row->fenced, row->fenced + length}; }

private:
  Row* fresh() {
    Row* row = unused.empty() ? static_cast<Row*>(std::malloc(sizeof(Row))) : unused.back();
    if (!unused.empty()) unused.pop_back();
    row->users = 0;
    return row;
  }
  size_t bytes() const { return static_cast<size_t>(length) * sizeof(uint32_t); }

  std::vector<Row*> unused;
  int length = 0;
};

} // namespace on_cpu
