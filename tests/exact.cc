// SPDX-License-Identifier: Apache-2.0
#include "exact.hh"

#include <bit>
#include <cmath>

namespace bnorm_tests {
namespace {

/// Largest e with 2^e <= |value|, which is not 0.
int exponent_of(const Rational& value) {
  const Rational size = abs(value);
  const int guess = static_cast<int>(msb(numerator(size))) - static_cast<int>(msb(denominator(size)));
  return power_of_two(guess) <= size ? guess : guess - 1;
}

template <class T>
double ulps(T result, const Rational& exact, const Rational& scale) {
  constexpr int digits = std::numeric_limits<T>::digits;
  const Rational unit = unit_in_last_place(scale, digits);
  if (std::isinf(result)) {
    // What lies half a unit above the largest finite number rounds to infinity.
    const Rational most = exactly(static_cast<double>(std::numeric_limits<T>::max()));
    const bool right = (result > 0) == (exact > 0) && abs(exact) >= most + unit_in_last_place(most, digits) / 2;
    return right ? 0 : std::numeric_limits<double>::infinity();
  }
  if (std::isnan(result)) return std::numeric_limits<double>::infinity();
  return (abs(exactly(static_cast<double>(result)) - exact) / unit).template convert_to<double>();
}

}  // namespace

Rational power_of_two(int exponent) {
  const Rational power(Integer(1) << static_cast<unsigned>(std::abs(exponent)));
  return exponent < 0 ? 1 / power : power;
}

Rational exactly(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return Rational(static_cast<int64_t>(std::ldexp(mantissa, 53))) * power_of_two(exponent - 53);
}

ExactSum::Scaled ExactSum::scaled(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), exponent = bits >> 23 & 0xffu;
  const int64_t mantissa = (bits & 0x7fffffu) | (exponent > 0 ? 0x800000u : 0u);
  return {bits >> 31 ? -mantissa : mantissa, static_cast<int>(exponent > 0 ? exponent : 1) - 150};
}

ExactSum::Scaled ExactSum::scaled(double value) {
  const uint64_t bits = std::bit_cast<uint64_t>(value), exponent = bits >> 52 & 0x7ffu;
  const auto mantissa = static_cast<int64_t>((bits & 0xfffffffffffffu) | (exponent > 0 ? uint64_t{1} << 52 : 0u));
  return {bits >> 63 ? -mantissa : mantissa, static_cast<int>(exponent > 0 ? exponent : 1) - 1075};
}

Rational ExactSum::value() const {
  Integer sum = 0;
  for (size_t i = kBins; i-- > 0;) sum = (sum << 1) + Integer(bins_[i]);
  return Rational(sum) * power_of_two(kLowest);
}

Rational unit_in_last_place(const Rational& value, int digits) {
  const int lowest = digits == 24 ? -149 : -1074;
  return power_of_two(value == 0 ? lowest : std::max(exponent_of(value) - (digits - 1), lowest));
}

double error_in_ulp(float result, const Rational& exact, const Rational& scale) { return ulps(result, exact, scale); }
double error_in_ulp(double result, const Rational& exact, const Rational& scale) { return ulps(result, exact, scale); }

bool correctly_rounded(float result, const Rational& exact) {
  if (!std::isfinite(result)) return ulps(result, exact, exact) == 0;
  const auto distance = [&](float f) -> Rational { return abs(exactly(static_cast<double>(f)) - exact); };
  for (const float end : {-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()}) {
    const float neighbour = std::nextafter(result, end);
    if (std::isfinite(neighbour) && distance(neighbour) < distance(result)) return false;
  }
  return true;
}

}  // namespace bnorm_tests
