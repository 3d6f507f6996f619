// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::sse4_2;
#include "lanes_xsimd.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{_mm_cvtps_pd(a.v)}, {_mm_cvtps_pd(_mm_movehl_ps(a.v, a.v))}};
}
