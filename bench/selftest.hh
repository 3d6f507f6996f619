#pragma once

namespace bnorm_bench {

/// Checks the bench on tiny shapes: calls, twin, JSON, peers, bad input. Prints what fails; returns the exit code.
int run_selftest();

}  // namespace bnorm_bench
