// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::avx2;
// AMD's masked stores take 12 cycles a register: without them inference of 1x64x49 takes 0.87 of the time, of 60x100
// 0.85 (EPYC, Zen 3).
constexpr bool kMaskedLoads = true, kMaskedStores = false;

// Masked loads touch no byte of a lane that is off.
static inline __m256i first_of_8(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m256i first_of_4(int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline __m256 load_masked(const float* p, int64_t n) { return _mm256_maskload_ps(p, first_of_8(n)); }
static inline __m256d load_masked(const double* p, int64_t n) { return _mm256_maskload_pd(p, first_of_4(n)); }

// From memory, since a register's upper half takes a move of its own.
static inline __m256d load_widened(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }

static inline __m256d multiply_add(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }

static inline __m256 larger(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
static inline __m256 smaller(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
static inline __m256d larger(__m256d a, __m256d b) { return _mm256_max_pd(a, b); }
static inline __m256d smaller(__m256d a, __m256d b) { return _mm256_min_pd(a, b); }

static inline void store_around_cache(float* p, __m256 v) { _mm256_stream_ps(p, v); }
static inline void store_around_cache(double* p, __m256d v) { _mm256_stream_pd(p, v); }
static inline void finish_stores() { _mm_sfence(); }

static inline LaneBits bits_of(__m256 m) { return static_cast<LaneBits>(_mm256_movemask_ps(m)); }
static inline LaneBits bits_of(__m256d m) { return static_cast<LaneBits>(_mm256_movemask_pd(m)); }
static inline __m256 cleared(__m256 where, __m256 v) { return _mm256_andnot_ps(where, v); }
static inline __m256d cleared(__m256d where, __m256d v) { return _mm256_andnot_pd(where, v); }
// A lane's bit at its sign, which is what blends look at.
static inline __m256 selected(LaneBits b, __m256 yes, __m256 no) {
  const __m256i lanes =
      _mm256_sllv_epi32(_mm256_set1_epi32(static_cast<int>(b)), _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24));
  return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(lanes));
}
static inline __m256d selected(LaneBits b, __m256d yes, __m256d no) {
  const __m256i lanes = _mm256_sllv_epi64(_mm256_set1_epi64x(b), _mm256_setr_epi64x(63, 62, 61, 60));
  return _mm256_blendv_pd(no, yes, _mm256_castsi256_pd(lanes));
}

#include "lanes_xsimd.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{_mm256_cvtps_pd(_mm256_castps256_ps128(a.v))}, {_mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1))}};
}

// In pairs, since there is no move of less; then the last by itself, which an odd number leaves. In place of a copy in
// memory moments of 8x64x49 take 0.64 of the time, backward 0.71. Inlined it would be 35 KB.
static __attribute__((noinline)) Halves load_masked(const uint16_t* p, int64_t n) {
  if (n <= 0) return Halves{};
  const int64_t some = n < 8 ? n : 8;
  const __m128i pair_index = _mm_setr_epi32(0, 1, 2, 3), index = _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7);
  const __m128i has_pair = _mm_cmpgt_epi32(_mm_set1_epi32(static_cast<int>(some >> 1)), pair_index);
  const __m128i pairs = _mm_maskload_epi32(reinterpret_cast<const int*>(p), has_pair);
  const __m128i is_last = _mm_cmpeq_epi16(_mm_set1_epi16(static_cast<short>(some - 1)), index);
  const __m128i last = _mm_and_si128(_mm_set1_epi16(static_cast<short>(p[some - 1])), is_last);
  return __builtin_bit_cast(Halves, _mm_or_si128(pairs, last));
}

static inline Halves narrow_words(Words x) {
  const __m256i words = __builtin_bit_cast(__m256i, x), packed = _mm256_packus_epi32(words, words);
  return __builtin_bit_cast(Halves, _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}
static inline void store_around_cache(char* p, Halves x) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), __builtin_bit_cast(__m128i, x));
}
static inline Words bits_from_bf16(Halves x) {
  return __builtin_bit_cast(Words, _mm256_slli_epi32(_mm256_cvtepu16_epi32(__builtin_bit_cast(__m128i, x)), 16));
}
static inline Words bits_from_f16(Halves x) {
  return __builtin_bit_cast(Words, _mm256_cvtph_ps(__builtin_bit_cast(__m128i, x)));
}
static inline Halves bits_to_f16(Words bits) {
  return __builtin_bit_cast(Halves, _mm256_cvtps_ph(__builtin_bit_cast(__m256, bits), _MM_FROUND_TO_NEAREST_INT));
}
