// SPDX-License-Identifier: Apache-2.0
// Parts of one scalar: plain C++, the oracle of the other ISAs.
#pragma once

template <class T>
struct Part {
  static constexpr int size = 1;
  T v;
  static Part load(const T* p) { return {*p}; }
  static Part broadcast(T x) { return {x}; }
  void store(T* p) const { *p = v; }
  Part operator+(Part b) const { return {v + b.v}; }
  Part operator-(Part b) const { return {v - b.v}; }
  Part operator*(Part b) const { return {v * b.v}; }
  static Part less_select(Part a, Part b, Part yes, Part no) { return {a.v < b.v ? yes.v : no.v}; }
  static Part less_equal_select(Part a, Part b, Part yes, Part no) { return {a.v <= b.v ? yes.v : no.v}; }
};

static inline Lanes<double> widen(const Lanes<float>& a) {
  Lanes<double> r;
  for (int i = 0; i < 16; ++i) r.part[i].v = a.part[i].v;
  return r;
}
