// Switching between stacks. x86-64 alone: the registers that a called function keeps are pushed, and popped on the other
// side. (An unused rounding mode or x87 state is not worth the time of saving it.)
#pragma once
#include <cstddef>

// Saves where the caller stands in *save, and goes on at `to`.
extern "C" void on_cpu_switch(void** save, void* to);

// A stack that enters `entry`, which never returns, when it is first switched to.
inline void* new_context(char* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes);
  *--top = nullptr; // aligns the stack as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; saved++) *--top = nullptr;
  return top;
}
