// The input values, the same in every process and every memory layout: a value belongs to a logical position.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/normal_table.hh"

namespace bnorm_bench {

/// Both sides of a comparison normalize with the same epsilon.
inline constexpr double kEpsilon = 1e-5;

/// Tensors and parameters that have a stream of values each.
enum class Stream { x, dy, residual, scale, shift, mean, var };

/// N(0, 1) values by position.
class Normals {
 public:
  float operator()(Stream stream, int64_t index) const {
    return static_cast<float>(table_[(static_cast<size_t>(index) + offset(stream)) % bnorm_support::kNormals]);
  }

  /// The values of positions 0 ... count - 1.
  void fill(Stream stream, float* values, int64_t count) const {
    size_t from = offset(stream);
    for (int64_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(table_[from]);
      from = bnorm_support::next_normal(from);
    }
  }

  /// Value of a parameter: scales around 1, variances above 0.
  float parameter(Stream stream, int64_t channel) const {
    const float normal = (*this)(stream, channel);
    switch (stream) {
      case Stream::scale:
        return 1.0F + 0.25F * normal;
      case Stream::var:
        return 0.5F + std::fabs(normal);
      default:
        return 0.25F * normal;
    }
  }

 private:
  static constexpr size_t offset(Stream stream) { return static_cast<size_t>(stream) * 7919; }  // in the table

  const std::array<double, bnorm_support::kNormals>& table_ = bnorm_support::normal_table();
};

/// Middle value; the mean of the two middle ones for an even count. `values` is not empty.
inline double median(std::vector<double> values) {
  const size_t half = values.size() / 2;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(half);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

/// Position of the i-th of `count` samples spread evenly over `total` elements.
inline int64_t sample_position(int64_t i, int64_t count, int64_t total) {
  return static_cast<int64_t>(static_cast<double>(total) * static_cast<double>(i) / static_cast<double>(count));
}

}  // namespace bnorm_bench
