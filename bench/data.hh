// The input values, the same in every process and every memory layout: a value belongs to a logical position.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace bnorm_bench {

/// Both sides of a comparison normalize with the same epsilon.
inline constexpr double kEpsilon = 1e-5;

/// Tensors and parameters that have a stream of values each.
enum class Stream { x, dy, residual, scale, shift, mean, var };

/// N(0, 1) values by position. A table repeated instead of a generator per element: filling must not take longer than
/// measuring. Its length is prime, so no two channels of a power-of-two size hold the same run.
class Normals {
 public:
  Normals() {
    std::mt19937 engine(20150211);
    std::normal_distribution<float> normal;
    for (float& value : table_) value = normal(engine);
  }

  float operator()(Stream stream, int64_t index) const {
    return table_[(static_cast<size_t>(index) + offset(stream)) % kLength];
  }

  /// The values of positions 0 ... count - 1.
  void fill(Stream stream, float* values, int64_t count) const {
    size_t from = offset(stream);
    for (int64_t i = 0; i < count; ++i) {
      values[i] = table_[from];
      from = from + 1 == kLength ? 0 : from + 1;
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
  static constexpr size_t kLength = 65521;
  static constexpr size_t offset(Stream stream) { return static_cast<size_t>(stream) * 7919; }  // below kLength

  std::array<float, kLength> table_;
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
