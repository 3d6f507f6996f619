// SPDX-License-Identifier: Apache-2.0
#pragma once
using Arch = xsimd::neon64;
constexpr bool kMaskedLoads = false, kMaskedStores = false;

static inline float64x2_t load_widened(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }

static inline float64x2_t multiply_add(float64x2_t a, float64x2_t b, float64x2_t c) { return vfmaq_f64(c, a, b); }

// Not vmaxq, which takes NaN from either side.
static inline float32x4_t larger(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline float32x4_t smaller(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline float64x2_t larger(float64x2_t a, float64x2_t b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
static inline float64x2_t smaller(float64x2_t a, float64x2_t b) { return vbslq_f64(vcltq_f64(a, b), a, b); }

// No such store: a regular one.
static inline void store_around_cache(float* p, float32x4_t v) { vst1q_f32(p, v); }
static inline void store_around_cache(double* p, float64x2_t v) { vst1q_f64(p, v); }
static inline void finish_stores() {}

static const uint32_t kBitOfLane[4] = {1, 2, 4, 8};
static inline LaneBits bits_of(uint32x4_t m) { return vaddvq_u32(vandq_u32(m, vld1q_u32(kBitOfLane))); }
static inline LaneBits bits_of(uint64x2_t m) {
  return static_cast<LaneBits>((vgetq_lane_u64(m, 0) & 1) | (vgetq_lane_u64(m, 1) & 2));
}
static inline float32x4_t cleared(uint32x4_t where, float32x4_t v) {
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), where));
}
static inline float64x2_t cleared(uint64x2_t where, float64x2_t v) {
  return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(v), where));
}
static inline float32x4_t selected(LaneBits b, float32x4_t yes, float32x4_t no) {
  return vbslq_f32(vtstq_u32(vdupq_n_u32(b), vld1q_u32(kBitOfLane)), yes, no);
}
static inline float64x2_t selected(LaneBits b, float64x2_t yes, float64x2_t no) {
  const uint64x2_t bit_of_lane = vcombine_u64(vcreate_u64(1), vcreate_u64(2));
  return vbslq_f64(vtstq_u64(vdupq_n_u64(b), bit_of_lane), yes, no);
}

#include "lanes_xsimd.inl.hh"

static inline Pair<Part<double>> widen(const Part<float>& a) {
  return {{vcvt_f64_f32(vget_low_f32(a.v))}, {vcvt_high_f64_f32(a.v)}};
}

static inline Halves narrow_words(Words x) {
  return __builtin_bit_cast(Halves, vmovn_u32(__builtin_bit_cast(uint32x4_t, x)));
}
static inline void store_around_cache(char* p, Halves x) { __builtin_memcpy(p, &x, sizeof x); }
static inline Words bits_from_bf16(Halves x) {
  return __builtin_bit_cast(Words, vshlq_n_u32(vmovl_u16(__builtin_bit_cast(uint16x4_t, x)), 16));
}
static inline Words bits_from_f16(Halves x) {
  return __builtin_bit_cast(Words, vcvt_f32_f16(__builtin_bit_cast(float16x4_t, x)));
}
static inline Halves bits_to_f16(Words bits) {
  return __builtin_bit_cast(Halves, vcvt_f16_f32(__builtin_bit_cast(float32x4_t, bits)));
}
