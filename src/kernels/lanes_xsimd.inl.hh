// SPDX-License-Identifier: Apache-2.0
// Parts of one SIMD register through xsimd; `Arch` comes from the including lanes_<isa>.inl.hh.
#pragma once

template <class T>
struct Part {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr int size = static_cast<int>(Batch::size);
  Batch v;
  static Part load(const T* p) { return {Batch::load_unaligned(p)}; }
  static Part broadcast(T x) { return {Batch(x)}; }
  void store(T* p) const { v.store_unaligned(p); }
  Part operator+(Part b) const { return {v + b.v}; }
  Part operator-(Part b) const { return {v - b.v}; }
  Part operator*(Part b) const { return {v * b.v}; }
  static Part less_select(Part a, Part b, Part yes, Part no) { return {xsimd::select(a.v < b.v, yes.v, no.v)}; }
  static Part less_equal_select(Part a, Part b, Part yes, Part no) { return {xsimd::select(a.v <= b.v, yes.v, no.v)}; }
};
