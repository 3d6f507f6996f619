// SPDX-License-Identifier: Apache-2.0
// What the formulas of the header give in long double, and how far a right implementation may be from it.
#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "problem.hh"

namespace bnorm_tests {

/// Expected values with the largest error allowed of each. Empty: not an output of the case.
struct Bounded {
  std::vector<long double> value, bound;
  void add(long double v, long double b) {
    value.push_back(v);
    bound.push_back(b);
  }
};

struct Expected {
  Bounded y, mean, inv_std, running_mean, running_var, dx, dresidual, dscale, dshift;
};

/// Of bnorm_infer and of bnorm_normalize after bnorm_prepare from running statistics.
Expected expect_infer(const Problem& problem);
/// Of bnorm_train. y is expected from the saved statistics of `actual` where it has them, as the header promises.
Expected expect_train(const Problem& problem, const Outputs& actual);
/// Of bnorm_backward, frozen or not.
Expected expect_backward(const Problem& problem);

/// "" if every output is within its bound, else the name of the output, its index, value, expectation and bound.
std::string violation(const Expected& expected, const Outputs& actual);

/// Whether an inv_std in f64 is within the two roundings of the inverse root (docs/numerics.md); sum > 0.
inline bool is_inverse_root(double inv_std, double sum) { return std::fabs(inv_std * std::sqrt(sum) - 1) <= 0x1p-51; }

/// Of the operation: one of the above.
Expected expect(Operation operation, const Problem& problem, const Outputs& actual);

}  // namespace bnorm_tests
