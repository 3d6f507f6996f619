// SPDX-License-Identifier: Apache-2.0
// Part as one SIMD register through xsimd; the including lanes_<isa>.inl.hh brings `Arch` and, on its registers:
// load_widened (f64 from f32 in memory), multiply_add (f64, a * b + c, fused or not), larger and smaller (a > b ? a : b
// and a < b ? a : b, so b for NaN), store_around_cache, finish_stores (what follows is seen later than those stores);
// bits_of (a comparison's, a bit a lane), cleared (0 where a comparison holds) and selected (by bits); kMaskedLoads
// and, if true, load_masked of both types, likewise kMaskedStores and store_masked. After this file: widen (f64 from
// f32 lanes), narrow_words (integers of 32 bits, which fit 16), bits_from_bf16, bits_from_f16 and bits_to_f16,
// store_around_cache of halves; load_masked and store_masked of them, too, under the same constants.
#pragma once

/// Sum of 2, 4 or 8 elements, halves onto halves.
template <class Elements>
static inline auto sum_of_halves(Elements a, Index<2>) {
  return a[0] + a[1];
}
template <class Elements>
static inline auto sum_of_halves(Elements a, Index<4>) {
  return sum_of_halves(__builtin_shufflevector(a, a, 0, 1) + __builtin_shufflevector(a, a, 2, 3), Index<2>());
}
template <class Elements>
static inline auto sum_of_halves(Elements a, Index<8>) {
  return sum_of_halves(__builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7),
                       Index<4>());
}

template <class T>
struct Part {
  using Element = T;
  using Batch = xsimd::batch<T, Arch>;
  // As vectors of its elements; of f32, of its bits, and of as many 16-bit elements.
  typedef T Elements __attribute__((vector_size(sizeof(Batch))));
  typedef uint32_t Words __attribute__((vector_size(sizeof(Batch))));
  typedef uint16_t Halves __attribute__((vector_size(sizeof(Batch) / 2)));
  static constexpr int size = static_cast<int>(Batch::size);
  Batch v;

  Part() = default;
  Part(const Batch& batch) : v(batch) {}
  // Copies the register itself: GCC 12 keeps copies of the class around it in memory.
  Part(const Part& b) : v(b.v.data) {}
  Part& operator=(const Part& b) {
    v.data = b.v.data;
    return *this;
  }
  static Part broadcast(T x) { return {Batch(x)}; }
  static Part load(const T* p) { return {Batch::load_unaligned(p)}; }
  static Part from_bits(Words bits) { return {Batch(__builtin_bit_cast(typename Batch::register_type, bits))}; }
  Words bits() const { return __builtin_bit_cast(Words, v.data); }
  static Part load_wide(const float* p) { return {Batch(load_widened(p))}; }
  void store(T* p) const { v.store_unaligned(p); }
  void stream(T* p) const { store_around_cache(p, v.data); }
  static Part load_first(const T* p, int64_t n) { return {Batch(load_masked(p, n))}; }
  void store_first(T* p, int64_t n) const { store_masked(p, v.data, n); }
  Part operator+(const Part& b) const { return {v + b.v}; }
  Part operator-(const Part& b) const { return {v - b.v}; }
  Part operator*(const Part& b) const { return {v * b.v}; }
  static Part exact_product_plus(const Part& a, const Part& b, const Part& c) {
    return {Batch(multiply_add(a.v.data, b.v.data, c.v.data))};
  }
  /// Halves onto halves.
  T halves_sum() const { return sum_of_halves(__builtin_bit_cast(Elements, v.data), Index<size>()); }
  /// *this < bound ? bound : *this.
  Part at_least(const Part& bound) const { return {Batch(larger(bound.v.data, v.data))}; }
  /// *this > bound ? bound : *this.
  Part at_most(const Part& bound) const { return {Batch(smaller(bound.v.data, v.data))}; }
  static Part less_select(const Part& a, const Part& b, const Part& yes, const Part& no) {
    return {xsimd::select(a.v < b.v, yes.v, no.v)};
  }
  static Part less_equal_select(const Part& a, const Part& b, const Part& yes, const Part& no) {
    return {xsimd::select(a.v <= b.v, yes.v, no.v)};
  }
  /// Not by less_equal_select: GCC 12 looks at the signs of the comparison's lanes once more, with a register of zeros.
  /// Backward through ReLU takes 0.93 to 0.97 of the time (AVX2).
  static Part zero_if_less_equal(const Part& a, const Part& b, const Part& v) {
    return {Batch(cleared((a.v <= b.v).data, v.v.data))};
  }
  static LaneBits less_equal(const Part& a, const Part& b) { return bits_of((a.v <= b.v).data); }
  static Part bit_select(LaneBits bits, const Part& yes, const Part& no) {
    return {Batch(selected(bits, yes.v.data, no.v.data))};
  }
};

using Floats = Part<float>::Elements;
using Words = Part<float>::Words;
using Halves = Part<float>::Halves;

static inline Words ones_where_nan(Floats v) {
  return __builtin_bit_cast(Words, v != v);  // NOLINT(misc-redundant-expression): true for NaN
}
