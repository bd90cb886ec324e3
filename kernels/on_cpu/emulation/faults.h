// Accesses that no check sees (in library functions, past the end of a fiber's stack) meet a guard page.
#pragma once

namespace on_cpu {

// On the OS thread that is about to run a block.
void catch_faults();

} // namespace on_cpu
