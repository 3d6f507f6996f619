// SPDX-License-Identifier: Apache-2.0
#define xsimd xsimd_avx2
#include <xsimd/xsimd.hpp>

#include "../kernel_table.hh"

#define BNORM_LANES_FILE "lanes_avx2.inl.hh"
namespace bnorm::avx2 {
namespace {
#include "kernels.inl.hh"
}  // namespace
}  // namespace bnorm::avx2

namespace bnorm {
extern constexpr KernelTable kernels_avx2 = avx2::make_table("avx2");
}  // namespace bnorm
