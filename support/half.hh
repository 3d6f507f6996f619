// SPDX-License-Identifier: Apache-2.0
// Shared by tests and bench: binary16 (f16) by its definition, sign, 5 bits of exponent, 10 of fraction.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

namespace bnorm_support {

/// To nearest, ties to even.
inline uint16_t f16_from(float value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return sign | 0x7e00;
  const double size = std::fabs(static_cast<double>(value));
  if (size >= 65520) return sign | 0x7c00;
  const int exponent = size < 0x1p-14 ? -14 : std::ilogb(size);
  const auto units = static_cast<int>(std::nearbyint(std::ldexp(size, 10 - exponent)));  // of the last place
  return static_cast<uint16_t>(sign | (units < 1024 ? units : ((exponent + 14) << 10) + units));
}

inline double f16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = std::ldexp(exponent > 0 ? 1024 + fraction : fraction, (exponent > 0 ? exponent : 1) - 25);
  if (exponent == 31)
    size = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  return (bits & 0x8000) != 0 ? -size : size;
}

}  // namespace bnorm_support
