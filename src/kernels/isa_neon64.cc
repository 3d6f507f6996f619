// SPDX-License-Identifier: Apache-2.0
#define xsimd xsimd_neon64
#include <xsimd/xsimd.hpp>

#include "../kernel_table.hh"

#define BNORM_LANES_FILE "lanes_neon64.inl.hh"
namespace bnorm::neon64 {
namespace {
#include "kernels.inl.hh"
}  // namespace
}  // namespace bnorm::neon64

namespace bnorm {
extern constexpr KernelTable kernels_neon64 = neon64::make_table("neon64");
}  // namespace bnorm
