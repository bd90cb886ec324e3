// A launch, and the interface by which the host sees the emulation: plain C, opened at run time by the crate.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "calls.h"
#include "global_memory.h"
#include "report.h"

namespace on_cpu {

// What a launch did. The same fields, in this order, as in counters.rs.
struct Counters {
  uint64_t switches, block_barriers, warp_operations, mma, ldmatrix, ldmatrix_extra_passes, async_copies, wgmma, bulk_copies,
      accesses, global_bytes_read, global_bytes_written;
};

struct Configuration {
  uint32_t grid[3], block[3], dynamic_bytes;
  uint64_t seed; // 0: threads run in ascending order; otherwise at random, the same way each time
};

struct NamedKernel {
  const char* name;
  const Kernel* kernel;
  uint32_t most_threads;
  Image image;
};

// What a block's threads had done before fences, when one of them went to a location atomically; by place in their rows.
struct Publication {
  uint64_t block;
  std::vector<uint32_t> steps;
};

struct Launch {
  const NamedKernel& kernel;
  const Configuration& shape;
  void** parameters;
  uint32_t serial;
  Buffers buffers;
  std::map<uintptr_t, std::vector<Publication>> published{}; // by location
  bool stopped = false;
  std::vector<std::string> reports;
  std::set<std::string> seen; // what has been reported before
  Counters counters{};
};

} // namespace on_cpu
