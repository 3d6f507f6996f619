// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::avx512bw;
#include "lanes_xsimd.inl.hh"

static inline Lanes<double> widen(const Lanes<float>& a) {
  Lanes<double> r;
  r.part[0].v = _mm512_cvtps_pd(_mm512_castps512_ps256(a.part[0].v));
  r.part[1].v = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.part[0].v, 1));
  return r;
}

// Masked moves touch no byte of a lane that is off.
static inline __mmask16 first_of_16(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

#define BNORM_LANES_MASKED_MOVES
static inline Lanes<float> load_n(const float* p, int64_t n) {
  Lanes<float> r;
  r.part[0].v = _mm512_maskz_loadu_ps(first_of_16(n), p);
  return r;
}
static inline Lanes<double> load_n(const double* p, int64_t n) {
  const __mmask16 m = first_of_16(n);
  Lanes<double> r;
  r.part[0].v = _mm512_maskz_loadu_pd(static_cast<__mmask8>(m), p);
  r.part[1].v = _mm512_maskz_loadu_pd(static_cast<__mmask8>(m >> 8), p + 8);
  return r;
}
static inline void store_n(float* p, const Lanes<float>& a, int64_t n) {
  _mm512_mask_storeu_ps(p, first_of_16(n), a.part[0].v);
}
static inline void store_n(double* p, const Lanes<double>& a, int64_t n) {
  const __mmask16 m = first_of_16(n);
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(m), a.part[0].v);
  _mm512_mask_storeu_pd(p + 8, static_cast<__mmask8>(m >> 8), a.part[1].v);
}
