// SPDX-License-Identifier: Apache-2.0
// The load/store policy: how elements of a data type enter and leave lanes of its arithmetic type.
#pragma once

/// Element of bf16 data: the upper half of an f32.
struct Bf16 {
  uint16_t bits;
};

// Not inlined: the parts of runs are few, and their loops would make a third of all kernels.
template <class T>
static __attribute__((noinline)) void copy_first(const T* from, T* to, int64_t n) {
  for (int64_t i = 0; i < n && i < 16; ++i) to[i] = from[i];
}

template <class T>
struct Element {  // f32 and f64 are their own arithmetic type
  using Arithmetic = T;
  static Lanes<T> load(const T* p) { return Lanes<T>::load(p); }
  static Lanes<T> load_first(const T* p, int64_t n) {
    if constexpr (kMaskedMoves) return Lanes<T>::load_first(p, n);
    T buffer[16] = {};
    copy_first(p, buffer, n);
    return load(buffer);
  }
  static Lanes<double> load_wide(const T* p) {
    if constexpr (sizeof(T) == sizeof(double))
      return load(p);
    else
      return Lanes<double>::load_wide(p);
  }
  static void store(T* p, const Lanes<T>& a) { a.store(p); }
  static void stream(T* p, const Lanes<T>& a) { a.stream(p); }
  static void store_first(T* p, const Lanes<T>& a, int64_t n) {
    if constexpr (kMaskedMoves) return a.store_first(p, n);
    T buffer[16];
    a.store(buffer);
    copy_first(buffer, p, n);
  }
  static double widen_one(T x) { return static_cast<double>(x); }
};

// The two conversions, for vectors of elements.

template <class Words, class Halves>
static inline Words bits_from_bf16(Halves x) {
  return convert_elements<Words>(x) << 16;
}

/// Round to nearest even; NaN stays NaN (made quiet).
template <class Halves, class Words>
static inline Halves bits_to_bf16(Words bits) {
  const Words rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const Words is_nan = 0u - ((0x7f800000u - (bits & 0x7fffffffu)) >> 31);  // all ones or 0
  return convert_elements<Halves>(((rounded & ~is_nan) | ((bits | 0x400000u) & is_nan)) >> 16);
}

static inline void load_bf16(const Bf16* p, Part<float>* to) {
  Part<float>::Halves halves;
  __builtin_memcpy(&halves, p, sizeof halves);
  *to = Part<float>::from_bits(bits_from_bf16<Part<float>::Words>(halves));
}
static inline void store_bf16(Bf16* p, const Part<float>& a) {
  const auto halves = bits_to_bf16<Part<float>::Halves>(a.bits());
  __builtin_memcpy(p, &halves, sizeof halves);
}
template <class Half>
static inline void load_bf16(const Bf16* p, Pair<Half>* to) {
  load_bf16(p, &to->lo);
  load_bf16(p + Half::size, &to->hi);
}
template <class Half>
static inline void store_bf16(Bf16* p, const Pair<Half>& a) {
  store_bf16(p, a.lo);
  store_bf16(p + Half::size, a.hi);
}

template <>
struct Element<Bf16> {
  using Arithmetic = float;

  static Lanes<float> load(const Bf16* p) {
    Lanes<float> r;
    load_bf16(p, &r);
    return r;
  }
  static Lanes<float> load_first(const Bf16* p, int64_t n) {
    Bf16 buffer[16] = {};
    copy_first(p, buffer, n);
    return load(buffer);
  }
  static Lanes<double> load_wide(const Bf16* p) { return widen(load(p)); }
  static void store(Bf16* p, const Lanes<float>& a) { store_bf16(p, a); }
  static void stream(Bf16* p, const Lanes<float>& a) { store(p, a); }
  static void store_first(Bf16* p, const Lanes<float>& a, int64_t n) {
    Bf16 buffer[16];
    store(buffer, a);
    copy_first(buffer, p, n);
  }
  static double widen_one(Bf16 x) {
    return static_cast<double>(__builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16));
  }
};
