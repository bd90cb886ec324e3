#include "faults.h"

#include <signal.h>
#include <ucontext.h>

#include <mutex>
#include <vector>

#include "block.h"

namespace on_cpu {
namespace {

struct sigaction earlier_segv, earlier_bus;

std::string describe(const Block& block, uintptr_t address) {
  const auto stacks = reinterpret_cast<uintptr_t>(block.stacks);
  if (address - stacks < static_cast<size_t>(block.stack_count) * STACK_STRIDE)
    return text("stack overflow: a thread has %zu KiB here", STACK >> 10);
  if (block.shared.near(address)) return "access past the end of dynamic shared memory";
  const Buffer* buffer = block.buffer_near(address);
  if (!buffer) return "invalid address";
  return address < buffer->begin ? "access before the start of a global buffer" : "access past the end of a global buffer";
}

void hand_on(int signal_number, siginfo_t* info, void* context) {
  const struct sigaction& earlier = signal_number == SIGSEGV ? earlier_segv : earlier_bus;
  if (earlier.sa_flags & SA_SIGINFO) return earlier.sa_sigaction(signal_number, info, context);
  signal(signal_number, SIG_DFL); // the instruction faults again, and ends the process
}

void on_fault(int signal_number, siginfo_t* info, void* context) {
  Thread* thread = current;
  if (!thread) return hand_on(signal_number, info, context);
  Block& block = *thread->block;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const greg_t instruction = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  const Place here = block.launch->kernel.image.place(reinterpret_cast<void*>(instruction)) + 1;
  block.report(text("fault %x", here),
               text("fault: %s, address 0x%zx, at %s", describe(block, address).c_str(), address, text(here).c_str()));
  block.aborted = block.launch->stopped = true;
  current = nullptr;
  siglongjmp(block.out_of_fault, 1);
}

} // namespace

void catch_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &earlier_segv);
    sigaction(SIGBUS, &action, &earlier_bus);
  });
  constexpr size_t ENOUGH = 64 << 10; // reports format strings
  stack_t stack{};
  sigaltstack(nullptr, &stack);
  if (!(stack.ss_flags & SS_DISABLE) && stack.ss_size >= ENOUGH) return;
  thread_local std::vector<char> memory(ENOUGH);
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  stack.ss_flags = 0;
  sigaltstack(&stack, nullptr);
}

} // namespace on_cpu
