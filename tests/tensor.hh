// SPDX-License-Identifier: Apache-2.0
// Typed elements, and tensors of any strides that notice writes outside their elements.
#pragma once
#include <bnorm/bnorm.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "memory.hh"
#include "support/half.hh"

namespace bnorm_tests {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

/// Half a unit in the last place of 1.
inline double roundoff(bnorm_type type) {
  constexpr double roundoffs[] = {0, 0x1p-24, 0x1p-53, 0x1p-8, 0x1p-11};
  return roundoffs[type];
}

inline size_t size_of(bnorm_type type) { return type == BNORM_F64 ? 8 : (type == BNORM_F32 ? 4 : 2); }

inline uint16_t bf16_from(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline void store_element(bnorm_type type, void* at, double value) {
  const float narrow = static_cast<float>(value);
  if (type == BNORM_F64) {
    std::memcpy(at, &value, 8);
  } else if (type == BNORM_F32) {
    std::memcpy(at, &narrow, 4);
  } else {
    const uint16_t bits = type == BNORM_BF16 ? bf16_from(narrow) : bnorm_support::f16_from(narrow);
    std::memcpy(at, &bits, 2);
  }
}

/// The same bits, or both NaN.
inline bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

/// The element as f64; every NaN comes back as the same NaN, so that values can be compared by their bits.
inline double load_element(bnorm_type type, const void* at) {
  double value = 0;
  if (type == BNORM_F64) {
    std::memcpy(&value, at, 8);
  } else if (type == BNORM_F32) {
    float narrow = 0;
    std::memcpy(&narrow, at, 4);
    value = static_cast<double>(narrow);
  } else {
    uint16_t bits = 0;
    std::memcpy(&bits, at, 2);
    value = type == BNORM_F16 ? bnorm_support::f16_value(bits)
                              : static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits) << 16));
  }
  return std::isnan(value) ? kNaN : value;
}

/// Calls f with the type as a constant, so that a loop in f does not look at it for each element.
template <class F>
void with_constant(bnorm_type type, F f) {
  if (type == BNORM_F32) f(std::integral_constant<bnorm_type, BNORM_F32>());
  if (type == BNORM_F64) f(std::integral_constant<bnorm_type, BNORM_F64>());
  if (type == BNORM_BF16) f(std::integral_constant<bnorm_type, BNORM_BF16>());
  if (type == BNORM_F16) f(std::integral_constant<bnorm_type, BNORM_F16>());
}

/// The value as an element of this type holds it.
inline double rounded(bnorm_type type, double value) {
  unsigned char element[8];
  store_element(type, element, value);
  return load_element(type, element);
}

struct Shape {
  int64_t g = 1, n = 1, c = 1, s = 1;
  int64_t elements() const { return g * n * c * s; }
  int64_t count() const { return n * s; }
};

/// The strides that all zeros stand for.
inline bnorm_strides resolve(const bnorm_strides& t, const Shape& shape) {
  if (t.g != 0 || t.n != 0 || t.c != 0 || t.s != 0) return t;
  return {shape.n * shape.c * shape.s, shape.c * shape.s, shape.s, 1};
}

/// A dense array of elements: parameters and statistics.
class Array {
 public:
  Array(bnorm_type type, size_t count, Placement placement, size_t misalignment)
      : type_(type), count_(count), memory_(count * size_of(type), placement, misalignment * size_of(type)) {}
  void fill(const std::vector<double>& values) {
    for (size_t i = 0; i < count_; ++i) store_element(type_, memory_.data() + i * size_of(type_), values[i]);
  }
  std::vector<double> values() const {
    std::vector<double> r(count_);
    for (size_t i = 0; i < count_; ++i) r[i] = load_element(type_, memory_.data() + i * size_of(type_));
    return r;
  }
  void* data() { return memory_.data(); }
  bool surroundings_intact() const { return memory_.surroundings_intact(); }

 private:
  bnorm_type type_;
  size_t count_;
  Memory memory_;
};

/// A tensor [g][n][c][s]; logical values are dense in that order.
class Tensor {
 public:
  Tensor(bnorm_type type, const Shape& shape, const bnorm_strides& strides, Placement placement, size_t misalignment)
      : type_(type), shape_(shape), strides_(strides), memory_(0, Placement::kHeap) {
    int64_t low = 0, high = -1;
    if (shape.elements() > 0) {
      high = 0;
      const int64_t reach[4] = {(shape.g - 1) * strides.g, (shape.n - 1) * strides.n, (shape.c - 1) * strides.c,
                                (shape.s - 1) * strides.s};
      for (const int64_t r : reach) (r < 0 ? low : high) += r;
    }
    origin_ = -low;
    memory_ = Memory(static_cast<size_t>(high - low + 1) * size_of(type), placement, misalignment * size_of(type));
  }

  void fill(const std::vector<double>& logical) {
    with_constant(type_, [&](auto type) {
      const double* from = logical.data();
      each([&, to = memory_.data()](size_t byte) { store_element(type, to + byte, *from++); });
    });
    filled_.assign(memory_.data(), memory_.data() + memory_.size());
  }
  std::vector<double> values() const {
    std::vector<double> r(static_cast<size_t>(shape_.elements()));
    with_constant(type_, [&](auto type) {
      double* to = r.data();
      each([&, from = memory_.data()](size_t byte) { *to++ = load_element(type, from + byte); });
    });
    return r;
  }
  void* data() { return memory_.data() + static_cast<size_t>(origin_) * size_of(type_); }

  /// Whether every byte is as fill left it.
  bool is_unchanged() const {
    return memory_.surroundings_intact() && filled_.size() == memory_.size() &&
           std::equal(filled_.begin(), filled_.end(), memory_.data());
  }
  /// Whether every byte that belongs to no element still holds the pattern.
  bool gaps_intact() const {
    if (!memory_.surroundings_intact()) return false;
    if (memory_.size() == static_cast<size_t>(shape_.elements()) * size_of(type_)) return true;
    const size_t bytes = size_of(type_);
    std::vector<unsigned char> named(memory_.size() / bytes);
    each([&](size_t byte) { named[byte / bytes] = 1; });
    for (size_t e = 0; e < named.size(); ++e)
      for (size_t i = 0; named[e] == 0 && i < bytes; ++i)
        if (!memory_.holds_pattern(e * bytes + i)) return false;
    return true;
  }

 private:
  template <class Visit>
  void each(Visit visit) const {
    for (int64_t g = 0; g < shape_.g; ++g)
      for (int64_t n = 0; n < shape_.n; ++n)
        for (int64_t c = 0; c < shape_.c; ++c)
          for (int64_t s = 0; s < shape_.s; ++s)
            visit(static_cast<size_t>(origin_ + g * strides_.g + n * strides_.n + c * strides_.c + s * strides_.s) *
                  size_of(type_));
  }

  bnorm_type type_;
  Shape shape_;
  bnorm_strides strides_;
  int64_t origin_ = 0;
  Memory memory_;
  std::vector<unsigned char> filled_;
};

}  // namespace bnorm_tests
