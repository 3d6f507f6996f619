// SPDX-License-Identifier: Apache-2.0
// 16 lanes of f32 or f64 on every ISA: a binary tree of registers. The same operations on every lane, body and tail,
// give the same bits everywhere. Multiply and add stay separate roundings (ARCHITECTURE.md, decision "FMA only
// where the product is exact").
#pragma once

#ifndef BNORM_IN_LOOP
// What an innermost loop consists of: a call there passes its lanes through memory, and GCC 12 leaves some.
#define BNORM_IN_LOOP __attribute__((always_inline))
// A kernel into which everything it calls is inlined, for the same reason.
#define BNORM_FLAT static __attribute__((flatten))
#endif
// What maps do with each strip: inlined even where lanes are scalars and little else is (isa_generic.cc).
#define BNORM_IN_STRIP __attribute__((always_inline))

/// Bits of 16 lanes, the first lane's lowest.
using LaneBits = uint32_t;

/// An index that the compiler knows.
template <int i>
struct Index {
  constexpr operator int() const { return i; }
};

/// body(Index<begin>()) to body(Index<end - 1>()). In place of a loop wherever an index picks a register: an array
/// indexed by a variable lives in memory.
template <int begin, int end, class Body>
static inline BNORM_IN_LOOP void each(const Body& body) {
  if constexpr (begin < end) {
    body(Index<begin>());
    each<begin + 1, end>(body);
  }
}

/// Two halves, each a register (Part) or a Pair. Not an array: GCC 12 keeps copies of arrays of registers in memory.
template <class Half>
struct Pair {
  using Element = typename Half::Element;
  static constexpr int size = 2 * Half::size;
  Half lo, hi;

  Pair() = default;
  Pair(const Half& l, const Half& h) : lo(l), hi(h) {}
  Pair(const Pair& b) : lo(b.lo), hi(b.hi) {}
  Pair& operator=(const Pair& b) {
    lo = b.lo;
    hi = b.hi;
    return *this;
  }
  static Pair broadcast(Element x) { return {Half::broadcast(x), Half::broadcast(x)}; }
  static Pair load(const Element* p) { return {Half::load(p), Half::load(p + Half::size)}; }
  /// f64 lanes from f32.
  static Pair load_wide(const float* p) { return {Half::load_wide(p), Half::load_wide(p + Half::size)}; }
  void store(Element* p) const {
    lo.store(p);
    hi.store(p + Half::size);
  }
  /// To an address aligned to the register, without bringing its line into the cache.
  void stream(Element* p) const {
    lo.stream(p);
    hi.stream(p + Half::size);
  }
  /// Touches the first n elements only, n <= 0 and n >= size included; the other lanes are 0. If kMaskedLoads.
  static Pair load_first(const Element* p, int64_t n) {
    return {Half::load_first(p, n), Half::load_first(p + Half::size, n - Half::size)};
  }
  /// Likewise. If kMaskedStores.
  void store_first(Element* p, int64_t n) const {
    lo.store_first(p, n);
    hi.store_first(p + Half::size, n - Half::size);
  }
  Pair operator+(const Pair& b) const { return {lo + b.lo, hi + b.hi}; }
  Pair operator-(const Pair& b) const { return {lo - b.lo, hi - b.hi}; }
  Pair operator*(const Pair& b) const { return {lo * b.lo, hi * b.hi}; }
  /// a * b + c where a * b has no rounding: fused where the CPU can.
  static Pair exact_product_plus(const Pair& a, const Pair& b, const Pair& c) {
    return {Half::exact_product_plus(a.lo, b.lo, c.lo), Half::exact_product_plus(a.hi, b.hi, c.hi)};
  }
  Pair at_least(const Pair& bound) const { return {lo.at_least(bound.lo), hi.at_least(bound.hi)}; }
  Pair at_most(const Pair& bound) const { return {lo.at_most(bound.lo), hi.at_most(bound.hi)}; }
  /// a < b ? yes : no in every lane; false for NaN.
  static Pair less_select(const Pair& a, const Pair& b, const Pair& yes, const Pair& no) {
    return {Half::less_select(a.lo, b.lo, yes.lo, no.lo), Half::less_select(a.hi, b.hi, yes.hi, no.hi)};
  }
  /// a <= b ? yes : no in every lane; false for NaN.
  static Pair less_equal_select(const Pair& a, const Pair& b, const Pair& yes, const Pair& no) {
    return {Half::less_equal_select(a.lo, b.lo, yes.lo, no.lo), Half::less_equal_select(a.hi, b.hi, yes.hi, no.hi)};
  }
  /// a <= b ? 0 : v in every lane; v for NaN.
  static Pair zero_if_less_equal(const Pair& a, const Pair& b, const Pair& v) {
    return {Half::zero_if_less_equal(a.lo, b.lo, v.lo), Half::zero_if_less_equal(a.hi, b.hi, v.hi)};
  }
  /// a <= b in every lane, a bit each.
  static LaneBits less_equal(const Pair& a, const Pair& b) {
    return Half::less_equal(a.lo, b.lo) | Half::less_equal(a.hi, b.hi) << Half::size;
  }
  /// Its bit ? yes : no in every lane; bits beyond are ignored.
  static Pair bit_select(LaneBits bits, const Pair& yes, const Pair& no) {
    return {Half::bit_select(bits, yes.lo, no.lo), Half::bit_select(bits >> Half::size, yes.hi, no.hi)};
  }
};

// BNORM_LANES_FILE: lanes_<isa>.inl.hh, which defines Part<T>, one register with the same members, and widen.
#include BNORM_LANES_FILE

template <class T, int size, bool is_part = size == Part<T>::size>
struct Tree {
  using type = Part<T>;
};
template <class T, int size>
struct Tree<T, size, false> {
  using type = Pair<typename Tree<T, size / 2>::type>;
};

template <class T>
using Lanes = typename Tree<T, 16>::type;

template <class Half>
static inline auto widen(const Pair<Half>& a) -> Pair<decltype(widen(a.lo))> {
  return {widen(a.lo), widen(a.hi)};
}
static inline const Lanes<double>& widen(const Lanes<double>& a) { return a; }

/// 8 lanes of f64: one octet of a strip, or the running sums of one channel.
using Octet = Tree<double, 8>::type;

/// Zeroes the lanes from n on.
static inline Octet keep_first(const Octet& a, int64_t n) {
  static const double slot[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  return Octet::less_select(Octet::load(slot), Octet::broadcast(static_cast<double>(n)), a, Octet::broadcast(0));
}

/// Zeroes the lanes of octet 0 from `lo` on and those of octet 1 from `hi` on.
static inline Lanes<double> keep(const Lanes<double>& a, int64_t lo, int64_t hi) {
  return {keep_first(a.lo, lo), keep_first(a.hi, hi)};
}

/// Sum of 8 slots along the fixed tree: halves onto halves.
static inline double tree_sum(const Part<double>& a) { return a.halves_sum(); }
template <class Half>
static inline double tree_sum(const Pair<Half>& a) {
  return tree_sum(a.lo + a.hi);
}
