// Everything a kernel sees in place of the CUDA headers when a host compiler reads it. Included by kernel.cuh alone.
#pragma once
#ifdef __CUDACC__
#error "device.h is for host compilers; include kernel.cuh"
#endif

// The standard headers come before the macros below, some of which they use as attribute names.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

#include "vector_types.h"

#include "calls.h"

#include "threads.h"

#include "arithmetic.h"
#include "bfloat16.h"
