// SPDX-License-Identifier: Apache-2.0
// The load/store policy: how elements of tensors enter and leave lanes of their arithmetic type.
#pragma once

// Not inlined: the parts of runs are few, and their loops would make a third of all kernels.
template <class T>
static __attribute__((noinline)) void copy_first(const T* from, T* to, int64_t n) {
  if (n <= 0) return;
  if (n >= 16) {
    __builtin_memcpy(to, from, 16 * sizeof(T));
    return;
  }
  each<0, 4>([&](auto i) {
    constexpr int64_t some = 8 >> i;
    if ((n & some) == 0) return;
    __builtin_memcpy(to, from, some * sizeof(T));
    from += some;
    to += some;
  });
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
  /// Elsewhere, of the same type.
  static To moved(To, char* place) { return reinterpret_cast<T*>(place); }

  static Lanes<T> load(From p) { return Lanes<T>::load(p); }
  static Lanes<T> load_first(From p, int64_t n) {
    if constexpr (kMaskedLoads) return Lanes<T>::load_first(p, n);
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
    if constexpr (kMaskedStores) return a.store_first(p, n);
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

/// Rounded to nearest even in the upper half; the lower holds anything. Numbers, and NaN whose lower half is 0.
static inline Words rounded_to_bf16(Words bits) { return bits + 0x7fffu + ((bits >> 16) & 1u); }

/// Round to nearest even; NaN becomes a quiet NaN.
static inline Halves bits_to_bf16(Words bits) {
  return narrow_words((rounded_to_bf16(bits) | ones_where_nan(__builtin_bit_cast(Floats, bits))) >> 16);
}

static inline Part<float> from_halves(Halves halves, ElementType type) {
  return Part<float>::from_bits(type == kBf16 ? bits_from_bf16(halves) : bits_from_f16(halves));
}
static inline Halves to_halves(const Part<float>& a, ElementType type) {
  return type == kBf16 ? bits_to_bf16(a.bits()) : bits_to_f16(a.bits());
}

static inline BNORM_IN_LOOP void load_halves(const char* p, ElementType type, Part<float>* to) {
  Halves halves;
  __builtin_memcpy(&halves, p, sizeof halves);
  *to = from_halves(halves, type);
}
template <bool stream>
static inline BNORM_IN_LOOP void store_halves(char* p, ElementType type, const Part<float>& a) {
  const Halves halves = to_halves(a, type);
  if constexpr (stream) return store_around_cache(p, halves);
  __builtin_memcpy(p, &halves, sizeof halves);
}
template <class Half>
static inline BNORM_IN_LOOP void load_halves(const char* p, ElementType type, Pair<Half>* to) {
  load_halves(p, type, &to->lo);
  load_halves(p + 2 * Half::size, type, &to->hi);
}
template <bool stream, class Half>
static inline BNORM_IN_LOOP void store_halves(char* p, ElementType type, const Pair<Half>& a) {
  store_halves<stream>(p, type, a.lo);
  store_halves<stream>(p + 2 * Half::size, type, a.hi);
}

/// The first n of as many as `to` has, the other lanes 0.
template <class Half>
static inline BNORM_IN_LOOP void load_masked_halves(const Half* p, ElementType type, int64_t n, Part<float>* to) {
  *to = from_halves(load_masked(p, n), type);
}
template <class Half, class Floats>
static inline BNORM_IN_LOOP void load_masked_halves(const Half* p, ElementType type, int64_t n, Pair<Floats>* to) {
  load_masked_halves(p, type, n, &to->lo);
  load_masked_halves(p + Floats::size, type, n - Floats::size, &to->hi);
}
/// The first n of a strip, the other lanes 0.
template <class Half>
static inline Lanes<float> load_first_halves(const Half* p, ElementType type, int64_t n) {
  Lanes<float> r;
  if constexpr (kMaskedLoads) {
    load_masked_halves(p, type, n, &r);
  } else {
    Half buffer[16] = {};
    copy_first(p, buffer, n);
    load_halves(reinterpret_cast<const char*>(buffer), type, &r);
  }
  return r;
}
// Not inlined: 5 KB of SSE4.2's kernels.
template <class Half>
static __attribute__((noinline)) void store_buffered_halves(Half* p, ElementType type, const Lanes<float>& a,
                                                            int64_t n) {
  Half buffer[16];
  store_halves<false>(reinterpret_cast<char*>(buffer), type, a);
  copy_first(buffer, p, n);
}
template <class Half, class Floats16>
static inline void store_first_halves(Half* p, ElementType type, const Floats16& a, int64_t n) {
  if constexpr (kMaskedStores)
    store_masked(p, to_halves(a, type), n);
  else
    store_buffered_halves(p, type, a, n);
}

// Twins, two strips of bf16 at once: the lanes of the one are the elements at even places, of the other those at odd
// ones. Nothing has to be put side by side, which is half of the work: planar inference of 8x64x196 takes 0.63 of the
// time (AVX-512; AVX2 0.77, SSE4.2 0.71).
constexpr int64_t kTwins = 2 * kStrip;

template <bool odd>
static inline BNORM_IN_LOOP void load_twin_halves(const char* p, Part<float>* to) {
  Words both;
  __builtin_memcpy(&both, p, sizeof both);
  *to = Part<float>::from_bits(odd ? both & 0xffff0000u : both << 16);
}
static inline BNORM_IN_LOOP void store_twin_halves(char* p, bool stream, const Part<float>& even,
                                                   const Part<float>& odd) {
  const Words both = (rounded_to_bf16(odd.bits()) & 0xffff0000u) | rounded_to_bf16(even.bits()) >> 16;
  const Part<float> as_floats = Part<float>::from_bits(both);
  if (stream)
    as_floats.stream(reinterpret_cast<float*>(p));
  else
    __builtin_memcpy(p, &both, sizeof both);
}
template <bool odd, class Half>
static inline BNORM_IN_LOOP void load_twin_halves(const char* p, Pair<Half>* to) {
  load_twin_halves<odd>(p, &to->lo);
  load_twin_halves<odd>(p + 4 * Half::size, &to->hi);
}
template <class Half>
static inline BNORM_IN_LOOP void store_twin_halves(char* p, bool stream, const Pair<Half>& even,
                                                   const Pair<Half>& odd) {
  store_twin_halves(p, stream, even.lo, odd.lo);
  store_twin_halves(p + 4 * Half::size, stream, even.hi, odd.hi);
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
    if (p.type == kF32) return *floats(p);
    float value[16];
    load_first(p, 1).store(value);
    return value[0];
  }
  static void put(To p, float value) {
    if (p.type == kF32)
      *floats(p) = value;
    else
      store_first(p, Lanes<float>::broadcast(value), 1);
  }
  static const char* place(From p) { return p.data; }
  static int64_t bytes(From p) { return p.bytes(); }
  static To moved(To p, char* place) { return {place, p.type}; }

  static BNORM_IN_LOOP Lanes<float> load(From p) {
    if (p.type == kF32) return Lanes<float>::load(floats(p));
    Lanes<float> r;
    load_halves(p.data, p.type, &r);
    return r;
  }
  static Lanes<float> load_first(From p, int64_t n) {
    if (p.type == kF32) return Element<float>::load_first(floats(p), n);
    return load_first_halves(halves(p), p.type, n);
  }
  static BNORM_IN_LOOP Lanes<double> load_wide(From p) {
    if (p.type == kF32) return Lanes<double>::load_wide(floats(p));
    return widen(load(p));
  }
  static BNORM_IN_LOOP void store(To p, const Lanes<float>& a) {
    if (p.type == kF32) return a.store(floats(p));
    store_halves<false>(p.data, p.type, a);
  }
  static BNORM_IN_LOOP void stream(To p, const Lanes<float>& a) {
    if (p.type == kF32) return a.stream(floats(p));
    store_halves<true>(p.data, p.type, a);
  }
  /// Of bf16: those at even or those at odd places of the 32 from p on.
  template <bool odd>
  static BNORM_IN_LOOP Lanes<float> load_twin(From p) {
    Lanes<float> r;
    load_twin_halves<odd>(p.data, &r);
    return r;
  }
  static BNORM_IN_LOOP void store_twins(To p, bool stream, const Lanes<float>& even, const Lanes<float>& odd) {
    store_twin_halves(p.data, stream, even, odd);
  }
  static void store_first(To p, const Lanes<float>& a, int64_t n) {
    if (p.type == kF32) return Element<float>::store_first(floats(p), a, n);
    store_first_halves(halves(p), p.type, a, n);
  }

 private:
  static float* floats(From p) { return reinterpret_cast<float*>(p.data); }
  static uint16_t* halves(From p) { return reinterpret_cast<uint16_t*>(p.data); }
};
