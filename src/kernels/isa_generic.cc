// SPDX-License-Identifier: Apache-2.0

#include "../kernel_table.hh"

// 16 scalars are in memory anyhow: inlining would only make a megabyte more.
#define BNORM_IN_LOOP
#define BNORM_FLAT static
#define BNORM_LANES_FILE "lanes_generic.inl.hh"
namespace bnorm::generic {
namespace {
#include "kernels.inl.hh"
}  // namespace
}  // namespace bnorm::generic

namespace bnorm {
extern constexpr KernelTable kernels_generic = generic::make_table("generic");
}  // namespace bnorm
