// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::neon64;
#include "lanes_xsimd.inl.hh"

static inline Lanes<double> widen(const Lanes<float>& a) {
  Lanes<double> r;
  for (int i = 0; i < 4; ++i) {
    r.part[2 * i].v = vcvt_f64_f32(vget_low_f32(a.part[i].v));
    r.part[2 * i + 1].v = vcvt_high_f64_f32(a.part[i].v);
  }
  return r;
}
