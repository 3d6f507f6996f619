// SPDX-License-Identifier: Apache-2.0
// Exact arithmetic on floating-point numbers: sums of any length as rationals, and errors in units in the last place.
#pragma once
#include <boost/multiprecision/cpp_int.hpp>
#include <cstdint>
#include <limits>
#include <vector>

namespace bnorm_tests {

using Integer = boost::multiprecision::cpp_int;
using Rational = boost::multiprecision::cpp_rational;
__extension__ typedef __int128 Int128;

Rational power_of_two(int exponent);
/// The value itself; finite.
Rational exactly(double value);

/// Sum of floats or doubles, or of products of two: one integer for each exponent, so that nothing is ever rounded.
/// Up to 2^20 products of doubles, 2^70 of floats.
class ExactSum {
 public:
  template <class T>
  void add(T value) {
    add_product(value, T(1));
  }
  template <class T>
  void add_product(T a, T b) {
    const Scaled p = scaled(a), q = scaled(b);
    bins_[static_cast<size_t>(p.exponent + q.exponent - kLowest)] += Int128{p.mantissa} * q.mantissa;
  }
  Rational value() const;

 private:
  struct Scaled {
    int64_t mantissa;
    int exponent;
  };
  static constexpr int kLowest = 2 * -1074;
  static constexpr size_t kBins = 2 * (1074 + 1024);

  static Scaled scaled(float value);
  static Scaled scaled(double value);

  std::vector<Int128> bins_ = std::vector<Int128>(kBins);
};

/// Exact mean and variance (biased) of what was added.
template <class T>
class ExactMoments {
 public:
  void add(T value) {
    sum_.add(value);
    squares_.add_product(value, value);
    ++count_;
  }
  int64_t count() const { return count_; }
  Rational mean() const { return sum_.value() / count_; }
  Rational var() const {
    const Rational m = mean();
    return squares_.value() / count_ - m * m;
  }

 private:
  ExactSum sum_, squares_;
  int64_t count_ = 0;
};

/// The distance between neighbouring floats (`digits` = 24) or doubles (53) at this value.
Rational unit_in_last_place(const Rational& value, int digits);
/// |result - exact| in units in the last place of `scale`. Infinity stands for all that rounds to it.
double error_in_ulp(float result, const Rational& exact, const Rational& scale);
double error_in_ulp(double result, const Rational& exact, const Rational& scale);
/// Whether no neighbour of `result` is closer.
bool correctly_rounded(float result, const Rational& exact);

}  // namespace bnorm_tests
