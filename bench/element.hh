// Elements of the data types as doubles, and the way from logical positions to memory.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "row.hh"
#include "support/half.hh"

namespace bnorm_bench {

inline size_t element_bytes(Dtype dtype) { return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2; }
/// Of coefficients and weights.
inline Dtype arithmetic_dtype(const Row& row) { return row.dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }
inline Dtype parameter_dtype(const Row& row) { return row.param_dtype.value_or(arithmetic_dtype(row)); }

inline double read_element(const std::byte* data, Dtype dtype, int64_t at) {
  switch (dtype) {
    case Dtype::f32:
      return reinterpret_cast<const float*>(data)[at];
    case Dtype::f64:
      return reinterpret_cast<const double*>(data)[at];
    case Dtype::bf16:
      return std::bit_cast<float>(uint32_t{reinterpret_cast<const uint16_t*>(data)[at]} << 16);
    case Dtype::f16:
      return bnorm_support::f16_value(reinterpret_cast<const uint16_t*>(data)[at]);
  }
  return 0;
}

/// bf16 drops the low bits: any value will do as input.
inline void write_element(std::byte* data, Dtype dtype, int64_t at, float value) {
  switch (dtype) {
    case Dtype::f32:
      reinterpret_cast<float*>(data)[at] = value;
      break;
    case Dtype::f64:
      reinterpret_cast<double*>(data)[at] = value;
      break;
    case Dtype::bf16:
      reinterpret_cast<uint16_t*>(data)[at] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
      break;
    case Dtype::f16:
      reinterpret_cast<uint16_t*>(data)[at] = bnorm_support::f16_from(value);
      break;
  }
}

/// Memory index of logical element [g][n][c][s].
inline int64_t memory_index(const Row& row, int64_t g, int64_t n, int64_t c, int64_t s) {
  const auto [batch, channels, spatial] = row.shape;
  const int64_t image = g * batch + n;
  if (row.layout == Layout::planar) return (image * row.width() + c) * spatial + s;
  if (row.layout == Layout::channels_last) return (image * spatial + s) * row.width() + c;
  const int64_t block = channel_block(row.layout), blocks = channels / block;
  return ((image * blocks + c / block) * spatial + s) * block + c % block;
}

/// Logical position, which the input values belong to, of the same element.
inline int64_t logical_index(const Row& row, int64_t g, int64_t n, int64_t c, int64_t s) {
  const auto [batch, channels, spatial] = row.shape;
  return ((g * batch + n) * channels + c) * spatial + s;
}

}  // namespace bnorm_bench
