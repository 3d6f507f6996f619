// SPDX-License-Identifier: Apache-2.0
// The instruction sets this machine can be told to use.
#pragma once
#include <string>
#include <vector>

#include "support/isa_scope.hh"

namespace bnorm_tests {

using bnorm_support::IsaScope;

/// Names that BNORM_ISA accepts here, best first; those it refuses are printed once. With BNORM_EXPECT_ISA, which names
/// the best of an emulated CPU, that one alone: the others have runs of their own, natively or emulated.
const std::vector<std::string>& isas();

}  // namespace bnorm_tests
