// SPDX-License-Identifier: Apache-2.0
// Weights of positions: where not every value counts 1.
#pragma once
#include "run.hh"

namespace bnorm {

/// Makes weights of lengths, where those were given, in the workspace.
void make_weights(const Run& run);
/// Makes weights and sums them over all blocks and groups, into the workspace. False if the executor broke its
/// contract. Without weights it does nothing.
bool sum_weights(const Run& run);

/// What M2 is divided by for the running variance of values that count `count` in all; `square` is the sum of the
/// squares of their weights.
double variance_divisor(const bnorm_desc& desc, double count, double square);

}  // namespace bnorm
