// SPDX-License-Identifier: Apache-2.0
#define xsimd xsimd_sse42
#include <xsimd/xsimd.hpp>

#include "../kernel_table.hh"

#define BNORM_LANES_FILE "lanes_sse42.inl.hh"
namespace bnorm::sse42 {
namespace {
#include "kernels.inl.hh"
}  // namespace
}  // namespace bnorm::sse42

namespace bnorm {
extern constexpr KernelTable kernels_sse42 = sse42::make_table("sse42");
}  // namespace bnorm
