// SPDX-License-Identifier: Apache-2.0
// Random numbers that depend on the seed alone.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include "support/normal_table.hh"

namespace bnorm_tests {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  /// SplitMix64 (Steele, Lea and Flood 2014).
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t n) { return bits() % n; }
  /// In (0, 1).
  double uniform() { return (static_cast<double>(bits() >> 12) + 0.5) * 0x1p-52; }
  /// N(0, 1) by Box and Muller.
  double normal() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  /// A multiple of 1/256 in [-2, 2], without rounding or libm.
  double fraction() { return (static_cast<double>(below(1025)) - 512) / 256; }

 private:
  uint64_t state_;
};

/// An endless stream of N(0, 1): the table's, begun anywhere.
class Normals {
 public:
  explicit Normals(uint64_t seed) : at_(Random(seed).below(bnorm_support::kNormals)) {}

  double next() {
    at_ = bnorm_support::next_normal(at_);
    return bnorm_support::normal_table()[at_];
  }

 private:
  size_t at_;
};

/// `count` values of N(mean, size^2).
template <class T>
std::vector<T> normals(Random& random, int64_t count, double mean = 0, double size = 1) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& v : values) v = static_cast<T>(mean + size * random.normal());
  return values;
}

}  // namespace bnorm_tests
