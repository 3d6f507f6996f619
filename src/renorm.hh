// SPDX-License-Identifier: Apache-2.0
// Batch renormalization: r and d, which lead from batch to running statistics, and what they make of scale and shift.
#pragma once
#include <cmath>

#include "validate.hh"

namespace bnorm {

/// 1 / sqrt(var + epsilon), root and quotient each rounded; 0 where the sum is 0.
inline double inverse_std(double var, double epsilon) {
  const double sum = var + epsilon;
  return sum == 0 ? 0 : 1 / std::sqrt(sum);
}

/// r and d of channels [c, c + channels) of group g, rounded to stats_type, from the batch statistics as saved. `count`
/// is that of the values they are from.
void renorm_corrections(const Plan& plan, const Call& call, double count, int64_t g, int64_t c, int64_t channels,
                        const double* mean, const double* inv_std, double* r, double* d);

/// scale and shift, or with r and d (NULL: none) scale * r and shift + scale * d, which stand for them from then on.
void load_affine(const Plan& plan, const Call& call, int64_t g, int64_t c, int64_t channels, const double* r,
                 const double* d, double* scale, double* shift);

}  // namespace bnorm
