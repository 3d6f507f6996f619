// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::sse4_2;
constexpr bool kMaskedLoads = false, kMaskedStores = false;

static inline __m128d load_widened(const float* p) {
  // __m128i may alias floats; a double may not.
  return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

static inline __m128d multiply_add(__m128d a, __m128d b, __m128d c) { return _mm_add_pd(_mm_mul_pd(a, b), c); }

static inline __m128 larger(__m128 a, __m128 b) { return _mm_max_ps(a, b); }
static inline __m128 smaller(__m128 a, __m128 b) { return _mm_min_ps(a, b); }
static inline __m128d larger(__m128d a, __m128d b) { return _mm_max_pd(a, b); }
static inline __m128d smaller(__m128d a, __m128d b) { return _mm_min_pd(a, b); }

static inline void store_around_cache(float* p, __m128 v) { _mm_stream_ps(p, v); }
static inline void store_around_cache(double* p, __m128d v) { _mm_stream_pd(p, v); }
static inline void finish_stores() { _mm_sfence(); }

static inline LaneBits bits_of(__m128 m) { return static_cast<LaneBits>(_mm_movemask_ps(m)); }
static inline LaneBits bits_of(__m128d m) { return static_cast<LaneBits>(_mm_movemask_pd(m)); }
static inline __m128 cleared(__m128 where, __m128 v) { return _mm_andnot_ps(where, v); }
static inline __m128d cleared(__m128d where, __m128d v) { return _mm_andnot_pd(where, v); }
// A lane's bit as all bits of the lane.
static inline __m128i lanes_with(LaneBits b, __m128i bit_of_lane) {
  return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(static_cast<int>(b)), bit_of_lane), bit_of_lane);
}
static inline __m128 selected(LaneBits b, __m128 yes, __m128 no) {
  return _mm_blendv_ps(no, yes, _mm_castsi128_ps(lanes_with(b, _mm_setr_epi32(1, 2, 4, 8))));
}
static inline __m128d selected(LaneBits b, __m128d yes, __m128d no) {
  return _mm_blendv_pd(no, yes, _mm_castsi128_pd(lanes_with(b, _mm_setr_epi32(1, 1, 2, 2))));
}

#include "lanes_xsimd.inl.hh"

static inline Words widen_halves(Halves x) {
  return __builtin_bit_cast(Words, _mm_cvtepu16_epi32(_mm_cvtsi64_si128(__builtin_bit_cast(long long, x))));
}
static inline Halves narrow_words(Words x) {
  const __m128i words = __builtin_bit_cast(__m128i, x);
  return __builtin_bit_cast(Halves, _mm_cvtsi128_si64(_mm_packus_epi32(words, words)));
}
static inline Words bits_from_bf16(Halves x) {
  const __m128i bytes = _mm_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7);
  return __builtin_bit_cast(Words, _mm_shuffle_epi8(_mm_cvtsi64_si128(__builtin_bit_cast(long long, x)), bytes));
}
static inline void store_around_cache(char* p, Halves x) {
  _mm_stream_si64(reinterpret_cast<long long*>(p), __builtin_bit_cast(long long, x));
}
#include "half.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{_mm_cvtps_pd(a.v)}, {_mm_cvtps_pd(_mm_movehl_ps(a.v, a.v))}};
}
