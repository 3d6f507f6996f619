// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::avx2;
#include "lanes_xsimd.inl.hh"

static inline Lanes<double> widen(const Lanes<float>& a) {
  Lanes<double> r;
  for (int i = 0; i < 2; ++i) {
    r.part[2 * i].v = _mm256_cvtps_pd(_mm256_castps256_ps128(a.part[i].v));
    r.part[2 * i + 1].v = _mm256_cvtps_pd(_mm256_extractf128_ps(a.part[i].v, 1));
  }
  return r;
}

// Masked moves touch no byte of a lane that is off.
static inline __m256i first_of_8(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m256i first_of_4(int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

#define BNORM_LANES_MASKED_MOVES
static inline Lanes<float> load_n(const float* p, int64_t n) {
  Lanes<float> r;
  for (int i = 0; i < 2; ++i) r.part[i].v = _mm256_maskload_ps(p + 8 * i, first_of_8(n - 8 * i));
  return r;
}
static inline Lanes<double> load_n(const double* p, int64_t n) {
  Lanes<double> r;
  for (int i = 0; i < 4; ++i) r.part[i].v = _mm256_maskload_pd(p + 4 * i, first_of_4(n - 4 * i));
  return r;
}
static inline void store_n(float* p, const Lanes<float>& a, int64_t n) {
  for (int i = 0; i < 2; ++i) _mm256_maskstore_ps(p + 8 * i, first_of_8(n - 8 * i), a.part[i].v);
}
static inline void store_n(double* p, const Lanes<double>& a, int64_t n) {
  for (int i = 0; i < 4; ++i) _mm256_maskstore_pd(p + 4 * i, first_of_4(n - 4 * i), a.part[i].v);
}
