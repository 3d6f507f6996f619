// SPDX-License-Identifier: Apache-2.0
// Part as one scalar: plain C++, the oracle of the other ISAs.
#pragma once

constexpr bool kMaskedLoads = false, kMaskedStores = false;

template <class T>
struct Part {
  using Element = T;
  static constexpr int size = 1;
  using Words = uint32_t;
  using Halves = uint16_t;
  T v;

  static Part from_bits(Words bits) { return {__builtin_bit_cast(T, bits)}; }
  Words bits() const { return __builtin_bit_cast(Words, v); }
  static Part broadcast(T x) { return {x}; }
  static Part load(const T* p) { return {*p}; }
  static Part load_wide(const float* p) { return {static_cast<T>(*p)}; }
  void store(T* p) const { *p = v; }
  void stream(T* p) const { *p = v; }
  Part operator+(const Part& b) const { return {v + b.v}; }
  Part operator-(const Part& b) const { return {v - b.v}; }
  Part operator*(const Part& b) const { return {v * b.v}; }
  static Part exact_product_plus(const Part& a, const Part& b, const Part& c) { return {a.v * b.v + c.v}; }
  /// Halves onto halves.
  T halves_sum() const { return v; }
  /// *this < bound ? bound : *this.
  Part at_least(const Part& bound) const { return {v < bound.v ? bound.v : v}; }
  /// *this > bound ? bound : *this.
  Part at_most(const Part& bound) const { return {v > bound.v ? bound.v : v}; }
  static Part less_select(const Part& a, const Part& b, const Part& yes, const Part& no) {
    return {a.v < b.v ? yes.v : no.v};
  }
  static Part less_equal_select(const Part& a, const Part& b, const Part& yes, const Part& no) {
    return {a.v <= b.v ? yes.v : no.v};
  }
  static Part zero_if_less_equal(const Part& a, const Part& b, const Part& v) { return {a.v <= b.v ? 0 : v.v}; }
  static LaneBits less_equal(const Part& a, const Part& b) { return a.v <= b.v; }
  static Part bit_select(LaneBits bits, const Part& yes, const Part& no) { return (bits & 1u) != 0 ? yes : no; }
};

static inline void finish_stores() {}
static inline Part<double> widen(const Part<float>& a) { return {static_cast<double>(a.v)}; }

using Floats = float;
using Words = Part<float>::Words;
using Halves = Part<float>::Halves;
static inline Words ones_where_nan(Floats v) { return v != v ? ~0u : 0u; }
static inline Words widen_halves(Halves x) { return x; }
static inline Halves narrow_words(Words x) { return static_cast<Halves>(x); }
static inline Words bits_from_bf16(Halves x) { return static_cast<Words>(x) << 16; }
static inline void store_around_cache(char* p, Halves x) { __builtin_memcpy(p, &x, sizeof x); }
#include "half.inl.hh"
