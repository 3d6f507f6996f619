// SPDX-License-Identifier: Apache-2.0
// Which kernels this machine runs.
#pragma once
#include <cstddef>

#include "kernel_table.hh"

namespace bnorm {

/// The table named by BNORM_ISA, else the best of this CPU and operating system. NULL if BNORM_ISA names one that is
/// not to be had here; `asked` then points to that name (it may be NULL).
const KernelTable* select_kernels(const char** asked);

/// Writes the names that BNORM_ISA may have on this machine, best first, separated by ", ".
void list_isas(char* buffer, size_t bytes);

}  // namespace bnorm
