// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::sse4_2;
constexpr bool kMaskedMoves = false;

static inline __m128d load_widened(const float* p) {
  // __m128i may alias floats; a double may not.
  return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

static inline __m128d multiply_add(__m128d a, __m128d b, __m128d c) { return _mm_add_pd(_mm_mul_pd(a, b), c); }

static inline void store_around_cache(float* p, __m128 v) { _mm_stream_ps(p, v); }
static inline void store_around_cache(double* p, __m128d v) { _mm_stream_pd(p, v); }
static inline void finish_stores() { _mm_sfence(); }

#include "lanes_xsimd.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{_mm_cvtps_pd(a.v)}, {_mm_cvtps_pd(_mm_movehl_ps(a.v, a.v))}};
}
