// CUDA's small vectors, with the alignment that makes them one access.
#pragma once

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define ON_CPU_VECTORS(T, name)                                                                                        \
  struct alignas(sizeof(T) * 2) name##2 {                                                                              \
    T x, y;                                                                                                            \
  };                                                                                                                   \
  struct alignas(sizeof(T) * 4 > 16 ? 16 : sizeof(T) * 4) name##4 {                                                    \
    T x, y, z, w;                                                                                                      \
  };                                                                                                                   \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                           \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
ON_CPU_VECTORS(float, float)
ON_CPU_VECTORS(double, double)
ON_CPU_VECTORS(int, int)
ON_CPU_VECTORS(unsigned, uint)
ON_CPU_VECTORS(short, short)
ON_CPU_VECTORS(unsigned short, ushort)
ON_CPU_VECTORS(signed char, char)
ON_CPU_VECTORS(unsigned char, uchar)
ON_CPU_VECTORS(long long, longlong)
ON_CPU_VECTORS(unsigned long long, ulonglong)
#undef ON_CPU_VECTORS
