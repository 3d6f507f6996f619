// SPDX-License-Identifier: Apache-2.0
// Part as one scalar: plain C++, the oracle of the other ISAs.
#pragma once

constexpr bool kMaskedMoves = false;

template <class To, class From>
static inline To convert_elements(From x) {
  return static_cast<To>(x);
}

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
  static Part less_select(const Part& a, const Part& b, const Part& yes, const Part& no) {
    return {a.v < b.v ? yes.v : no.v};
  }
  static Part less_equal_select(const Part& a, const Part& b, const Part& yes, const Part& no) {
    return {a.v <= b.v ? yes.v : no.v};
  }
};

static inline void finish_stores() {}
static inline Part<double> widen(const Part<float>& a) { return {static_cast<double>(a.v)}; }
