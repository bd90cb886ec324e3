// A warpgroup's tensor cores. Multiplications are remembered when they are issued and carried out when they are waited for,
// from shared memory as it then is; until then the accumulators hold NaN. So a missing wait shows, and so does a tile that
// is refilled too early.
#pragma once
#include <vector>

#include "block.h"

namespace on_cpu {

enum class WgmmaKind { FENCE, MULTIPLY, COMMIT, WAIT };

// What the 128 threads have to agree on.
struct WgmmaCall {
  WgmmaKind kind;
  Location where;
  int n = 0; // columns, or the groups that may stay under way
  uint64_t a = 0, b = 0; // descriptors
  bool a_in_registers = false;
  WgmmaForm form{};
};

struct Product {
  WgmmaCall call;
  uint32_t a[128][4]; // where A comes from registers
  int group;
  size_t accumulator;
  Row* known; // what all threads were ordered after
};

struct Accumulator {
  float* d[128]; // the array of each thread; d[0] is null once it has been written back
  int n;
  int pending; // products that are not carried out
  std::vector<float> value; // 64 x n
};

struct Warpgroup {
  void forget(Clocks& clocks);

  Actor actor = 0;
  uint32_t step = 1; // of its tensor cores
  int present = 0; // threads that have come to `call`
  WgmmaCall call{};
  float* d[128];
  uint32_t a[128][4];
  bool fenced = false;
  int group = 0;
  std::vector<Product> products;
  std::vector<Accumulator> accumulators;
};

} // namespace on_cpu
