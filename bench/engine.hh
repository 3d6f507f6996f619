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
  /// Those of a field compete for being its best; "": none to compete with. Whose median after so many rounds is more
  /// than 3 times the best one's has no hope, and is out.
  std::string field = {};
  size_t least_rounds = 0;
};

/// Samples of one contestant: nanoseconds per call, one for each round that it took part in, from the first on.
using Samples = std::vector<double>;

/// Times the contestants in each of `rounds` rounds, in an order drawn anew, each sample at least `sample_seconds` or
/// one call long. What slows the machine for a while then slows all of them. Throws what a body throws.
std::vector<Samples> paired_rounds(const std::vector<Contestant>& contestants, int rounds, double sample_seconds);

/// Over the rounds that both have, numerator / denominator.
Spread paired_ratio(const Samples& numerator, const Samples& denominator);

}  // namespace bnorm_bench
