// SPDX-License-Identifier: Apache-2.0
// The load/store policy: how elements of tensors enter and leave lanes of their arithmetic type.
#pragma once

// Not inlined: the parts of runs are few, and their loops would make a third of all kernels.
template <class T>
static __attribute__((noinline)) void copy_first(const T* from, T* to, int64_t n) {
  for (int64_t i = 0; i < n && i < 16; ++i) to[i] = from[i];
}

template <class T>
struct Element {  // f32 and f64 are their own arithmetic type
  using Arithmetic = T;
  static constexpr bool is_f32 = sizeof(T) == sizeof(float);
  using From = const T*;
  using To = T*;

  static To at(const View& v, int64_t n, int64_t c, int64_t s) {
    return static_cast<T*>(v.data) + (n * v.n + c * v.c + s * v.s);
  }
  /// Elements of the arithmetic type, as a tensor's.
  static To plain(T* values) { return values; }
  /// Where it is known that they are of the arithmetic type.
  static const T* values(From p) { return p; }
  static T get(From p) { return *p; }
  static void put(To p, T value) { *p = value; }
  static const char* place(From p) { return reinterpret_cast<const char*>(p); }
  static int64_t bytes(From) { return sizeof(T); }

  static Lanes<T> load(From p) { return Lanes<T>::load(p); }
  static Lanes<T> load_first(From p, int64_t n) {
    if constexpr (kMaskedMoves) return Lanes<T>::load_first(p, n);
    T buffer[16] = {};
    copy_first(p, buffer, n);
    return load(buffer);
  }
  static Lanes<double> load_wide(From p) {
    if constexpr (sizeof(T) == sizeof(double))
      return load(p);
    else
      return Lanes<double>::load_wide(p);
  }
  static void store(To p, const Lanes<T>& a) { a.store(p); }
  static void stream(To p, const Lanes<T>& a) { a.stream(p); }
  static void store_first(To p, const Lanes<T>& a, int64_t n) {
    if constexpr (kMaskedMoves) return a.store_first(p, n);
    T buffer[16];
    a.store(buffer);
    copy_first(buffer, p, n);
  }
};

// --------------------------------------------------------------------------------------------- 16-bit types --

/// Elements of f32, bf16 or f16, as their tensor says; arithmetic in f32.
struct Mixed {};

/// Where elements of Mixed lie.
struct MixedPointer {
  char* data;
  ElementType type;

  int64_t bytes() const { return type == kF32 ? 4 : 2; }
  MixedPointer operator+(int64_t elements) const { return {data + elements * bytes(), type}; }
  MixedPointer& operator+=(int64_t elements) { return *this = *this + elements; }
  explicit operator bool() const { return data != nullptr; }
};

static inline Words bits_from_bf16(Halves x) { return widen_halves(x) << 16; }

/// Round to nearest even; NaN becomes a quiet NaN.
static inline Halves bits_to_bf16(Words bits) {
  const Words rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return narrow_words((rounded | ones_where_nan(__builtin_bit_cast(Floats, bits))) >> 16);
}

static inline BNORM_IN_LOOP void load_halves(const char* p, ElementType type, Part<float>* to) {
  Halves halves;
  __builtin_memcpy(&halves, p, sizeof halves);
  *to = Part<float>::from_bits(type == kBf16 ? bits_from_bf16(halves) : bits_from_f16(halves));
}
static inline BNORM_IN_LOOP void store_halves(char* p, ElementType type, const Part<float>& a) {
  const Halves halves = type == kBf16 ? bits_to_bf16(a.bits()) : bits_to_f16(a.bits());
  __builtin_memcpy(p, &halves, sizeof halves);
}
template <class Half>
static inline BNORM_IN_LOOP void load_halves(const char* p, ElementType type, Pair<Half>* to) {
  load_halves(p, type, &to->lo);
  load_halves(p + 2 * Half::size, type, &to->hi);
}
template <class Half>
static inline BNORM_IN_LOOP void store_halves(char* p, ElementType type, const Pair<Half>& a) {
  store_halves(p, type, a.lo);
  store_halves(p + 2 * Half::size, type, a.hi);
}

template <>
struct Element<Mixed> {
  using Arithmetic = float;
  static constexpr bool is_f32 = false;
  using From = MixedPointer;
  using To = MixedPointer;

  static To at(const View& v, int64_t n, int64_t c, int64_t s) {
    return To{static_cast<char*>(v.data), v.type} + (n * v.n + c * v.c + s * v.s);
  }
  static To plain(float* values) { return {reinterpret_cast<char*>(values), kF32}; }
  static const float* values(From p) { return reinterpret_cast<const float*>(p.data); }
  static float get(From p) {
    float value[16];
    load_first(p, 1).store(value);
    return value[0];
  }
  static void put(To p, float value) { store_first(p, Lanes<float>::broadcast(value), 1); }
  static const char* place(From p) { return p.data; }
  static int64_t bytes(From p) { return p.bytes(); }

  static BNORM_IN_LOOP Lanes<float> load(From p) {
    if (p.type == kF32) return Lanes<float>::load(floats(p));
    Lanes<float> r;
    load_halves(p.data, p.type, &r);
    return r;
  }
  static Lanes<float> load_first(From p, int64_t n) {
    if (p.type == kF32) return Element<float>::load_first(floats(p), n);
    uint16_t buffer[16] = {};
    copy_first(halves(p), buffer, n);
    return load({reinterpret_cast<char*>(buffer), p.type});
  }
  static BNORM_IN_LOOP Lanes<double> load_wide(From p) {
    if (p.type == kF32) return Lanes<double>::load_wide(floats(p));
    return widen(load(p));
  }
  static BNORM_IN_LOOP void store(To p, const Lanes<float>& a) {
    if (p.type == kF32) return a.store(floats(p));
    store_halves(p.data, p.type, a);
  }
  static BNORM_IN_LOOP void stream(To p, const Lanes<float>& a) {
    if (p.type == kF32) return a.stream(floats(p));
    store_halves(p.data, p.type, a);
  }
  static void store_first(To p, const Lanes<float>& a, int64_t n) {
    if (p.type == kF32) return Element<float>::store_first(floats(p), a, n);
    uint16_t buffer[16];
    store({reinterpret_cast<char*>(buffer), p.type}, a);
    copy_first(buffer, halves(p), n);
  }

 private:
  static float* floats(From p) { return reinterpret_cast<float*>(p.data); }
  static uint16_t* halves(From p) { return reinterpret_cast<uint16_t*>(p.data); }
};
