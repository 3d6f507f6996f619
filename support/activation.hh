// SPDX-License-Identifier: Apache-2.0
// Shared by tests and bench: activations and their derivatives in long double, and what errors bnorm may make in them
// (docs/numerics.md, "Activations"): in units of the roundoff of the arithmetic type, times 1 + its second order.
#pragma once
#include <bnorm/bnorm.h>

#include <functional>

namespace bnorm_support {

struct Activation {
  using Function = std::function<long double(long double)>;
  Function value, slope, slope_of_y;                    // slope: the derivative by z
  Function value_error, slope_error, slope_of_y_error;  // in roundoffs
  long double steepest = 1, steepest_slope = 0;         // largest |slope|, and slope of the slope between kinks
  bool y_tells = true;                                  // the derivative, by slope_of_y
  std::function<long double(long double, long double)> slope_jump;  // (z, reach): of slope at kinks as near as reach
};

/// That of a descriptor.
Activation activation(const bnorm_desc& desc);

}  // namespace bnorm_support
