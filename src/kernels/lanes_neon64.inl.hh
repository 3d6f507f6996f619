// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::neon64;
constexpr bool kMaskedMoves = false;

static inline float64x2_t load_widened(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }

static inline float64x2_t multiply_add(float64x2_t a, float64x2_t b, float64x2_t c) { return vfmaq_f64(c, a, b); }

// No such store: a regular one.
static inline void store_around_cache(float* p, float32x4_t v) { vst1q_f32(p, v); }
static inline void store_around_cache(double* p, float64x2_t v) { vst1q_f64(p, v); }
static inline void finish_stores() {}

#include "lanes_xsimd.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{vcvt_f64_f32(vget_low_f32(a.v))}, {vcvt_high_f64_f32(a.v)}};
}
