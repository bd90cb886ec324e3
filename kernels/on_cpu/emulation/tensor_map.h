// What a TensorMap holds here. The GPU's format is not published, so this is not it.
#pragma once
#include <cstdint>

namespace on_cpu {

constexpr uint64_t TENSOR_MAP_MAGIC = 0x70616d20726f736e;

struct TensorMapFields {
  uint64_t magic;
  uint64_t base;
  uint64_t extent[5]; // elements, the contiguous one first
  uint64_t stride[4]; // bytes, of extents 1 to 4
  uint16_t box[5]; // elements
  uint16_t element_bytes, swizzle;
  uint8_t rank;
};
static_assert(sizeof(TensorMapFields) <= 128);

} // namespace on_cpu
