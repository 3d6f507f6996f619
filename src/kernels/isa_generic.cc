// SPDX-License-Identifier: Apache-2.0

#include "../kernel_table.hh"

#define BNORM_LANES_FILE "lanes_generic.inl.hh"
namespace bnorm::generic {
namespace {
#include "kernels.inl.hh"
}  // namespace
}  // namespace bnorm::generic

namespace bnorm {
extern constexpr KernelTable kernels_generic = generic::make_table("generic");
}  // namespace bnorm
