// SPDX-License-Identifier: Apache-2.0
// Normalization folded into the layer before or behind it.
#pragma once
#include "validate.hh"

namespace bnorm {

bnorm_status run_fold(const Plan& plan, Call& call, const Layer& layer);

}  // namespace bnorm
