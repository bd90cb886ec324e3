#include "wgmma.h"

#include <cstring>

#include "bfloat16.h"
#include "swizzle.h"

namespace on_cpu {
namespace {

constexpr int THREADS = 128, ROWS = 64, DEPTH = 16;

// Where thread t of the warpgroup keeps element d[j].
struct Element {
  int row, column;
};
Element element(int t, int j) { return {t / 32 * 16 + t % 32 / 4 + (j >> 1 & 1) * 8, j / 4 * 8 + t % 4 * 2 + (j & 1)}; }

template <class F> void each_element(const Accumulator& accumulator, F f) {
  for (int t = 0; t < THREADS; t++)
    for (int j = 0; j < accumulator.n / 2; j++) {
      const Element at = element(t, j);
      f(accumulator.d[t][j], static_cast<size_t>(at.row * accumulator.n + at.column));
    }
}

Thread& member(Block& block, const Warpgroup& group, int t) {
  return block.threads[static_cast<size_t>((group.actor - WARPGROUPS) * THREADS + t)];
}

// One accumulator array is under way at most once; products that add to it queue up.
size_t take_accumulator(Warpgroup& group) {
  auto& all = group.accumulators;
  for (size_t i = 0; i < all.size(); i++)
    if (all[i].d[0] == group.d[0]) return i;
  Accumulator taken{};
  taken.n = group.call.n;
  taken.value.resize(static_cast<size_t>(ROWS * taken.n));
  std::memcpy(taken.d, group.d, sizeof taken.d);
  each_element(taken, [&](float& d, size_t at) {
    taken.value[at] = d;
    d = __builtin_nanf("");
  });
  all.push_back(std::move(taken));
  return all.size() - 1;
}

// What every thread of the warpgroup is ordered after.
Row* known_to_all(Block& block, const Warpgroup& group) {
  const Row* last = member(block, group, 0).knows.row;
  Row* known = block.clocks.copy(last);
  known->users = 1;
  for (int t = 1; t < THREADS; t++) {
    const Row* row = member(block, group, t).knows.row;
    if (row != last) block.clocks.lower(known, row);
    last = row;
  }
  return known;
}

void issue(Block& block, Warpgroup& group) {
  if (!group.fenced)
    block.report("wgmma fence", text("wgmma at %s without wgmma_fence before it", text(group.call.where).c_str()));
  block.launch->counters.wgmma++;
  Product product{group.call, {}, group.group, take_accumulator(group), known_to_all(block, group)};
  std::memcpy(product.a, group.a, sizeof product.a);
  group.accumulators[product.accumulator].pending++;
  group.products.push_back(product);
}

enum class Major { K, MN };

// Element (mn, k) of an operand tile, by the canonical layouts of the PTX ISA, "Matrix Descriptor Format" and "Strides".
struct Operand {
  Block& block;
  const Warpgroup& group;
  const Product& product;
  uint64_t descriptor;
  Major major;

  uint32_t address(uint32_t mn, uint32_t k) const {
    const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
    const uint32_t leading = static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4;
    const uint32_t stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
    const uint32_t mode = static_cast<uint32_t>(descriptor >> 62);
    const uint32_t span = mode == 1 ? 128 : mode == 2 ? 64 : mode == 3 ? 32 : 16; // bytes of one row of the atom
    uint32_t at = start;
    if (major == Major::K) {
      at += mn / 8 * stride + mn % 8 * span;
      at += mode ? 2 * k : k / 8 * leading + k % 8 * 2;
    } else if (mode) {
      const uint32_t per_row = span / 2;
      at += mn / per_row * leading + mn % per_row * 2 + k / 8 * stride + k % 8 * span;
    } else {
      at += mn / 8 * stride + mn % 8 * 2 + k / 8 * leading + k % 8 * 16;
    }
    return swizzled(at, mode ? span : 0);
  }
  float operator()(int mn, int k) const {
    const uint32_t at = address(static_cast<uint32_t>(mn), static_cast<uint32_t>(k));
    block.access_by_tensor_cores(group, product.known, at, 2, place(product.call.where));
    uint16_t bits;
    std::memcpy(&bits, block.shared.window + at, 2);
    return f32_from(bits);
  }
};

// The fragment layout of A of mma.m16n8k16, one warp per 16 rows.
float from_registers(const Product& product, int row, int k) {
  const int lane = row % 8 * 4 + k % 8 / 2, in_register = row % 16 / 8 + k / 8 * 2;
  return bf16_half(product.a[row / 16 * 32 + lane][in_register], k & 1);
}

// Each element adds its products in ascending k; every product and every sum is rounded to f32.
void carry_out(Block& block, Warpgroup& group, const Product& product) {
  const WgmmaForm form = product.call.form;
  Accumulator& accumulator = group.accumulators[product.accumulator];
  const int n = accumulator.n;
  const Operand tile_a{block, group, product, product.call.a, form.transpose_a ? Major::MN : Major::K};
  const Operand tile_b{block, group, product, product.call.b, form.transpose_b ? Major::MN : Major::K};
  std::vector<float> b(static_cast<size_t>(DEPTH * n));
  for (int k = 0; k < DEPTH; k++)
    for (int j = 0; j < n; j++) b[static_cast<size_t>(k * n + j)] = tile_b(j, k);
  for (int i = 0; i < ROWS; i++) {
    float* d = &accumulator.value[static_cast<size_t>(i * n)];
    if (!form.keep_d) std::fill(d, d + n, 0.f);
    for (int k = 0; k < DEPTH; k++) {
      const float a = product.call.a_in_registers ? from_registers(product, i, k) : tile_a(i, k);
      for (int j = 0; j < n; j++) d[j] += a * b[static_cast<size_t>(k * n + j)];
    }
  }
  accumulator.pending--;
}

// What the tensor cores have done so far is now ordered before the threads.
void tell_threads(Block& block, Warpgroup& group) {
  const Row* before = nullptr;
  Row* after = nullptr;
  for (int t = 0; t < THREADS; t++) {
    Knowledge& knows = member(block, group, t).knows;
    if (knows.row != before) {
      before = knows.row;
      after = block.clocks.copy(before);
      after->of(group.actor) = group.step;
    }
    block.clocks.give(knows, after);
  }
  group.step++;
}

void finish(Block& block, Warpgroup& group, int may_stay) {
  size_t done = 0;
  auto& products = group.products;
  for (; done < products.size() && products[done].group < group.group - may_stay; done++) {
    carry_out(block, group, products[done]);
    block.clocks.drop(products[done].known);
  }
  products.erase(products.begin(), products.begin() + static_cast<ptrdiff_t>(done));
  for (Accumulator& accumulator : group.accumulators) {
    if (accumulator.pending || !accumulator.d[0]) continue;
    each_element(accumulator, [&](float& d, size_t at) { d = accumulator.value[at]; });
    accumulator.d[0] = nullptr;
  }
  if (products.empty()) group.accumulators.clear();
  group.fenced = false;
  tell_threads(block, group);
}

bool agree(const WgmmaCall& x, const WgmmaCall& y) {
  return x.n == y.n && x.a == y.a && x.b == y.b && x.a_in_registers == y.a_in_registers && x.form == y.form;
}

void carry_out(Block& block, Warpgroup& group) {
  switch (group.call.kind) {
  case WgmmaKind::FENCE: group.fenced = true; break;
  case WgmmaKind::MULTIPLY: issue(block, group); break;
  case WgmmaKind::COMMIT: group.group++; break;
  case WgmmaKind::WAIT: finish(block, group, group.call.n); break;
  }
}

Warpgroup& group_of(Thread& thread, Location where) {
  Block& block = *thread.block;
  const int number = thread.number / THREADS;
  if ((number + 1) * THREADS > block.count)
    block.fail(text("wgmma at %s: this thread is in no complete warpgroup", text(where).c_str()));
  Warpgroup& group = block.warpgroups[static_cast<size_t>(number)];
  group.actor = static_cast<Actor>(WARPGROUPS + number);
  return group;
}

void meet(Thread& thread, Warpgroup& group, const WgmmaCall& call) {
  Block& block = *thread.block;
  if (!group.present) group.call = call;
  else if (group.call.kind != call.kind || !same(group.call.where, call.where))
    block.fail(text("warpgroup divergence: this thread is at %s, others of its warpgroup at %s", text(call.where).c_str(),
                    text(group.call.where).c_str()));
  else if (!agree(group.call, call))
    block.fail(text("wgmma at %s: the threads of the warpgroup pass different operands", text(call.where).c_str()));
  if (++group.present < THREADS) return block.wait(thread, State::IN_WARPGROUP, call.where);
  group.present = 0;
  carry_out(block, group);
  for (int t = 0; t < THREADS; t++)
    if (Thread& other = member(block, group, t); &other != &thread) block.ready(other);
}

void meet(const WgmmaCall& call) { meet(*current, group_of(*current, call.where), call); }

} // namespace

void Warpgroup::forget(Clocks& clocks) {
  for (Product& product : products) clocks.drop(product.known);
}

void wgmma_fence(Location where) { meet({WgmmaKind::FENCE, where}); }
void wgmma_commit(Location where) { meet({WgmmaKind::COMMIT, where}); }
void wgmma_wait(int pending, Location where) { meet({WgmmaKind::WAIT, where, pending}); }

void wgmma(float* d, int n, uint64_t a, const uint32_t* a_registers, uint64_t b, WgmmaForm form, Location where) {
  Warpgroup& group = group_of(*current, where);
  const int t = current->number % THREADS;
  group.d[t] = d;
  if (a_registers) std::memcpy(group.a[t], a_registers, sizeof group.a[t]);
  meet(*current, group, {WgmmaKind::MULTIPLY, where, n, a, b, a_registers != nullptr, form});
}

} // namespace on_cpu
