// SPDX-License-Identifier: Apache-2.0
// The load/store policy: how elements of a data type enter and leave lanes of its arithmetic type.
#pragma once

/// Element of bf16 data: the upper half of an f32.
struct Bf16 {
  uint16_t bits;
};

template <class T>
struct Element {  // f32 and f64 are their own arithmetic type
  using Arithmetic = T;
  static Lanes<T> load(const T* p) { return Lanes<T>::load(p); }
  static Lanes<T> load_first(const T* p, int64_t n) { return Lanes<T>::load_first(p, n); }
  static Lanes<double> load_wide(const T* p) {
    if constexpr (sizeof(T) == sizeof(double))
      return load(p);
    else
      return Lanes<double>::load_wide(p);
  }
  static void store(T* p, const Lanes<T>& a) { a.store(p); }
  static void stream(T* p, const Lanes<T>& a) { a.stream(p); }
  static void store_first(T* p, const Lanes<T>& a, int64_t n) { a.store_first(p, n); }
  static double widen_one(T x) { return static_cast<double>(x); }
};

template <>
struct Element<Bf16> {
  using Arithmetic = float;

  static float to_f32(Bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16); }

  /// Round to nearest even; NaN stays NaN (made quiet).
  static Bf16 from_f32(float x) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, x);
    const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    return {static_cast<uint16_t>(((bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : rounded) >> 16)};
  }

  static Lanes<float> load(const Bf16* p) {
    float buffer[16];
    for (int i = 0; i < 16; ++i) buffer[i] = to_f32(p[i]);
    return Lanes<float>::load(buffer);
  }
  static Lanes<float> load_first(const Bf16* p, int64_t n) {
    float buffer[16] = {};
    for (int64_t i = 0; i < n; ++i) buffer[i] = to_f32(p[i]);
    return Lanes<float>::load(buffer);
  }
  static Lanes<double> load_wide(const Bf16* p) { return widen(load(p)); }
  static void store(Bf16* p, const Lanes<float>& a) {
    float buffer[16];
    a.store(buffer);
    for (int i = 0; i < 16; ++i) p[i] = from_f32(buffer[i]);
  }
  static void stream(Bf16* p, const Lanes<float>& a) { store(p, a); }
  static void store_first(Bf16* p, const Lanes<float>& a, int64_t n) {
    float buffer[16];
    a.store(buffer);
    for (int64_t i = 0; i < n; ++i) p[i] = from_f32(buffer[i]);
  }
  static double widen_one(Bf16 x) { return static_cast<double>(to_f32(x)); }
};
