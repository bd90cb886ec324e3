// How tiles are spread over the banks: 16-byte pieces of a row change places by the row's number.
#pragma once
#include <cstdint>

namespace on_cpu {

// The offset in shared memory at which a tile of rows of `span` bytes (32, 64, 128; 0 for none) keeps what an unswizzled one
// has at `offset`. Works on offsets in the window, not in the tile: tiles are aligned accordingly.
inline uint32_t swizzled(uint32_t offset, uint32_t span) {
  const uint32_t row = offset >> 7;
  switch (span) {
  case 128: return offset ^ (row & 7) << 4;
  case 64: return offset ^ (row & 3) << 4;
  case 32: return offset ^ (row & 1) << 4;
  default: return offset;
  }
}

} // namespace on_cpu
