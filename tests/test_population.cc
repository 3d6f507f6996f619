// SPDX-License-Identifier: Apache-2.0
// The recipes of docs/statistics.md: population statistics over batches, and gradients over micro-batches.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "plan.hh"
#include "random.hh"

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

/// A batch in one call, and in micro-batches; of several groups each takes its part of every micro-batch.
struct Accumulation {
  int64_t groups = 1;
  bool fused = false;  // a residual and ReLU
  bnorm_weighting weighting = BNORM_UNWEIGHTED;
};

class Accumulated {
 public:
  struct Results {
    std::vector<double> mean, inv_std;
    std::vector<float> y, dx, dscale = std::vector<float>(kChannels), dshift = dscale;
    std::vector<float> running_mean = std::vector<float>(kChannels, 1), running_var = running_mean;
  };

  explicit Accumulated(const Accumulation& kind) : kind_(kind), samples_(all_samples()) {
    x_ = make_samples(kind.groups * samples_, 7, 3);
    dy_ = make_samples(kind.groups * samples_, 8, 0);
    residual_ = make_samples(kind.groups * samples_, 9, 0);
    Random random(10);
    for (int64_t i = 0; kind.weighting && i < kind.groups * samples_ * kSpatial; ++i)
      weights_.push_back(static_cast<float>(random.below(4)));
    large_ = plan(samples_);
    // The weights of several groups are as far apart as the plan's batch says.
    micro_ = plan(kind.weighting && kind.groups > 1 ? samples_ : kMost);
  }

  Results in_one_call() const {
    Results r = empty();
    bnorm_train_args t = train_args(0, samples_);
    t.y = r.y.data();
    if (kind_.fused) t.residual = residual_.data();
    write_statistics(t, r);
    REQUIRE(bnorm_train(large_.get(), &t) == BNORM_OK);
    bnorm_backward_args b = backward_args(r, 0, samples_);
    write_gradients(b, r, 0);
    REQUIRE(bnorm_backward(large_.get(), &b) == BNORM_OK);
    return r;
  }

  Results in_parts() const {
    Results r = empty();
    const std::vector<double> moments = merged(bnorm_moments_merge, [&](int64_t n, int64_t batch, double* to) {
      const bnorm_train_args a = train_args(n, batch);
      return bnorm_moments(micro_.get(), &a, to);
    });
    bnorm_train_args f = BNORM_TRAIN_ARGS_INIT;
    write_statistics(f, r);
    REQUIRE(bnorm_moments_finalize(micro_.get(), moments.data(), &f) == BNORM_OK);
    std::vector<double> coefficients(bnorm_plan_coefficients_size(micro_.get()) / sizeof(double));
    bnorm_prepare_args p = BNORM_PREPARE_ARGS_INIT;
    p.mean = r.mean.data();
    p.inv_std = r.inv_std.data();
    REQUIRE(bnorm_prepare(micro_.get(), &p, coefficients.data()) == BNORM_OK);
    each_micro_batch([&](int64_t n, int64_t batch) {
      bnorm_normalize_args a = BNORM_NORMALIZE_ARGS_INIT;
      a.batch = batch;
      a.x = x_.data() + n * kSample;
      a.y = r.y.data() + n * kSample;
      if (kind_.fused) a.residual = residual_.data() + n * kSample;
      a.coefficients = coefficients.data();
      REQUIRE(bnorm_normalize(micro_.get(), &a) == BNORM_OK);
    });
    const std::vector<double> sums = merged(bnorm_sums_merge, [&](int64_t n, int64_t batch, double* to) {
      const bnorm_backward_args b = backward_args(r, n, batch);
      return bnorm_backward_sums(micro_.get(), &b, to);
    });
    each_micro_batch([&](int64_t n, int64_t batch) {
      bnorm_backward_args b = backward_args(r, n, batch);
      write_gradients(b, r, n);
      REQUIRE(bnorm_backward_apply(micro_.get(), &b, sums.data()) == BNORM_OK);
    });
    return r;
  }

 private:
  PlanPointer plan(int64_t batch) const {
    bnorm_desc d = BNORM_DESC_INIT;
    d.groups = kind_.groups;
    d.batch = batch;
    d.channels = kChannels;
    d.spatial = kSpatial;
    d.x = {samples_ * kSample, kSample, kSpatial, 1};
    d.y = d.residual = d.dx = d.dy = d.dresidual = d.x;
    d.residual_added = kind_.fused;
    d.activation = kind_.fused ? BNORM_RELU : BNORM_IDENTITY;
    d.weighting = kind_.weighting;
    d.running_mode = BNORM_RUNNING_MEAN;
    return make_plan(d);
  }
  Results empty() const {
    Results r;
    r.mean.resize(static_cast<size_t>(kind_.groups * kChannels));
    r.inv_std = r.mean;
    r.y.resize(x_.size());
    r.dx = r.y;
    return r;
  }
  template <class Visit>
  static void each_micro_batch(Visit visit) {
    int64_t n = 0;
    for (const int64_t batch : kBatches) {
      visit(n, batch);
      n += batch;
    }
  }
  /// part(n, batch, partials) for all micro-batches; their merged partials.
  template <class Merge, class Part>
  std::vector<double> merged(Merge merge, Part part) const {
    std::vector<std::vector<double>> partials;
    std::vector<const double*> pointers;
    each_micro_batch([&](int64_t n, int64_t batch) {
      partials.emplace_back(bnorm_plan_partials_count(micro_.get()));
      REQUIRE(part(n, batch, partials.back().data()) == BNORM_OK);
    });
    for (const auto& p : partials) pointers.push_back(p.data());
    REQUIRE(merge(micro_.get(), static_cast<int64_t>(pointers.size()), pointers.data(), partials[0].data(), nullptr) ==
            BNORM_OK);
    return partials[0];
  }
  const float* weights(int64_t n) const { return weights_.empty() ? nullptr : weights_.data() + n * kSpatial; }
  bnorm_train_args train_args(int64_t n, int64_t batch) const {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.batch = batch;
    a.x = x_.data() + n * kSample;
    a.weights = weights(n);
    return a;
  }
  static void write_statistics(bnorm_train_args& a, Results& r) {
    a.mean = r.mean.data();
    a.inv_std = r.inv_std.data();
    a.running_mean = r.running_mean.data();
    a.running_var = r.running_var.data();
  }
  bnorm_backward_args backward_args(const Results& r, int64_t n, int64_t batch) const {
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    b.batch = batch;
    b.x = x_.data() + n * kSample;
    b.dy = dy_.data() + n * kSample;
    if (kind_.fused) b.y = r.y.data() + n * kSample;
    b.mean = r.mean.data();
    b.inv_std = r.inv_std.data();
    b.weights = weights(n);
    return b;
  }
  static void write_gradients(bnorm_backward_args& b, Results& r, int64_t n) {
    b.dx = r.dx.data() + n * kSample;
    b.dscale = r.dscale.data();
    b.dshift = r.dshift.data();
  }

  Accumulation kind_;
  int64_t samples_;
  std::vector<float> x_, dy_, residual_, weights_;
  PlanPointer large_, micro_;
};

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
        const Accumulated batch({groups, fused, weighting});
        const Accumulated::Results whole = batch.in_one_call(), parts = batch.in_parts();
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
