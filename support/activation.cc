// SPDX-License-Identifier: Apache-2.0
#include "activation.hh"

#include <cmath>

namespace bnorm_support {
namespace {

using Real = long double;

const Real kPi = std::acos(-1.0L);

Real logistic(Real z) { return z < 0 ? std::exp(z) / (1 + std::exp(z)) : 1 / (1 + std::exp(-z)); }
Real logistic_slope(Real z) { return std::exp(-std::fabs(z)) * std::pow(1 + std::exp(-std::fabs(z)), -2); }
Real below(Real z) { return std::erfc(-z / std::sqrt(2.0L)) / 2; }
Real density(Real z) { return std::exp(-z * z / 2) / std::sqrt(2 * kPi); }

const Real kTanhSlope = 2 * std::sqrt(2 / kPi);
Real twice_u(Real z) { return kTanhSlope * (z + 0.044715L * z * z * z); }
Real twice_u_slope(Real z) { return kTanhSlope * (1 + 3 * 0.044715L * z * z); }

// Roundoffs that the formulas of src/kernels/activations.inl.hh gather, each at most 2 for exp and one an operation.
constexpr Real kRoundoffs = 8;

/// z times a function of it; beyond these z products of infinities and zeros mean their limits.
Real times(Real z, Real share) { return share == 0 ? 0 : z * share; }

Activation piecewise(Real lower, Real upper, Real below_lower) {
  Activation a;
  a.value = [=](Real z) { return z < lower ? (below_lower == 0 ? lower : z * below_lower) : std::fmin(z, upper); };
  if (upper == HUGE_VALL)
    a.value = [=](Real z) { return z < lower ? (below_lower == 0 ? lower : z * below_lower) : z; };
  a.slope = a.slope_of_y = [=](Real z) { return z <= lower ? below_lower : (z >= upper ? 0 : 1); };
  a.value_error = a.slope_error =
      a.slope_of_y_error = [=](Real z) { return below_lower == 0 ? 0 : 2 * std::fabs(z) + 2; };
  a.slope_jump = [=](Real z, Real reach) {
    return std::fabs(z - lower) <= reach || std::fabs(z - upper) <= reach ? std::fmax(1.0L, std::fabs(1 - below_lower))
                                                                          : 0;
  };
  a.steepest = std::fmax(1.0L, below_lower);
  return a;
}

/// A smooth one whose errors are relative to `value_size` and `slope_size`.
Activation smooth(Activation::Function value, Activation::Function slope, const Activation::Function& value_size,
                  const Activation::Function& slope_size) {
  Activation a;
  a.value = std::move(value);
  a.slope = std::move(slope);
  a.value_error = [=](Real z) { return kRoundoffs * value_size(z); };
  a.slope_error = [=](Real z) { return kRoundoffs * slope_size(z); };
  a.slope_jump = [](Real, Real) { return 0.0L; };
  a.steepest = 1.13L;       // of GELU, at sqrt(2)
  a.steepest_slope = 1.1L;  // of GELU at 0, 2 / sqrt(2 pi); tanh 0.77
  a.y_tells = false;
  return a;
}

void tell_by_y(Activation& a, const Activation::Function& slope_of_y) {
  a.y_tells = true;
  a.slope_of_y = slope_of_y;
  a.slope_of_y_error = [=](Real y) { return kRoundoffs * (std::fabs(slope_of_y(y)) + std::fabs(y)); };
}

Activation elu(Real alpha) {
  const auto slope = [=](Real z) { return z > 0 ? 1 : alpha * std::exp(z); };
  const auto value = [=](Real z) { return z > 0 ? z : alpha * std::expm1(z); };
  Activation a = smooth(
      value, slope, [=](Real z) { return std::fabs(value(z)); }, slope);
  // Of alpha = 1 the slope is continuous, but not its own slope.
  a.slope_jump = [=](Real z, Real reach) { return std::fabs(z) <= reach ? std::fabs(1 - alpha) + reach : 0; };
  a.steepest = a.steepest_slope = std::fmax(1.0L, alpha);
  tell_by_y(a, [=](Real y) { return y > 0 ? 1 : y + alpha; });
  return a;
}

Activation sigmoid() {
  Activation a = smooth(logistic, logistic_slope, logistic, logistic_slope);
  tell_by_y(a, [](Real y) { return y * (1 - y); });
  return a;
}

Activation tanh() {
  const auto value = [](Real z) { return std::tanh(z); };
  const auto slope = [](Real z) { return 4 * logistic_slope(2 * z); };
  Activation a = smooth(
      value, slope, [=](Real z) { return std::fabs(value(z)); }, slope);
  tell_by_y(a, [](Real y) { return (1 - y) * (1 + y); });
  return a;
}

Activation silu() {
  const auto value = [](Real z) { return times(z, logistic(z)); };
  return smooth(
      value, [](Real z) { return logistic(z) + times(z, logistic_slope(z)); },
      [=](Real z) { return std::fabs(value(z)); },
      [](Real z) { return logistic(z) + times(std::fabs(z), logistic_slope(z)); });
}

Activation hard_swish() {
  const auto value = [](Real z) { return times(z, std::fmin(std::fmax(z + 3, 0.0L), 6.0L) / 6); };
  const auto slope = [](Real z) { return z <= -3 ? 0 : (z >= 3 ? 1 : (2 * z + 3) / 6); };
  // z + 3 is rounded near -3: an error of 3 roundoffs of z, not of the value.
  Activation a = smooth(
      value, slope, [=](Real z) { return z < -4 ? 0 : std::fabs(value(z)) + 0.5L; },
      [](Real z) { return z < -4 ? 0 : std::fmin(std::fabs(z) / 3, 1.0L) + 0.5L; });
  a.steepest = 1.5L;
  a.slope_jump = [](Real z, Real reach) {
    return std::fabs(z - 3) <= reach || std::fabs(z + 3) <= reach ? 0.5L : 0.0L;
  };
  return a;
}

Activation gelu() {
  const auto value = [](Real z) { return times(z, below(z)); };
  return smooth(
      value, [](Real z) { return below(z) + times(z, density(z)); }, [=](Real z) { return std::fabs(value(z)); },
      [](Real z) { return below(z) + times(std::fabs(z), density(z)); });
}

Activation gelu_tanh() {
  const auto value = [](Real z) { return times(z, logistic(twice_u(z))); };
  // The rounding of 2 u is one of the exponent.
  const auto spread = [](Real z) { return 1 + std::fmin(std::fabs(twice_u(z)), 800.0L); };
  const auto steep = [](Real z) { return times(std::fabs(z) * twice_u_slope(z), logistic_slope(twice_u(z))); };
  return smooth(
      value, [](Real z) { return logistic(twice_u(z)) + times(z * twice_u_slope(z), logistic_slope(twice_u(z))); },
      [=](Real z) { return std::fabs(value(z)) * spread(z); },
      [=](Real z) { return (logistic(twice_u(z)) + steep(z)) * spread(z); });
}

}  // namespace

Activation activation(const bnorm_desc& d) {
  switch (d.activation) {
    case BNORM_RELU:
      return piecewise(0, HUGE_VALL, 0);
    case BNORM_CLIP:
      return piecewise(d.clip_lower, d.clip_upper, 0);
    case BNORM_LEAKY_RELU:
      return piecewise(0, HUGE_VALL, d.leaky_slope);
    case BNORM_ELU:
      return elu(d.elu_alpha);
    case BNORM_SIGMOID:
      return sigmoid();
    case BNORM_TANH:
      return tanh();
    case BNORM_SILU:
      return silu();
    case BNORM_HARD_SWISH:
      return hard_swish();
    case BNORM_GELU:
      return gelu();
    case BNORM_GELU_TANH:
      return gelu_tanh();
    default:
      return piecewise(-HUGE_VALL, HUGE_VALL, 0);
  }
}

}  // namespace bnorm_support
