#include "engine.hh"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <string>

#include "data.hh"

namespace bnorm_bench {
namespace {

// On a busy machine times can be off by a factor of two, hopeless ways to the floor are slower than that: a thread too
// many on a call of a microsecond, non-temporal stores to what is in L1.
constexpr double kHopeless = 3;

struct Sample {
  double ns;
  int64_t iterations;
};

/// Why a run failed, by the names before and since Google Benchmark 1.8; NULL: it did not.
template <class Run>
const std::string* error_of(const Run& run) {
  if constexpr (requires { run.error_occurred; })
    return run.error_occurred ? &run.error_message : nullptr;
  else
    return run.skipped ? &run.skip_message : nullptr;
}

/// Keeps the samples instead of printing them.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (const std::string* error = error_of(run)) throw std::runtime_error(run.benchmark_name() + ": " + *error);
      samples.push_back({run.real_accumulated_time / static_cast<double>(run.iterations) * 1e9, run.iterations});
    }
  }
  std::vector<Sample> samples;
};

std::vector<Sample> run_registered() {
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector, nullptr, "all");
  return collector.samples;
}

benchmark::internal::Benchmark* register_one(const Contestant& contestant) {
  auto* registered = benchmark::RegisterBenchmark(contestant.name.c_str(), contestant.body);
  return contestant.times_itself ? registered->UseManualTime() : registered->UseRealTime();
}

/// One sample of each, long enough to tell how many iterations make a sample.
std::vector<Sample> calibrate(const std::vector<Contestant>& contestants, double sample_seconds) {
  benchmark::ClearRegisteredBenchmarks();
  for (const Contestant& contestant : contestants) {
    auto* registered = register_one(contestant);
    if (contestant.times_itself) {
      registered->Iterations(1);
    } else {
      registered->MinTime(sample_seconds);
    }
  }
  return run_registered();
}

/// Whether contestant i has had its least rounds and no hope of being the best of its field.
bool is_out(size_t i, const std::vector<Contestant>& contestants, const std::vector<Samples>& samples) {
  const Contestant& own = contestants[i];
  if (own.field.empty() || samples[i].size() < own.least_rounds) return false;
  double best = median(samples[i]);
  for (size_t k = 0; k < contestants.size(); ++k) {
    if (contestants[k].field == own.field) best = std::min(best, median(samples[k]));
  }
  return median(samples[i]) > kHopeless * best;
}

}  // namespace

std::vector<Samples> paired_rounds(const std::vector<Contestant>& contestants, int rounds, double sample_seconds) {
  const std::vector<Sample> first = calibrate(contestants, sample_seconds);
  std::vector<Samples> samples(contestants.size());
  std::vector<bool> out(contestants.size());
  std::mt19937 random(20150211);
  for (int round = 0; round < rounds; ++round) {
    std::vector<size_t> taking_part;
    for (size_t i = 0; i < contestants.size(); ++i) {
      out[i] = out[i] || is_out(i, contestants, samples);
      if (!out[i]) taking_part.push_back(i);
    }
    // Who comes first finds others' data in the caches, who follows on the same buffers does not: in a fixed order
    // the twins of 50x64x3136 took 0.67 of the time of a call that, 10 calls later, took as long as they.
    std::shuffle(taking_part.begin(), taking_part.end(), random);
    benchmark::ClearRegisteredBenchmarks();
    for (const size_t i : taking_part) register_one(contestants[i])->Iterations(first[i].iterations);
    const std::vector<Sample> sampled = run_registered();
    for (size_t k = 0; k < taking_part.size(); ++k) samples[taking_part[k]].push_back(sampled[k].ns);
  }
  benchmark::ClearRegisteredBenchmarks();
  return samples;
}

Spread paired_ratio(const Samples& numerator, const Samples& denominator) {
  std::vector<double> ratios;
  const size_t rounds = std::min(numerator.size(), denominator.size());
  for (size_t i = 0; i < rounds; ++i) ratios.push_back(numerator[i] / denominator[i]);
  std::sort(ratios.begin(), ratios.end());
  const size_t quarter = ratios.size() / 4;
  return {ratios[quarter], median(ratios), ratios[ratios.size() - 1 - quarter]};
}

}  // namespace bnorm_bench
