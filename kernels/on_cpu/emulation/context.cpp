#include "context.h"

#ifndef __x86_64__
#error "the emulation switches stacks on x86-64 alone"
#endif

asm(R"(
.text
.p2align 4
.hidden on_cpu_switch
.globl on_cpu_switch
.type on_cpu_switch,@function
on_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size on_cpu_switch,.-on_cpu_switch
)");
