// Google Benchmark as the timer of paired rounds.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "row.hh"

namespace benchmark {
class State;
}

namespace bnorm_bench {

/// Something to time: a body with the usual loop over its state.
struct Contestant {
  std::string name;
  std::function<void(benchmark::State&)> body;
  /// The body reports its own time per iteration (a peer in a process of its own), one iteration a sample.
  bool times_itself = false;
  /// Leaves the field if the first sample is more than 3 times that of the best one of its kind.
  bool may_drop_out = false;
};

/// Samples of one contestant: nanoseconds per call, one a round; none if it dropped out.
using Samples = std::vector<double>;

/// Times the contestants in turn, A B C A B C ..., `rounds` times, each sample at least `sample_seconds` or one call
/// long. What slows the machine for a while then slows all of them. Throws what a body throws.
std::vector<Samples> paired_rounds(const std::vector<Contestant>& contestants, int rounds, double sample_seconds);

/// Over rounds, numerator / denominator.
Spread paired_ratio(const Samples& numerator, const Samples& denominator);

}  // namespace bnorm_bench
