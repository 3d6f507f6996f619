// SPDX-License-Identifier: Apache-2.0
#define xsimd xsimd_avx512
#include <xsimd/xsimd.hpp>

#include "../kernel_table.hh"

#define BNORM_LANES_FILE "lanes_avx512.inl.hh"
namespace bnorm::avx512 {
namespace {
#include "kernels.inl.hh"
}  // namespace
}  // namespace bnorm::avx512

namespace bnorm {
extern constexpr KernelTable kernels_avx512 = avx512::make_table("avx512");
}  // namespace bnorm
