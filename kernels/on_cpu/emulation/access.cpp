// Checks of single loads and stores: bounds, initialisation, copies under way, and races by happens-before.
#include "block.h"
#include "wgmma.h"

namespace on_cpu {
namespace {

std::string key(const char* kind, Place here, Place there) { return text("%s %x %x", kind, here, there); }

// One access to shared memory, byte by byte. The first byte that is wrong is the one that is reported.
struct SharedCheck {
  Block& block;
  Thread& thread; // whose knowledge counts
  Access kind;
  Place place;
  const Row* known; // what the accessing actor is ordered after, where that is not the thread's own row
  Actor who;
  uint32_t step;

  bool is_after(Actor other, uint32_t other_step) const {
    if (other == who) return true;
    return known ? other_step <= known->of(other) : thread.is_after(other, other_step);
  }

  bool byte(uint32_t at) {
    SharedCell& cell = block.shared.cell(at);
    if (!check_arrived(cell, at) || !check_written(cell, at) || !check_after_write(cell, at)) return false;
    if (kind == Access::TENSOR_READ && !check_fence(cell, at)) return false;
    if (reads(kind)) {
      note_read(cell);
      return true;
    }
    if (!check_after_reads(cell, at)) return false;
    cell.writer = who;
    cell.write_step = step;
    cell.write_place = place;
    cell.marks = WRITTEN | WRITTEN_ORDINARILY | (kind == Access::ATOMIC ? WRITTEN_ATOMICALLY : 0);
    return true;
  }

  bool check_arrived(const SharedCell& cell, uint32_t at) const {
    if (!(cell.marks & IN_FLIGHT)) return true;
    block.report(key("flight", place, cell.write_place),
                 text("%s of %s at %s while an asynchronous copy into it, issued by %s at %s, has not been waited for",
                      verb(kind), block.shared.name(at).c_str(), text(place).c_str(), block.name(cell.writer).c_str(),
                      text(cell.write_place).c_str()));
    return false;
  }
  bool check_written(const SharedCell& cell, uint32_t at) const {
    if (kind == Access::WRITE || cell.marks & WRITTEN) return true;
    block.report(key("unwritten", place, 0), text("read of uninitialised shared memory %s at %s",
                                                  block.shared.name(at).c_str(), text(place).c_str()));
    return false;
  }
  bool check_after_write(const SharedCell& cell, uint32_t at) const {
    const bool both_atomic = kind == Access::ATOMIC && cell.marks & WRITTEN_ATOMICALLY;
    if (!(cell.marks & WRITTEN) || both_atomic || is_after(cell.writer, cell.write_step)) return true;
    block.report(key("race", place, cell.write_place),
                 text("race on shared memory: %s of %s at %s, not ordered after the write by %s at %s", verb(kind),
                      block.shared.name(at).c_str(), text(place).c_str(), block.name(cell.writer).c_str(),
                      text(cell.write_place).c_str()));
    return false;
  }
  bool check_fence(const SharedCell& cell, uint32_t at) const {
    if (!(cell.marks & WRITTEN_ORDINARILY) || cell.writer >= WARPGROUPS) return true;
    if (cell.write_step <= block.threads[cell.writer].fenced) return true;
    block.report(key("fence", place, cell.write_place),
                 text("wgmma at %s reads %s, written at %s with no fence_proxy_async by the writer since",
                      text(place).c_str(), block.shared.name(at).c_str(), text(cell.write_place).c_str()));
    return false;
  }
  bool check_after_reads(const SharedCell& cell, uint32_t at) const {
    for (int i = 0; i < 2; i++) {
      if (!(cell.marks & (i ? READ_SECOND : READ_FIRST)) || is_after(cell.reader[i], cell.read_step[i])) continue;
      block.report(key("overwrite", place, cell.read_place),
                   text("race on shared memory: write of %s at %s, not ordered after the read by %s at %s",
                        block.shared.name(at).c_str(), text(place).c_str(), block.name(cell.reader[i]).c_str(),
                        text(cell.read_place).c_str()));
      return false;
    }
    return true;
  }
  void note_read(SharedCell& cell) const {
    const bool replaces_first = !(cell.marks & READ_FIRST) || is_after(cell.reader[0], cell.read_step[0]);
    const int slot = replaces_first ? 0 : 1;
    cell.marks |= slot ? READ_SECOND : READ_FIRST;
    cell.reader[slot] = who;
    cell.read_step[slot] = step;
    cell.read_place = place;
  }
};

} // namespace

void Block::access_shared(Thread& thread, uint32_t offset, uint32_t bytes, Access kind, Place place) {
  if (offset + bytes > WINDOW || !shared.range(offset, bytes))
    return fail(text("shared memory out of bounds: %u-byte %s of %s at %s", bytes, verb(kind), shared.name(offset).c_str(),
                     text(place).c_str()));
  SharedCheck check{*this, thread, kind, place, nullptr, thread.number, thread.knows.step};
  for (uint32_t at = offset; at < offset + bytes; at++)
    if (!check.byte(at)) return;
}

void Block::access_by_tensor_cores(const Warpgroup& group, const Row* known, uint32_t offset, uint32_t bytes, Place place) {
  if (offset + bytes > WINDOW || !shared.range(offset, bytes))
    return fail(text("wgmma at %s reads %s, out of bounds", text(place).c_str(), shared.name(offset).c_str()));
  SharedCheck check{*this, *current, Access::TENSOR_READ, place, known, group.actor, group.step};
  for (uint32_t at = offset; at < offset + bytes; at++)
    if (!check.byte(at)) return;
}

void Block::access_global(Thread& thread, uintptr_t address, uint32_t bytes, Access kind, Place place) {
  const Buffer* buffer = last_buffer;
  if (!buffer || !buffer->holds(address, bytes)) {
    const auto& all = launch->buffers;
    auto after = std::upper_bound(all.begin(), all.end(), address,
                                  [](uintptr_t a, const std::shared_ptr<Buffer>& b) { return a < b->begin; });
    buffer = after == all.begin() ? nullptr : std::prev(after)->get();
  }
  if (!buffer || !buffer->holds(address, bytes)) return outside_buffers(address, bytes, kind, place);
  last_buffer = buffer;
  (reads(kind) ? launch->counters.global_bytes_read : launch->counters.global_bytes_written) += bytes;
  const size_t begin = address - buffer->begin;
  for (size_t at = begin; at < begin + bytes; at++)
    if (!access_global_byte(thread, *buffer, at, kind, place)) return;
  if (kind == Access::ATOMIC) meet_publications(thread, address);
}

void Block::meet_publications(const Thread& thread, uintptr_t address) {
  auto& published = launch->published[address];
  meetings.push_back({&published, published.size(), thread.number, thread.knows.step});
  const Row* row = thread.knows.row;
  if (row->fences) published.push_back({number, clocks.fenced(row)});
}

// Whether it was published, and a fence behind the atomic access that met the publication is behind this thread. What a block
// learnt from a second one it does not pass on to a third.
bool Block::is_after_publication(const Thread& thread, const GlobalCell::Access& past) const {
  const Row* row = thread.knows.row;
  if (!row->fences) return false;
  for (const Meeting& meeting : meetings) {
    if (row->fenced[Row::place(meeting.who)] < meeting.step) continue;
    for (size_t i = 0; i < meeting.count; i++) {
      const Publication& publication = (*meeting.published)[i];
      if (publication.block == past.block && publication.steps[static_cast<size_t>(Row::place(past.thread))] >= past.step)
        return true;
    }
  }
  return false;
}

void Block::outside_buffers(uintptr_t address, uint32_t bytes, Access kind, Place place) {
  if (launch->kernel.image.holds(address, bytes)) return; // a table of constants
  const Buffer* near = buffer_near(address);
  const std::string what = text("global memory out of bounds: %u-byte %s ", bytes, verb(kind));
  if (near && address >= near->begin)
    return fail(what + text("at offset %zu of a buffer of %zu bytes at %s", address - near->begin, near->bytes,
                            text(place).c_str()));
  if (near)
    return fail(what + text("%zu bytes before a buffer of %zu bytes at %s", near->begin - address, near->bytes,
                            text(place).c_str()));
  fail(what + text("of address 0x%zx, in no buffer, at %s", address, text(place).c_str()));
}

bool Block::access_global_byte(Thread& thread, const Buffer& buffer, size_t at, Access kind, Place place) {
  constexpr uint16_t ATOMICALLY = 0x8000, LATE = 0xffff; // steps from LATE on are not told apart
  GlobalCell& cell = buffer.cells[at];
  if (kind != Access::WRITE && !buffer.written[at]) {
    report(key("global unwritten", place, 0), text("read of uninitialised global memory, byte %zu of a buffer of %zu, at %s",
                                                   at, buffer.bytes, text(place).c_str()));
    return false;
  }
  const auto unordered = [&](const GlobalCell::Access& past) {
    if (past.launch != launch->serial) return false;
    if (kind == Access::ATOMIC && past.thread & ATOMICALLY) return false;
    const bool here = past.block == static_cast<uint32_t>(number);
    if (here && (past.step == LATE || thread.is_after(past.thread & ~ATOMICALLY, past.step))) return false;
    return past.thread & ATOMICALLY || !is_after_publication(thread, past);
  };
  const auto race = [&](const GlobalCell::Access& past, const char* past_verb) {
    const bool elsewhere = past.block != static_cast<uint32_t>(number);
    report(key("global race", place, elsewhere),
           text("race on global memory: %s of byte %zu of a buffer of %zu at %s, not ordered after the %s by thread %d of %s",
                verb(kind), at, buffer.bytes, text(place).c_str(), past_verb, past.thread & ~ATOMICALLY,
                elsewhere ? "another block" : "this block"));
    return false;
  };
  if (unordered(cell.write)) return race(cell.write, "write");
  const auto step = static_cast<uint16_t>(std::min<uint32_t>(thread.knows.step, LATE));
  const GlobalCell::Access now{launch->serial, static_cast<uint32_t>(number), thread.number, step};
  if (reads(kind)) { // of several blocks that read, the first is remembered
    if (cell.read.launch != launch->serial || cell.read.block == now.block) cell.read = now;
    return true;
  }
  if (unordered(cell.read)) return race(cell.read, "read");
  cell.write = now;
  if (kind == Access::ATOMIC) cell.write.thread |= ATOMICALLY;
  buffer.written[at] = 1;
  return true;
}

void Block::access(Thread& thread, const void* address, uint32_t bytes, Access kind, const void* return_address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const Place place = launch->kernel.image.place(return_address);
  if (shared.near(at)) return access_shared(thread, shared.offset(address), bytes, kind, place);
  access_global(thread, at, bytes, kind, place);
}

uint32_t Block::shared_operand(const void* address, uint32_t bytes, uint32_t alignment, const char* what, Location where) {
  const uint32_t offset = shared.offset(address);
  if (offset >= WINDOW) fail(text("%s at %s: not an address in shared memory", what, text(where).c_str()));
  if (!shared.range(offset, bytes))
    fail(text("%s at %s: %s is out of bounds", what, text(where).c_str(), shared.name(offset).c_str()));
  if (offset % alignment) fail(text("%s at %s: %s is not %u-byte aligned", what, text(where).c_str(),
                                    shared.name(offset).c_str(), alignment));
  return offset;
}

} // namespace on_cpu
