// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::avx512bw;
constexpr bool kMaskedLoads = true, kMaskedStores = true;

// Masked moves touch no byte of a lane that is off.
static inline unsigned first_of(int64_t n, int64_t size) {
  const int64_t lanes = n < 0 ? 0 : (n < size ? n : size);
  return (1u << lanes) - 1u;
}
static inline __mmask16 first_of_16(int64_t n) { return static_cast<__mmask16>(first_of(n, 16)); }
static inline __mmask8 first_of_8(int64_t n) { return static_cast<__mmask8>(first_of(n, 8)); }
static inline __m512 load_masked(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_of_16(n), p); }
static inline __m512d load_masked(const double* p, int64_t n) { return _mm512_maskz_loadu_pd(first_of_8(n), p); }
static inline void store_masked(float* p, __m512 v, int64_t n) { _mm512_mask_storeu_ps(p, first_of_16(n), v); }
static inline void store_masked(double* p, __m512d v, int64_t n) { _mm512_mask_storeu_pd(p, first_of_8(n), v); }

// From memory, since a register's upper half takes a move of its own.
static inline __m512d load_widened(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }

static inline __m512d multiply_add(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }

static inline __m512 larger(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
static inline __m512 smaller(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
static inline __m512d larger(__m512d a, __m512d b) { return _mm512_max_pd(a, b); }
static inline __m512d smaller(__m512d a, __m512d b) { return _mm512_min_pd(a, b); }

static inline void store_around_cache(float* p, __m512 v) { _mm512_stream_ps(p, v); }
static inline void store_around_cache(double* p, __m512d v) { _mm512_stream_pd(p, v); }
static inline void finish_stores() { _mm_sfence(); }

static inline LaneBits bits_of(__mmask16 m) { return m; }
static inline LaneBits bits_of(__mmask8 m) { return m; }
static inline __m512 cleared(__mmask16 where, __m512 v) {
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(~where), v);
}
static inline __m512d cleared(__mmask8 where, __m512d v) {
  return _mm512_maskz_mov_pd(static_cast<__mmask8>(~where), v);
}
static inline __m512 selected(LaneBits b, __m512 yes, __m512 no) {
  return _mm512_mask_blend_ps(static_cast<__mmask16>(b), no, yes);
}
static inline __m512d selected(LaneBits b, __m512d yes, __m512d no) {
  return _mm512_mask_blend_pd(static_cast<__mmask8>(b), no, yes);
}

#include "lanes_xsimd.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{_mm512_cvtps_pd(_mm512_castps512_ps256(a.v))}, {_mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1))}};
}

static inline Halves narrow_words(Words x) {
  return __builtin_bit_cast(Halves, _mm512_cvtepi32_epi16(__builtin_bit_cast(__m512i, x)));
}
static inline Halves load_masked(const uint16_t* p, int64_t n) {
  return __builtin_bit_cast(Halves, _mm256_maskz_loadu_epi16(first_of_16(n), p));
}
static inline void store_masked(uint16_t* p, Halves x, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_of_16(n), __builtin_bit_cast(__m256i, x));
}
static inline void store_around_cache(char* p, Halves x) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), __builtin_bit_cast(__m256i, x));
}
static inline Words bits_from_bf16(Halves x) {
  return __builtin_bit_cast(Words, _mm512_slli_epi32(_mm512_cvtepu16_epi32(__builtin_bit_cast(__m256i, x)), 16));
}
static inline Words bits_from_f16(Halves x) {
  return __builtin_bit_cast(Words, _mm512_cvtph_ps(__builtin_bit_cast(__m256i, x)));
}
static inline Halves bits_to_f16(Words bits) {
  return __builtin_bit_cast(Halves, _mm512_cvtps_ph(__builtin_bit_cast(__m512, bits), _MM_FROUND_TO_NEAREST_INT));
}
