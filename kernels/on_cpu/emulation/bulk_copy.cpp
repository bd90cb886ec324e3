// mbarriers, and the bulk copies that report to them. A copy is poisoned when it is issued, and arrives only when no thread
// can go on: as late as possible, in an order that the seed chooses.
#include <cstring>

#include "block.h"
#include "swizzle.h"
#include "tensor_map.h"

namespace on_cpu {
namespace {

MBarrier& mbarrier_at(Block& block, void* bar, const char* what, Location where, uint32_t& offset) {
  offset = block.shared_operand(bar, 8, 8, what, where);
  const auto found = block.mbarriers.find(offset);
  if (found == block.mbarriers.end())
    block.fail(text("%s at %s on an mbarrier that is not initialised", what, text(where).c_str()));
  // Whoever uses an mbarrier is ordered after its initialisation; uses themselves are ordered by it.
  block.access_shared(*current, offset, 8, Access::READ, place(where));
  for (uint32_t at = offset; at < offset + 8; at++)
    block.shared.cell(at).marks &= static_cast<uint16_t>(~(READ_FIRST | READ_SECOND));
  return found->second;
}

bool phase_is_over(const MBarrier& mbarrier, uint32_t parity) { return (mbarrier.phase & 1) != parity; }

void start(Block& block, BulkCopy&& copy, void* bar, Location where) {
  const MBarrier& mbarrier = mbarrier_at(block, bar, "bulk copy", where, copy.mbarrier);
  if (mbarrier.made_at > block.threads[mbarrier.made_by].fenced)
    block.report("mbarrier fence",
                 text("bulk copy at %s signals an mbarrier whose initialisation was not followed by fence_mbar_init",
                      text(where).c_str()));
  for (const Copy& piece : copy.pieces) block.issue(*current, piece, where);
  block.launch->counters.bulk_copies++;
  block.bulk_copies.push_back(std::move(copy));
}

// The 16-byte pieces of one row of a box; what stands outside the tensor is filled with zeros.
void add_row(BulkCopy& copy, const TensorMapFields& map, const int* corner, uint32_t row, uint32_t target) {
  const uint32_t row_bytes = map.box[0] * map.element_bytes;
  bool inside = true;
  const char* source = reinterpret_cast<const char*>(map.base);
  uint32_t rest = row;
  for (int d = 1; d < map.rank; d++) {
    const int64_t at = corner[d] + static_cast<int64_t>(rest % map.box[d]);
    rest /= map.box[d];
    inside &= at >= 0 && at < static_cast<int64_t>(map.extent[d]);
    source += at * static_cast<int64_t>(map.stride[d - 1]);
  }
  const int64_t end = static_cast<int64_t>(map.extent[0]) * map.element_bytes;
  for (uint32_t piece = 0; piece < row_bytes; piece += 16) {
    const int64_t at = static_cast<int64_t>(corner[0]) * map.element_bytes + piece;
    const int64_t have = inside && at >= 0 ? std::clamp<int64_t>(end - at, 0, 16) : 0;
    const uint16_t bytes = static_cast<uint16_t>(std::min(16u, row_bytes - piece));
    copy.pieces.push_back({swizzled(target + row * row_bytes + piece, map.swizzle), source + at, bytes,
                           std::min(bytes, static_cast<uint16_t>(have)), 0});
  }
}

} // namespace

void Block::end_phase_if_over(uint32_t offset) {
  MBarrier& mbarrier = mbarriers[offset];
  if (mbarrier.pending || mbarrier.bytes) return;
  mbarrier.phase++;
  mbarrier.pending = mbarrier.expected;
  if (mbarrier.arriving) {
    if (mbarrier.completed) clocks.raise(mbarrier.arriving, mbarrier.completed);
    clocks.drop(mbarrier.completed);
    std::swap(mbarrier.completed, mbarrier.arriving);
  }
  for (int i = 0; i < count; i++) {
    Thread& thread = threads[static_cast<size_t>(i)];
    if (thread.state == State::AT_MBARRIER && thread.mbarrier == offset && phase_is_over(mbarrier, thread.parity))
      ready(thread);
  }
}

bool Block::arrive_bulk_copy() {
  if (bulk_copies.empty()) return false;
  const size_t which = launch->shape.seed ? random() % bulk_copies.size() : 0;
  const BulkCopy copy = std::move(bulk_copies[which]);
  bulk_copies.erase(bulk_copies.begin() + static_cast<ptrdiff_t>(which));
  for (const Copy& piece : copy.pieces) land(piece, COPIER, copier_step);
  MBarrier& mbarrier = mbarriers[copy.mbarrier];
  if (!mbarrier.arriving) {
    mbarrier.arriving = clocks.nothing();
    mbarrier.arriving->users = 1;
  }
  mbarrier.arriving->of(COPIER) = copier_step++;
  mbarrier.bytes -= copy.bytes;
  end_phase_if_over(copy.mbarrier);
  return true;
}

void mbar_init(void* bar, unsigned count, Location where) {
  Thread& thread = *current;
  Block& block = *thread.block;
  const uint32_t offset = block.shared_operand(bar, 8, 8, "mbar_init", where);
  if (!count) block.fail(text("mbar_init at %s: a phase has at least one arrival", text(where).c_str()));
  block.access_shared(thread, offset, 8, Access::WRITE, place(where));
  MBarrier& mbarrier = block.mbarriers[offset];
  block.clocks.drop(mbarrier.arriving);
  block.clocks.drop(mbarrier.completed);
  mbarrier = MBarrier{};
  mbarrier.expected = mbarrier.pending = count;
  mbarrier.made_by = thread.number;
  mbarrier.made_at = thread.knows.step;
}

void mbar_arrive(void* bar, unsigned announced_bytes, Location where) {
  Thread& thread = *current;
  Block& block = *thread.block;
  uint32_t offset;
  MBarrier& mbarrier = mbarrier_at(block, bar, "mbar_arrive", where, offset);
  if (!mbarrier.pending)
    block.fail(text("mbar_arrive at %s: more arrivals than the %u expected in this phase", text(where).c_str(),
                    mbarrier.expected));
  block.clocks.release(mbarrier.arriving, thread.number, thread.knows);
  mbarrier.bytes += announced_bytes;
  mbarrier.pending--;
  block.end_phase_if_over(offset);
}

void mbar_wait(void* bar, unsigned parity, Location where) {
  Thread& thread = *current;
  Block& block = *thread.block;
  uint32_t offset;
  const MBarrier& mbarrier = mbarrier_at(block, bar, "mbar_wait", where, offset);
  if (!phase_is_over(mbarrier, parity)) {
    thread.mbarrier = offset;
    thread.parity = parity;
    block.wait(thread, State::AT_MBARRIER, where);
  }
  block.clocks.acquire(thread.knows, mbarrier.completed);
}

void fence_proxy_async() { current->fenced = current->knows.step++; }

void tma_load(void* dst, const void* map_bytes, const int* corner, int rank, void* bar, Location where) {
  Block& block = *current->block;
  TensorMapFields map;
  std::memcpy(&map, map_bytes, sizeof map);
  if (map.magic != TENSOR_MAP_MAGIC || map.rank != rank)
    block.fail(text("tma_load at %s: not a tensor map of rank %d", text(where).c_str(), rank));
  BulkCopy copy{{}, 0, map.element_bytes};
  for (int d = 0; d < rank; d++) copy.bytes *= map.box[d];
  const uint32_t target = block.shared_operand(dst, copy.bytes, map.swizzle ? 1024 : 128, "tma_load", where);
  const uint32_t rows = copy.bytes / (map.box[0] * map.element_bytes);
  for (uint32_t row = 0; row < rows; row++) add_row(copy, map, corner, row, target);
  start(block, std::move(copy), bar, where);
}

void bulk_load(void* dst, const void* src, unsigned bytes, void* bar, Location where) {
  Block& block = *current->block;
  if (!bytes || bytes % 16 || reinterpret_cast<uintptr_t>(src) % 16)
    block.fail(text("bulk_load at %s: bytes and addresses are multiples of 16", text(where).c_str()));
  const uint32_t target = block.shared_operand(dst, bytes, 16, "bulk_load", where);
  BulkCopy copy{{}, 0, bytes};
  for (uint32_t at = 0; at < bytes; at += 16)
    copy.pieces.push_back({target + at, static_cast<const char*>(src) + at, 16, 16, 0});
  start(block, std::move(copy), bar, where);
}

} // namespace on_cpu
