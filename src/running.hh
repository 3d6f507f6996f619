// SPDX-License-Identifier: Apache-2.0
// The update of the running statistics.
#pragma once
#include "validate.hh"

namespace bnorm {

/// Moments of every group: counts, and mean and M2 of group g at [g * stride + c].
struct GroupMoments {
  const double* count;   // [G], or one count for all groups
  const double* square;  // likewise, of weights: the sum of their squares; NULL: not needed
  bool one_count;
  const double* mean;
  const double* m2;
  int64_t stride;

  double count_of(int64_t g) const { return count[one_count ? 0 : g]; }
  double square_of(int64_t g) const { return square ? square[one_count ? 0 : g] : 0; }
};

/// Updates call.running_mean and call.running_var as the descriptor says. BNORM_NONFINITE if the guard held back some.
bnorm_status update_running(const Plan& plan, Call& call, const GroupMoments& moments);

}  // namespace bnorm
