// SPDX-License-Identifier: Apache-2.0
// The recipes of docs/statistics.md: population statistics over batches, and gradients over micro-batches.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <cmath>
#include <iterator>
#include <vector>

#include "plan.hh"
#include "random.hh"
#include "split_batch.hh"

namespace bnorm_tests::test_population {
namespace {

constexpr int64_t kChannels = 5, kSpatial = 6, kMost = 40;
constexpr int64_t kSample = kChannels * kSpatial;
constexpr int64_t kBatches[] = {40, 1, 17, 33};

PlanPointer plan_of(int64_t batch) {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = batch;
  d.channels = kChannels;
  d.spatial = kSpatial;
  return make_plan(d);
}

std::vector<float> make_samples(int64_t samples, uint64_t seed, double mean) {
  Random random(seed);
  return normals<float>(random, samples * kSample, mean);
}

int64_t all_samples() {
  int64_t n = 0;
  for (const int64_t batch : kBatches) n += batch;
  return n;
}

struct Statistics {
  long double mean = 0, var = 0;  // unbiased
};

/// Of channel c in samples [n0, n1).
Statistics statistics_of(const std::vector<float>& x, int64_t n0, int64_t n1, int64_t c) {
  const auto at = [&](int64_t n, int64_t s) {
    return static_cast<long double>(x[static_cast<size_t>(n * kSample + c * kSpatial + s)]);
  };
  const auto count = static_cast<long double>((n1 - n0) * kSpatial);
  Statistics r;
  for (int64_t n = n0; n < n1; ++n)
    for (int64_t s = 0; s < kSpatial; ++s) r.mean += at(n, s) / count;
  for (int64_t n = n0; n < n1; ++n)
    for (int64_t s = 0; s < kSpatial; ++s) r.var += (at(n, s) - r.mean) * (at(n, s) - r.mean) / (count - 1);
  return r;
}

void check_close(float actual, long double expected, double roundings) {
  CHECK(std::fabs(static_cast<double>(actual - expected)) <= roundings * 0x1p-24 * static_cast<double>(expected));
}

}  // namespace

TEST_CASE("population: the average of batch statistics") {
  const std::vector<float> x = make_samples(all_samples(), 5, 1000);
  const PlanPointer plan = plan_of(kMost);
  std::vector<float> y(x.size()), mean(kChannels, -9), var(kChannels, NAN);
  Statistics expected[kChannels];
  int64_t n = 0, k = 0;
  for (const int64_t batch : kBatches) {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.batch = batch;
    a.x = x.data() + n * kSample;
    a.y = y.data();
    a.running_mean = mean.data();
    a.running_var = var.data();
    a.average_factor = 1 / static_cast<double>(k + 1);
    REQUIRE(bnorm_train(plan.get(), &a) == BNORM_OK);
    for (int64_t c = 0; c < kChannels; ++c) {
      const Statistics s = statistics_of(x, n, n + batch, c);
      expected[c].mean += s.mean / 4;
      expected[c].var += s.var / 4;
    }
    n += batch;
    ++k;
  }
  for (int64_t c = 0; c < kChannels; ++c) {
    // One rounding to f32 a batch.
    check_close(mean[static_cast<size_t>(c)], expected[c].mean, 4);
    check_close(var[static_cast<size_t>(c)], expected[c].var, 8);
  }
}

TEST_CASE("population: exact pooled statistics") {
  const std::vector<float> x = make_samples(all_samples(), 6, 1000);
  const PlanPointer plan = plan_of(kMost);
  const size_t count = bnorm_plan_partials_count(plan.get());
  std::vector<double> pooled(count), moments(count);
  int64_t n = 0;
  for (const int64_t batch : kBatches) {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.batch = batch;
    a.x = x.data() + n * kSample;
    REQUIRE(bnorm_moments(plan.get(), &a, moments.data()) == BNORM_OK);
    const double* const parts[] = {pooled.data(), moments.data()};
    REQUIRE(bnorm_moments_merge(plan.get(), 2, parts, pooled.data(), nullptr) == BNORM_OK);
    n += batch;
  }
  std::vector<float> mean(kChannels, -9), var(kChannels, NAN);
  bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
  a.running_mean = mean.data();
  a.running_var = var.data();
  a.average_factor = 1;
  REQUIRE(bnorm_moments_finalize(plan.get(), pooled.data(), &a) == BNORM_OK);
  for (int64_t c = 0; c < kChannels; ++c) {
    const Statistics expected = statistics_of(x, 0, n, c);
    // One rounding to f32, and what f64 leaves.
    check_close(mean[static_cast<size_t>(c)], expected.mean, 1 + 0x1p-10);
    check_close(var[static_cast<size_t>(c)], expected.var, 1 + 0x1p-10);
  }
}

namespace {

/// Every element within `bound` of the other's.
void check_near(const std::vector<float>& a, const std::vector<float>& b, double bound) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(static_cast<double>(a[i]) - b[i]) <= bound);
}

}  // namespace

TEST_CASE("population: micro-batches have the statistics and gradients of their batch") {
  for (const int64_t groups : {1, 2})
    for (const bool fused : {false, true})
      for (const bnorm_weighting weighting : {BNORM_UNWEIGHTED, BNORM_FREQUENCY_WEIGHTS, BNORM_RELIABILITY_WEIGHTS}) {
        INFO("groups ", groups, " residual and ReLU ", fused, " weighting ", weighting);
        Split split;
        split.shape = {groups, all_samples(), kChannels, kSpatial};
        split.parts.assign(std::begin(kBatches), std::end(kBatches));
        split.fused = split.scaled = fused;
        split.weighting = weighting;
        split.mode = BNORM_RUNNING_MEAN;
        split.mean = 3;
        const SplitBatch batch(split);
        const SplitBatch::Results whole = batch.in_one_call(), parts = batch.in_parts();
        // Parts that are no whole blocks: f64 sums in another order, each result rounded once.
        for (size_t i = 0; i < whole.mean.size(); ++i) {
          CHECK(std::fabs(parts.mean[i] - whole.mean[i]) <= 1e-14);
          CHECK(std::fabs(parts.inv_std[i] - whole.inv_std[i]) <= 1e-14);
        }
        for (size_t c = 0; c < kChannels; ++c) {
          CHECK(std::fabs(parts.dscale[c] - whole.dscale[c]) <= 0x1p-23 * std::fabs(whole.dscale[c]));
          CHECK(std::fabs(parts.dshift[c] - whole.dshift[c]) <= 0x1p-23 * std::fabs(whole.dshift[c]));
        }
        check_near(parts.running_mean, whole.running_mean, 0x1p-22);
        check_near(parts.running_var, whole.running_var, 0x1p-22);
        check_near(parts.y, whole.y, 1e-6);
        check_near(parts.dx, whole.dx, 1e-6);
      }
}

}  // namespace bnorm_tests::test_population
