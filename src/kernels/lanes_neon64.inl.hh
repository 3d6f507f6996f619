// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::neon64;
#include "lanes_xsimd.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{vcvt_f64_f32(vget_low_f32(a.v))}, {vcvt_high_f64_f32(a.v)}};
}
