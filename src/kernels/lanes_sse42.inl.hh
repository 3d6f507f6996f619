// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::sse4_2;
#include "lanes_xsimd.inl.hh"

static inline Lanes<double> widen(const Lanes<float>& a) {
  Lanes<double> r;
  for (int i = 0; i < 4; ++i) {
    r.part[2 * i].v = _mm_cvtps_pd(a.part[i].v);
    r.part[2 * i + 1].v = _mm_cvtps_pd(_mm_movehl_ps(a.part[i].v, a.part[i].v));
  }
  return r;
}
