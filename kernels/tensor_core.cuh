// Tensor cores through mma.sync (sm_80), one warp at a time. Fragment layouts are those of the PTX ISA, "Matrix Fragments
// for mma.m16n8k16": with g = lane / 4 and t = lane % 4, a holds rows g, g + 8 and columns 2t, 2t + 8; b holds rows
// 2t, 2t + 8 of column g; d holds columns 2t, 2t + 1 of rows g (d[0], d[1]) and g + 8 (d[2], d[3]).
#pragma once
#include "kernel.cuh"

// Four 8x8 matrices of 16-bit elements; lane i passes the address of row i % 8 of matrix i / 8.
DEV void ldmatrix_x4(uint32_t (&r)[4], const void* row AT_CALLER) {
  GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                   : "r"(smem_u32(row))
                   : "memory"));
  CPU(on_cpu::ldmatrix(r, 4, on_cpu::Order::ROWS, row, where));
}

// The same, each matrix transposed on its way.
DEV void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row AT_CALLER) {
  GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                   : "r"(smem_u32(row))
                   : "memory"));
  CPU(on_cpu::ldmatrix(r, 4, on_cpu::Order::COLUMNS, row, where));
}

// d += a * b in f32: a is 16x16 row-major bf16, b is 16x8 column-major bf16.
DEV void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 AT_CALLER) {
  GPU(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                   "{%0,%1,%2,%3};"
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)));
  CPU(const uint32_t b[2] = {b0, b1}; on_cpu::mma_m16n8k16_bf16(d, a, b, where));
}
