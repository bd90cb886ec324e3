// Warpgroup tensor cores (sm_90a): 128 threads multiply bf16 tiles of 64 x 16 by 16 x N into f32, in the background.
// Order: wgmma_fence, multiplications, wgmma_commit, wgmma_wait. Between issue and wait neither the accumulators nor the
// registers of A may be touched. Thread t of the warpgroup holds, in d[j], row t / 32 * 16 + t % 32 / 4 + (j / 2 % 2) * 8
// and column j / 4 * 8 + t % 4 * 2 + j % 2.
#pragma once
#include "barrier.cuh"

enum WgmmaSwizzle : uint32_t { SWIZZLE_NONE = 0, SWIZZLE_128 = 1, SWIZZLE_64 = 2, SWIZZLE_32 = 3 };

// Describes a tile in shared memory by the canonical layouts of the PTX ISA; `lbo` and `sbo` are the leading and the stride
// byte offset, `swizzle` one of WgmmaSwizzle. Under SWIZZLE_128 a tile is made of atoms of 8 rows of 128 bytes:
//   K-major   a row holds 64 k of one m or n; the next 8 m or n stand `sbo` on, `lbo` is not read; 16 k on are 32 bytes on
//   MN-major  a row holds 64 m or n of one k; the next 8 k stand `sbo` on, the next 64 m or n `lbo`
DEV uint64_t wgmma_desc(const void* tile, uint32_t lbo, uint32_t sbo, uint32_t swizzle) {
  uint64_t desc = (smem_u32(tile) & 0x3ffffu) >> 4;
  desc |= static_cast<uint64_t>((lbo >> 4) & 0x3fff) << 16;
  desc |= static_cast<uint64_t>((sbo >> 4) & 0x3fff) << 32;
  desc |= static_cast<uint64_t>(swizzle) << 62;
  return desc;
}

// Orders earlier accesses to the registers before the multiplications that follow.
DEV void wgmma_fence(ONLY_AT_CALLER) {
  GPU_SM90(asm volatile("wgmma.fence.sync.aligned;" ::: "memory"));
  CPU(on_cpu::wgmma_fence(where));
}

// The multiplications since the last commit are one group.
DEV void wgmma_commit(ONLY_AT_CALLER) {
  GPU_SM90(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"));
  CPU(on_cpu::wgmma_commit(where));
}

#define WGMMA_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_8(d, i) WGMMA_4(d, i), WGMMA_4(d, i + 4)
#define WGMMA_16(d, i) WGMMA_8(d, i), WGMMA_8(d, i + 8)
#define WGMMA_32(d, i) WGMMA_16(d, i), WGMMA_16(d, i + 16)
#define WGMMA_64(d, i) WGMMA_32(d, i), WGMMA_32(d, i + 32)
#define WGMMA_NAMES_8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define WGMMA_NAMES_32                                                                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"     \
  "%30,%31"
#define WGMMA_NAMES_64                                                                                                 \
  WGMMA_NAMES_32                                                                                                       \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,"  \
  "%60,%61,%62,%63"
#define WGMMA_NAMES_96                                                                                                 \
  WGMMA_NAMES_64                                                                                                       \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89"           \
  ",%90,%91,%92,%93,%94,%95"
#define WGMMA_NAMES_128                                                                                                \
  WGMMA_NAMES_96                                                                                                       \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117"         \
  ",%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

// Waits until at most N groups are under way. The accumulators are named so that the compiler moves no use of them above
// the wait.
template <int N> DEV void wgmma_wait(float (&d)[8] AT_CALLER) {
  GPU_SM90(asm volatile("wgmma.wait_group.sync.aligned %8;" : WGMMA_8(d, 0) : "n"(N) : "memory"));
  CPU((void)d; on_cpu::wgmma_wait(N, where));
}
template <int N> DEV void wgmma_wait(float (&d)[32] AT_CALLER) {
  GPU_SM90(asm volatile("wgmma.wait_group.sync.aligned %32;" : WGMMA_32(d, 0) : "n"(N) : "memory"));
  CPU((void)d; on_cpu::wgmma_wait(N, where));
}
template <int N> DEV void wgmma_wait(float (&d)[64] AT_CALLER) {
  GPU_SM90(asm volatile("wgmma.wait_group.sync.aligned %64;" : WGMMA_64(d, 0) : "n"(N) : "memory"));
  CPU((void)d; on_cpu::wgmma_wait(N, where));
}
template <int N> DEV void wgmma_wait(float (&d)[96] AT_CALLER) {
  GPU_SM90(asm volatile("wgmma.wait_group.sync.aligned %96;" : WGMMA_64(d, 0), WGMMA_32(d, 64) : "n"(N) : "memory"));
  CPU((void)d; on_cpu::wgmma_wait(N, where));
}
template <int N> DEV void wgmma_wait(float (&d)[128] AT_CALLER) {
  GPU_SM90(asm volatile("wgmma.wait_group.sync.aligned %128;" : WGMMA_64(d, 0), WGMMA_64(d, 64) : "n"(N) : "memory"));
  CPU((void)d; on_cpu::wgmma_wait(N, where));
}

// d = a * b + (scale_d ? d : 0), both operands from shared memory. TB 0: b is K-major, 1: b is N-major. TA 0: a is K-major,
// 1: a is M-major.
template <int TB = 0, int TA = 0>
DEV void wgmma_m64n16k16_bf16(float (&d)[8], uint64_t a, uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %10, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {" WGMMA_NAMES_8
                        "}, %8, %9, keep, 1, 1, %11, %12;\n}"
                        : WGMMA_8(d, 0)
                        : "l"(a), "l"(b), "r"(scale_d), "n"(TA), "n"(TB)));
  CPU(on_cpu::wgmma(d, 16, a, nullptr, b, {scale_d != 0, TA != 0, TB != 0}, where));
}
template <int TB = 0, int TA = 0>
DEV void wgmma_m64n64k16_bf16(float (&d)[32], uint64_t a, uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %34, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WGMMA_NAMES_32
                        "}, %32, %33, keep, 1, 1, %35, %36;\n}"
                        : WGMMA_32(d, 0)
                        : "l"(a), "l"(b), "r"(scale_d), "n"(TA), "n"(TB)));
  CPU(on_cpu::wgmma(d, 64, a, nullptr, b, {scale_d != 0, TA != 0, TB != 0}, where));
}
template <int TB = 0, int TA = 0>
DEV void wgmma_m64n128k16_bf16(float (&d)[64], uint64_t a, uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %66, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_NAMES_64
                        "}, %64, %65, keep, 1, 1, %67, %68;\n}"
                        : WGMMA_64(d, 0)
                        : "l"(a), "l"(b), "r"(scale_d), "n"(TA), "n"(TB)));
  CPU(on_cpu::wgmma(d, 128, a, nullptr, b, {scale_d != 0, TA != 0, TB != 0}, where));
}
template <int TB = 0, int TA = 0>
DEV void wgmma_m64n192k16_bf16(float (&d)[96], uint64_t a, uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %98, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" WGMMA_NAMES_96
                        "}, %96, %97, keep, 1, 1, %99, %100;\n}"
                        : WGMMA_64(d, 0), WGMMA_32(d, 64)
                        : "l"(a), "l"(b), "r"(scale_d), "n"(TA), "n"(TB)));
  CPU(on_cpu::wgmma(d, 192, a, nullptr, b, {scale_d != 0, TA != 0, TB != 0}, where));
}
template <int TB = 0, int TA = 0>
DEV void wgmma_m64n256k16_bf16(float (&d)[128], uint64_t a, uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %130, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" WGMMA_NAMES_128
                        "}, %128, %129, keep, 1, 1, %131, %132;\n}"
                        : WGMMA_64(d, 0), WGMMA_64(d, 64)
                        : "l"(a), "l"(b), "r"(scale_d), "n"(TA), "n"(TB)));
  CPU(on_cpu::wgmma(d, 256, a, nullptr, b, {scale_d != 0, TA != 0, TB != 0}, where));
}

// The same with a from registers: four of them, laid out as for mma_m16n8k16_bf16, one warp per 16 rows.
template <int TB = 0>
DEV void wgmma_m64n64k16_bf16(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %37, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WGMMA_NAMES_32
                        "}, {%32,%33,%34,%35}, %36, keep, 1, 1, %38;\n}"
                        : WGMMA_32(d, 0)
                        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d), "n"(TB)));
  CPU(on_cpu::wgmma(d, 64, 0, a, b, {scale_d != 0, false, TB != 0}, where));
}
template <int TB = 0>
DEV void wgmma_m64n128k16_bf16(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %69, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_NAMES_64
                        "}, {%64,%65,%66,%67}, %68, keep, 1, 1, %70;\n}"
                        : WGMMA_64(d, 0)
                        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d), "n"(TB)));
  CPU(on_cpu::wgmma(d, 128, 0, a, b, {scale_d != 0, false, TB != 0}, where));
}
template <int TB = 0>
DEV void wgmma_m64n256k16_bf16(float (&d)[128], const uint32_t (&a)[4], uint64_t b, int scale_d AT_CALLER) {
  GPU_SM90(asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %133, 0;\n"
                        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" WGMMA_NAMES_128
                        "}, {%128,%129,%130,%131}, %132, keep, 1, 1, %134;\n}"
                        : WGMMA_64(d, 0), WGMMA_64(d, 64)
                        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d), "n"(TB)));
  CPU(on_cpu::wgmma(d, 256, 0, a, b, {scale_d != 0, false, TB != 0}, where));
}
