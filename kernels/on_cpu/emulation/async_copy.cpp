// cp.async: poisoned when it is issued, copied when its group is waited for.
#include <cstring>

#include "block.h"

namespace on_cpu {

void Block::issue(Thread& thread, const Copy& copy, Location where) {
  const Place here = place(where);
  if (copy.source_bytes) access_global(thread, reinterpret_cast<uintptr_t>(copy.source), copy.source_bytes, Access::READ, here);
  access_shared(thread, copy.target, copy.bytes, Access::WRITE, here);
  for (uint32_t at = copy.target; at < copy.target + copy.bytes; at++) shared.cell(at).marks |= IN_FLIGHT;
  std::memset(shared.window + copy.target, 0xff, copy.bytes);
}

void Block::land(const Copy& copy, Actor writer, uint32_t step) {
  std::memcpy(shared.window + copy.target, copy.source, copy.source_bytes);
  std::memset(shared.window + copy.target + copy.source_bytes, 0, static_cast<size_t>(copy.bytes - copy.source_bytes));
  for (uint32_t at = copy.target; at < copy.target + copy.bytes; at++) {
    SharedCell& cell = shared.cell(at);
    cell.marks = WRITTEN | (writer == COPIER ? 0 : WRITTEN_ORDINARILY);
    cell.writer = writer;
    cell.write_step = step;
  }
}

void cp_async(void* dst, const void* src, int bytes, int source_bytes, Location where) {
  Thread& thread = *current;
  Block& block = *thread.block;
  const auto n = static_cast<uint32_t>(bytes);
  const uint32_t target = block.shared_operand(dst, n, n, "cp.async", where);
  if (source_bytes && reinterpret_cast<uintptr_t>(src) % n)
    block.fail(text("cp.async at %s: the address in global memory is not %d-byte aligned", text(where).c_str(), bytes));
  block.launch->counters.async_copies++;
  thread.copies.push_back({target, static_cast<const char*>(src), static_cast<uint16_t>(bytes),
                           static_cast<uint16_t>(source_bytes), thread.copy_group});
  block.issue(thread, thread.copies.back(), where);
}

void cp_async_commit() { current->copy_group++; }

void cp_async_wait(int pending) {
  Thread& thread = *current;
  auto& copies = thread.copies;
  size_t done = 0;
  for (; done < copies.size() && copies[done].group < thread.copy_group - pending; done++)
    thread.block->land(copies[done], thread.number, thread.knows.step);
  copies.erase(copies.begin(), copies.begin() + static_cast<ptrdiff_t>(done));
}

} // namespace on_cpu
