// The timed call against the formulas in long double, for a sample of channels: a bench that times the wrong work is
// worse than none.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "cases.hh"
#include "element.hh"
#include "support/activation.hh"
#include "uses.hh"

namespace bnorm_bench {

using Real = long double;

/// One group's values of one channel, and what the formulas make of them.
struct Channel {
  std::vector<Real> x, dy, residual, y;  // y: of the forward call, for backward
  std::vector<Real> weights;
  Real scale = 1, shift = 0, mean = 0, inv_std = 1;  // scale and shift with the corrections of batch renormalization
  Real r = 1, d = 0;                                 // which are these

  Real count() const { return std::accumulate(weights.begin(), weights.end(), Real{0}); }

  Real x_hat(size_t i) const { return (x[i] - mean) * inv_std; }
  Real z(size_t i) const { return x_hat(i) * scale + shift + residual[i]; }
  Real z_terms(size_t i) const { return std::fabs(x_hat(i) * scale) + std::fabs(shift) + std::fabs(residual[i]); }
};

namespace {

/// Unit roundoff of a type.
Real unit(Dtype dtype) {
  constexpr int exponents[] = {-24, -53, -8, -11};
  return std::ldexp(Real{1}, exponents[static_cast<size_t>(dtype)]);
}

/// Allowed error where the exact result is a sum of terms of total size `terms`: eight roundings of the arithmetic,
/// the rounding to the data type, and for f64, whose statistics are no wider than the data, 64 roundings of the sums.
Real tolerance(Dtype dtype, Real terms) {
  const Real arithmetic = dtype == Dtype::f64 ? 72 * unit(Dtype::f64) : 8 * unit(Dtype::f32);
  return terms * (arithmetic + unit(dtype));
}

void batch_statistics(Channel& channel) {
  const Real count = channel.count();
  Real sum = 0;
  for (size_t i = 0; i < channel.x.size(); ++i) sum += channel.weights[i] * channel.x[i];
  channel.mean = sum / count;
  Real squares = 0;
  for (size_t i = 0; i < channel.x.size(); ++i)
    squares += channel.weights[i] * (channel.x[i] - channel.mean) * (channel.x[i] - channel.mean);
  channel.inv_std = 1 / std::sqrt(squares / count + Real{kEpsilon});
}

[[noreturn]] void fail(const Row& row, const char* what, int64_t channel, size_t i, Real got, Real expected) {
  throw std::runtime_error(operation_name(row) + ": " + what + " of channel " + std::to_string(channel) + ", value " +
                           std::to_string(i) + " is " + std::to_string(got) + ", expected " + std::to_string(expected));
}

/// Not written as > so that NaN fails.
bool within(Real got, Real expected, Real allowed) { return std::fabs(got - expected) <= allowed; }

/// The weights of a group's positions.
std::vector<Real> gather_weights(const Row& row, const Buffer& weights, const std::vector<int64_t>& lengths,
                                 int64_t g) {
  const int64_t spatial = row.shape.spatial, count = row.shape.batch * spatial;
  std::vector<Real> values(static_cast<size_t>(count), 1);
  for (int64_t i = 0; i < count; ++i) {
    Real& value = values[static_cast<size_t>(i)];
    if (row.weighted) value = read_element(weights.data(), arithmetic_dtype(row), g * count + i);
    if (row.lengths) value = i % spatial < lengths[static_cast<size_t>((g * count + i) / spatial)] ? 1 : 0;
  }
  return values;
}

/// Takes for x what the output says of it.
void take_from_output(const Row& row, Channel& channel) {
  const bnorm_desc desc = desc_of(row);
  for (size_t i = 0; i < channel.x.size(); ++i) {
    Real z = channel.y[i];
    if (z < 0 && row.activation == BNORM_LEAKY_RELU) z /= Real{desc.leaky_slope};
    if (z < 0 && row.activation == BNORM_ELU) z = std::log1p(z / Real{desc.elu_alpha});
    channel.x[i] = (z - channel.shift) / channel.scale / channel.inv_std + channel.mean;
  }
}

/// Reads one channel of a tensor into a vector, or zeros if the row has no such tensor.
std::vector<Real> gather(const Row& row, const Buffer& buffer, Dtype dtype, int64_t g, int64_t c) {
  std::vector<Real> values;
  for (int64_t n = 0; n < row.shape.batch; ++n) {
    for (int64_t s = 0; s < row.shape.spatial; ++s) {
      values.push_back(buffer.bytes() == 0 ? 0 : read_element(buffer.data(), dtype, memory_index(row, g, n, c, s)));
    }
  }
  return values;
}

void check_forward(const Row& row, const Channel& channel, const std::vector<Real>& y, int64_t c) {
  const auto f = bnorm_support::activation(desc_of(row));
  for (size_t i = 0; i < y.size(); ++i) {
    const Real z = channel.z(i);
    const Real expected = f.value(z);
    const Real allowed = f.steepest * tolerance(row.output_dtype, channel.z_terms(i));
    const Real own = unit(row.dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32) * f.value_error(z);
    if (!within(y[i], expected, allowed + own)) fail(row, "y", c, i, y[i], expected);
  }
}

/// Folded weights, of an output times its gain, and its bias, there being none before.
void check_folded(const Row& row, const Channel& channel, const std::vector<Real>& folded, Real bias, int64_t c) {
  for (size_t i = 0; i < folded.size(); ++i) {
    const Real expected = channel.x[i] * channel.scale * channel.inv_std;
    const Real subnormal = row.dtype == Dtype::f16 ? 0x1p-25L : 0;
    if (!within(folded[i], expected, tolerance(row.dtype, std::fabs(expected)) + subnormal))
      fail(row, "folded weight", c, i, folded[i], expected);
  }
  const Real moved = channel.mean * channel.scale * channel.inv_std, expected = channel.shift - moved;
  if (!within(bias, expected, tolerance(parameter_dtype(row), std::fabs(channel.shift) + std::fabs(moved))))
    fail(row, "folded bias", c, 0, bias, expected);
}

struct GradientSums {
  Real shift = 0, scale = 0;              ///< dshift, dscale
  Real shift_terms = 0, scale_terms = 0;  ///< sums of absolute values
  Real shift_open = 0, scale_open = 0;    ///< of elements so close to a kink that rounding decides

  /// Adds those of one group, `ranks` times.
  void add(const GradientSums& b, const Channel& channel, Real ranks) {
    const Real r = ranks * channel.r, d = ranks * channel.d;
    shift += ranks * b.shift;
    scale += b.scale * r + b.shift * d;
    shift_terms += ranks * b.shift_terms;
    scale_terms += b.scale_terms * r + b.shift_terms * std::fabs(d);
    shift_open += ranks * b.shift_open;
    scale_open += b.scale_open * r + b.shift_open * std::fabs(d);
  }
};

/// dz of each element, what its derivative may be wrong by, and the sums; elements whose derivative rounding decides
/// are marked by NaN.
GradientSums gradient(const Row& row, const Channel& channel, std::vector<Real>& dz, std::vector<Real>& dz_error) {
  GradientSums sums;
  dz = channel.dy;
  dz_error.assign(dz.size(), 0);
  const auto f = bnorm_support::activation(desc_of(row));
  const bool reads_y = row.residual && f.y_tells && !row.from_mask && !row.from_residual;
  for (size_t i = 0; i < dz.size(); ++i) {
    const Real z = channel.z(i);
    const Real x_hat = channel.x_hat(i);
    if (f.slope_jump(z, tolerance(reads_y ? row.output_dtype : Dtype::f32, channel.z_terms(i))) > 0) {
      if (channel.weights[i] > 0) {
        sums.shift_open += std::fabs(dz[i]);
        sums.scale_open += std::fabs(dz[i] * x_hat);
      }
      dz[i] = NAN;
      continue;
    }
    const Real own = reads_y ? f.slope_of_y_error(channel.y[i]) : f.slope_error(z);
    const Real of_z = reads_y ? 0 : f.steepest_slope * tolerance(row.dtype, channel.z_terms(i));
    dz_error[i] = std::fabs(dz[i]) * (unit(row.dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32) * own + of_z);
    dz[i] *= reads_y ? f.slope_of_y(channel.y[i]) : f.slope(z);
    if (channel.weights[i] == 0) continue;  // padding: enters no sum
    sums.shift += dz[i];
    sums.scale += dz[i] * x_hat;
    sums.shift_terms += std::fabs(dz[i]);
    sums.scale_terms += std::fabs(dz[i] * x_hat);
  }
  return sums;
}

void check_dresidual(const Row& row, const std::vector<Real>& dz, const std::vector<Real>& dz_error,
                     const std::vector<Real>& dresidual, int64_t c) {
  for (size_t i = 0; i < dresidual.size(); ++i) {
    if (std::isnan(dz[i])) continue;
    const Real allowed = tolerance(row.output_dtype, std::fabs(dz[i])) + dz_error[i];
    if (!within(dresidual[i], dz[i], allowed)) fail(row, "dresidual", c, i, dresidual[i], dz[i]);
  }
}

/// Of statistics in f64: docs/numerics.md has 9.6e-11 a block; the means here add next to nothing.
constexpr Real kOfSums = 1e-9;

/// What training saves of a channel, and its running mean.
struct Trained {
  Real mean, inv_std, running_mean;
};

void check_trained(const Row& row, const Channel& channel, const Trained& got, Real running_before, int64_t c) {
  const Real factor = desc_of(row).average_factor;
  const Real running = running_before + factor * (channel.mean - running_before);
  const Real terms = std::fabs(channel.mean) + 1 / channel.inv_std;
  if (!within(got.mean, channel.mean, kOfSums * terms)) fail(row, "mean", c, 0, got.mean, channel.mean);
  if (!within(got.inv_std, channel.inv_std, kOfSums * channel.inv_std))
    fail(row, "inv_std", c, 0, got.inv_std, channel.inv_std);
  if (row.groups == 1 && !within(got.running_mean, running, tolerance(parameter_dtype(row), terms)))
    fail(row, "running_mean", c, 0, got.running_mean, running);
}

/// Of one group and channel of a partials buffer: its count and its two numbers.
struct Partial {
  Real count, first, second;
};

void check_moments(const Row& row, const Channel& channel, const Partial& got, int64_t c) {
  const Real deviation = 1 / channel.inv_std;
  const Real m2 = channel.count() * (deviation * deviation - Real{kEpsilon});
  if (got.count != channel.count()) fail(row, "count", c, 0, got.count, channel.count());
  if (!within(got.first, channel.mean, kOfSums * (std::fabs(channel.mean) + deviation)))
    fail(row, "mean", c, 0, got.first, channel.mean);
  if (!within(got.second, m2, kOfSums * channel.count() * deviation * deviation)) fail(row, "M2", c, 0, got.second, m2);
}

void check_sums(const Row& row, const Channel& channel, const GradientSums& sums, const Partial& got, int64_t c) {
  const Dtype arithmetic = arithmetic_dtype(row);
  const Real deviation = 1 / channel.inv_std;
  if (got.count != channel.count()) fail(row, "count", c, 0, got.count, channel.count());
  if (!within(got.first, sums.shift, tolerance(arithmetic, sums.shift_terms) + sums.shift_open))
    fail(row, "sum of dz", c, 0, got.first, sums.shift);
  if (!within(got.second, sums.scale * deviation,
              (tolerance(arithmetic, sums.scale_terms) + sums.scale_open) * deviation))
    fail(row, "sum of dz * (x - mean)", c, 0, got.second, sums.scale * deviation);
}

void check_dx(const Row& row, const Channel& channel, const GradientSums& sums, const std::vector<Real>& dz,
              const std::vector<Real>& dz_error, const std::vector<Real>& dx, int64_t c) {
  const auto all = row.frozen ? std::numeric_limits<Real>::infinity() : channel.count();
  const Real gain = channel.scale * channel.inv_std;
  for (size_t i = 0; i < dx.size(); ++i) {
    if (std::isnan(dz[i])) continue;
    const Real count = all / channel.weights[i];
    const Real x_hat = channel.x_hat(i);
    const Real expected = gain * (dz[i] - (sums.shift + x_hat * sums.scale) / count);
    const Real terms = std::fabs(dz[i]) + (sums.shift_terms + std::fabs(x_hat) * sums.scale_terms) / count;
    const Real open = (sums.shift_open + std::fabs(x_hat) * sums.scale_open) / count;
    if (!within(dx[i], expected, std::fabs(gain) * (tolerance(row.dtype, terms) + dz_error[i] + open))) {
      fail(row, "dx", c, i, dx[i], expected);
    }
  }
}

void check_param_gradients(const Row& row, const GradientSums& total, Real dscale, Real dshift, int64_t c) {
  const Dtype parameter = parameter_dtype(row);
  if (!within(dshift, total.shift, tolerance(parameter, total.shift_terms) + total.shift_open))
    fail(row, "dshift", c, 0, dshift, total.shift);
  if (!within(dscale, total.scale, tolerance(parameter, total.scale_terms) + total.scale_open))
    fail(row, "dscale", c, 0, dscale, total.scale);
}

/// Of group g and channel c. In blocks of channels each block has a count; they are the same.
Partial partial_at(const Row& row, const std::vector<double>& partials, int64_t g, int64_t c) {
  const int64_t channels = row.shape.channels;
  const int64_t block = channel_block(row.layout), counts = block > 0 ? channels / block : row.groups;
  const double* const first = partials.data() + counts + g * channels;
  return {partials[static_cast<size_t>(g)], first[c], first[row.groups * channels + c]};
}

}  // namespace

/// NaN, in every type, where the timed call writes.
void Case::spoil_outputs() {
  const TensorSet& set = sets_.front();
  const auto spoil = [](std::initializer_list<const Buffer*> buffers) {
    for (const Buffer* buffer : buffers)
      if (buffer->bytes() > 0) std::memset(buffer->data(), 0xff, buffer->bytes());
  };
  switch (row_.operation) {
    case Operation::backward:
      return spoil({&set.dx, &set.dresidual, &dscale_, &dshift_});
    case Operation::train:
      return spoil({&set.y, &mean_, &inv_std_});
    case Operation::fold:
      return spoil({&set.y, &dshift_});
    case Operation::moments:
    case Operation::sums:
      std::fill(partials_.begin(), partials_.end(), NAN);
      return;
    default:
      return spoil({&set.y});
  }
}

Channel Case::channel_at(int64_t g, int64_t c) const {
  const TensorSet& set = sets_.front();
  const Dtype parameter = parameter_dtype(row_);
  const int64_t at = g * row_.shape.channels + c;
  Channel r;
  r.x = gather(row_, set.x, row_.dtype, g, c);
  r.dy = gather(row_, set.dy, row_.output_dtype, g, c);
  r.residual = gather(row_, set.residual, row_.output_dtype, g, c);
  r.y = gather(row_, set.y, row_.output_dtype, g, c);
  r.weights = gather_weights(row_, weights_, lengths_, g);
  r.scale = read_element(scale_.data(), parameter, c);
  r.shift = read_element(shift_.data(), parameter, c);
  r.mean = read_element(running_mean_.data(), parameter, at);
  r.inv_std = 1 / std::sqrt(Real{read_element(running_var_.data(), parameter, at)} + Real{kEpsilon});
  if (uses_batch_statistics(row_)) batch_statistics(r);
  if (row_.renorm) {
    r.r = read_element(renorm_r_.data(), Dtype::f64, at);
    r.d = read_element(renorm_d_.data(), Dtype::f64, at);
    r.shift += r.scale * r.d;
    r.scale *= r.r;
  }
  if (row_.from_output) take_from_output(row_, r);
  return r;
}

void Case::verify_forward(int64_t g, int64_t c, double running_mean_before) const {
  const Channel channel = channel_at(g, c);
  const int64_t at = g * row_.shape.channels + c;
  if (row_.operation == Operation::moments) return check_moments(row_, channel, partial_at(row_, partials_, g, c), c);
  if (row_.operation == Operation::train)
    check_trained(row_, channel,
                  {read_element(mean_.data(), Dtype::f64, at), read_element(inv_std_.data(), Dtype::f64, at),
                   read_element(running_mean_.data(), parameter_dtype(row_), at)},
                  running_mean_before, c);
  const std::vector<Real> y = gather(row_, sets_.front().y, row_.output_dtype, g, c);
  if (row_.operation == Operation::fold)
    return check_folded(row_, channel, y, read_element(dshift_.data(), parameter_dtype(row_), c), c);
  check_forward(row_, channel, y, c);
}

void Case::verify_backward(int64_t c) const {
  const TensorSet& set = sets_.front();
  GradientSums total;
  for (int64_t g = 0; g < row_.groups; ++g) {
    const Channel channel = channel_at(g, c);
    std::vector<Real> dz, dz_error;
    const GradientSums sums = gradient(row_, channel, dz, dz_error);
    if (row_.operation == Operation::sums) check_sums(row_, channel, sums, partial_at(row_, partials_, g, c), c);
    if (set.dx.bytes() > 0) check_dx(row_, channel, sums, dz, dz_error, gather(row_, set.dx, row_.dtype, g, c), c);
    if (set.dresidual.bytes() > 0)
      check_dresidual(row_, dz, dz_error, gather(row_, set.dresidual, row_.output_dtype, g, c), c);
    total.add(sums, channel, static_cast<Real>(row_.ranks));
  }
  if (row_.operation == Operation::sums || row_.gradients == Gradients::dx) return;
  const Dtype parameter = parameter_dtype(row_);
  check_param_gradients(row_, total, read_element(dscale_.data(), parameter, c),
                        read_element(dshift_.data(), parameter, c), c);
}

void Case::verify() {
  const int64_t channels = row_.shape.channels, samples = std::min<int64_t>(channels, 8);
  std::vector<double> running_before;
  for (int64_t at = 0; at < row_.groups * channels; ++at)
    running_before.push_back(read_element(running_mean_.data(), parameter_dtype(row_), at));
  spoil_outputs();
  call_once();
  for (int64_t k = 0; k < samples; ++k) {
    const int64_t c = sample_position(k, samples, channels);
    if (reads_dy(row_)) {
      verify_backward(c);
      continue;
    }
    for (int64_t g = 0; g < row_.groups; ++g)
      verify_forward(g, c, running_before[static_cast<size_t>(g * channels + c)]);
  }
}

}  // namespace bnorm_bench
