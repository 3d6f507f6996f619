// SPDX-License-Identifier: Apache-2.0
// 16 lanes of f32 or f64 on every ISA, as an array of registers. The same operations on every lane, body and tail, give
// the same bits everywhere. Multiply and add stay separate roundings (ARCHITECTURE.md, decision "no FMA").
#pragma once

template <class T>
struct Part;

template <class T>
struct Lanes;

#define BNORM_EACH_PART(i) for (int i = 0; i < Lanes<T>::parts; ++i)

// BNORM_LANES_FILE: lanes_<isa>.inl.hh, which defines Part, widen, and where the ISA has them masked moves.
template <class T>
struct Lanes {
  static constexpr int parts = 16 / Part<T>::size;
  Part<T> part[parts];

  static Lanes broadcast(T x) {
    Lanes r;
    BNORM_EACH_PART(i) r.part[i] = Part<T>::broadcast(x);
    return r;
  }
  static Lanes load(const T* p) {
    Lanes r;
    BNORM_EACH_PART(i) r.part[i] = Part<T>::load(p + i * Part<T>::size);
    return r;
  }
  void store(T* p) const { BNORM_EACH_PART(i) part[i].store(p + i * Part<T>::size); }
  Lanes operator+(const Lanes& b) const {
    Lanes r;
    BNORM_EACH_PART(i) r.part[i] = part[i] + b.part[i];
    return r;
  }
  Lanes operator-(const Lanes& b) const {
    Lanes r;
    BNORM_EACH_PART(i) r.part[i] = part[i] - b.part[i];
    return r;
  }
  Lanes operator*(const Lanes& b) const {
    Lanes r;
    BNORM_EACH_PART(i) r.part[i] = part[i] * b.part[i];
    return r;
  }
};

/// a < b ? yes : no in every lane; false for NaN.
template <class T>
static inline Lanes<T> less_select(const Lanes<T>& a, const Lanes<T>& b, const Lanes<T>& yes, const Lanes<T>& no) {
  Lanes<T> r;
  BNORM_EACH_PART(i) r.part[i] = Part<T>::less_select(a.part[i], b.part[i], yes.part[i], no.part[i]);
  return r;
}

/// a <= b ? yes : no in every lane; false for NaN.
template <class T>
static inline Lanes<T> less_equal_select(const Lanes<T>& a, const Lanes<T>& b, const Lanes<T>& yes,
                                         const Lanes<T>& no) {
  Lanes<T> r;
  BNORM_EACH_PART(i) r.part[i] = Part<T>::less_equal_select(a.part[i], b.part[i], yes.part[i], no.part[i]);
  return r;
}

#include BNORM_LANES_FILE

static inline const Lanes<double>& widen(const Lanes<double>& a) { return a; }

#ifndef BNORM_LANES_MASKED_MOVES
template <class T>
static inline Lanes<T> load_n(const T* p, int64_t n) {
  T buffer[16] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return Lanes<T>::load(buffer);
}
template <class T>
static inline void store_n(T* p, const Lanes<T>& a, int64_t n) {
  T buffer[16];
  a.store(buffer);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}
#endif

/// Zeroes the lanes of octet 0 from `lo` on and those of octet 1 from `hi` on.
static inline Lanes<double> keep(const Lanes<double>& a, int64_t lo, int64_t hi) {
  static const double slot[16] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
  constexpr int parts = Lanes<double>::parts;
  const Part<double> zero = Part<double>::broadcast(0.0);
  const Part<double> limit[2] = {Part<double>::broadcast(static_cast<double>(lo)),
                                 Part<double>::broadcast(static_cast<double>(hi))};
  Lanes<double> r = Lanes<double>::load(slot);
  for (int i = 0; i < parts; ++i)
    r.part[i] = Part<double>::less_select(r.part[i], limit[i >= parts / 2], a.part[i], zero);
  return r;
}

/// Sum of 8 slots along the fixed tree: halves onto halves.
static inline double tree_sum(double a0, double a1, double a2, double a3, double a4, double a5, double a6, double a7) {
  return ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7));
}

/// 8 lanes of f64: the running sums of one channel.
struct Octet {
  static constexpr int parts = 8 / Part<double>::size;
  Part<double> part[parts];

  static Octet zero() {
    Octet r;
    for (int i = 0; i < parts; ++i) r.part[i] = Part<double>::broadcast(0.0);
    return r;
  }
  /// Adds octet 0 + octet 1 of a strip.
  void add(const Lanes<double>& strip) {
    for (int i = 0; i < parts; ++i) part[i] = part[i] + (strip.part[i] + strip.part[i + parts]);
  }
  double sum() const {
    double slot[8];
    for (int i = 0; i < parts; ++i) part[i].store(slot + i * Part<double>::size);
    return tree_sum(slot[0], slot[1], slot[2], slot[3], slot[4], slot[5], slot[6], slot[7]);
  }
};
