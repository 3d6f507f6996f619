// SPDX-License-Identifier: Apache-2.0
// f32 mean and variance against the exact statistics of the same numbers: within 0.51 units in the last place (of the
// mean: of max(|mean|, std)) in every channel, and correctly rounded in 99.9 % of them, on every ISA and family.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "exact.hh"
#include "isas.hh"
#include "options.hh"
#include "plan.hh"
#include "random.hh"

namespace bnorm_tests::test_accuracy {
namespace {

constexpr double kMostUlp = 0.51;
constexpr double kCorrectlyRounded = 0.999;

/// `channels` channels of `count` numbers each: value(random, c, i).
struct Data {
  std::string name;
  int64_t channels, count;
  std::function<float(Random&, int64_t, int64_t)> value;
};

/// Numbers by channel, and their exact statistics.
struct Sample {
  std::vector<float> x;  // [channels][count]
  std::vector<Rational> mean, var, mean_scale;
};

Sample draw(const Data& data) {
  Sample r;
  r.x.reserve(static_cast<size_t>(data.channels * data.count));
  for (int64_t c = 0; c < data.channels; ++c) {
    Random random(static_cast<uint64_t>(c) + 17);
    ExactMoments<float> exact;
    for (int64_t i = 0; i < data.count; ++i) {
      r.x.push_back(data.value(random, c, i));
      exact.add(r.x.back());
    }
    r.mean.push_back(exact.mean());
    r.var.push_back(exact.var());
    // std only sets a scale: its f64 value will do.
    const Rational size = abs(r.mean.back()), std = exactly(std::sqrt(r.var.back().convert_to<double>()));
    r.mean_scale.push_back(size < std ? std : size);
  }
  return r;
}

/// How a channel's numbers are arranged: `spatial` positions a sample.
struct Arrangement {
  int64_t spatial;
  bnorm_layout layout;
};

std::vector<float> arrange(const Sample& sample, const Data& data, const Arrangement& a) {
  if (a.layout == BNORM_PLANAR && a.spatial == data.count) return sample.x;
  std::vector<float> r(sample.x.size());
  for (int64_t c = 0; c < data.channels; ++c)
    for (int64_t i = 0; i < data.count; ++i) {
      const int64_t n = i / a.spatial, s = i % a.spatial;
      const int64_t at = a.layout == BNORM_PLANAR ? (n * data.channels + c) * a.spatial + s : i * data.channels + c;
      r[static_cast<size_t>(at)] = sample.x[static_cast<size_t>(c * data.count + i)];
    }
  return r;
}

struct Statistics32 {
  std::vector<float> mean, var;
};

/// Batch mean and biased variance as f32: running statistics that take the whole of the new batch.
Statistics32 statistics(const std::vector<float>& x, const Data& data, const Arrangement& a) {
  bnorm_desc desc = BNORM_DESC_INIT;
  desc.channels = data.channels;
  desc.batch = data.count / a.spatial;
  desc.spatial = a.spatial;
  desc.biased_running_var = 1;
  REQUIRE(bnorm_desc_set_layout(&desc, a.layout) == BNORM_OK);
  const PlanPointer plan = make_plan(desc);
  std::vector<double> moments(bnorm_plan_partials_count(plan.get()));
  bnorm_train_args in = BNORM_TRAIN_ARGS_INIT;
  in.x = x.data();
  REQUIRE(bnorm_moments(plan.get(), &in, moments.data()) == BNORM_OK);
  Statistics32 r{std::vector<float>(static_cast<size_t>(data.channels)), r.mean};
  bnorm_train_args out = BNORM_TRAIN_ARGS_INIT;
  out.running_mean = r.mean.data();
  out.running_var = r.var.data();
  out.average_factor = 1;
  REQUIRE(bnorm_moments_finalize(plan.get(), moments.data(), &out) == BNORM_OK);
  return r;
}

/// Statistics seen so far, and how many of them were the nearest float.
struct Tally {
  int64_t all = 0, nearest = 0;
  double worst = 0;

  void take(float result, const Rational& exact, const Rational& scale) {
    const double error = error_in_ulp(result, exact, scale);
    CHECK(error <= kMostUlp);
    worst = std::max(worst, error);
    ++all;
    // The mean of a channel whose deviation is larger has digits below that scale, which are not promised.
    nearest += scale == abs(exact) ? correctly_rounded(result, exact) : error <= 0.5;
  }
  void check() const {
    MESSAGE(all, " statistics, of which ", all - nearest, " not the nearest float; worst error ", worst, " ulp");
    CHECK(static_cast<double>(nearest) >= kCorrectlyRounded * static_cast<double>(all));
  }
};

void check_data(const Data& data, const std::vector<Arrangement>& arrangements, Tally& tally) {
  const Sample sample = draw(data);
  for (const Arrangement& a : arrangements) {
    const std::vector<float> x = arrange(sample, data, a);
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      const Statistics32 r = statistics(x, data, a);
      for (size_t c = 0; c < r.mean.size(); ++c) {
        INFO(data.name, ", count ", data.count, ", spatial ", a.spatial, a.layout == BNORM_PLANAR ? " planar" : " last",
             ", channel ", c, " on ", isa);
        tally.take(r.mean[c], sample.mean[c], sample.mean_scale[c]);
        tally.take(r.var[c], sample.var[c], sample.var[c]);
      }
    }
  }
}

/// One long row, samples of 7 and of 49 positions, and no positions at all: every family and order of reduction.
std::vector<Arrangement> arrangements(int64_t count) {
  std::vector<Arrangement> r;
  for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST})
    for (const int64_t spatial : {count, int64_t{49}, int64_t{7}, int64_t{1}})
      if (count % spatial == 0) r.push_back({spatial, layout});
  return r;
}

float normal(Random& random, double mu, double sigma) { return static_cast<float>(mu + sigma * random.normal()); }

std::vector<Data> kinds(int64_t channels, int64_t count) {
  std::vector<Data> r;
  for (const double mu : {0.0, 1.0, 60.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7})
    r.push_back({"N(" + std::to_string(mu) + ", 1)", channels, count,
                 [=](Random& random, int64_t, int64_t) { return normal(random, mu, 1); }});
  r.push_back({"2^e + k/4", 22, count, [](Random& random, int64_t c, int64_t) {
                 return static_cast<float>(std::ldexp(1.0, static_cast<int>(c)) +
                                           static_cast<double>(random.below(8)) / 4);
               }});
  r.push_back({"sorted", channels, count, [=](Random& random, int64_t, int64_t i) {
                 return static_cast<float>(i) + static_cast<float>(random.uniform());
               }});
  r.push_back({"alternating in sign", channels, count,
               [](Random& random, int64_t, int64_t i) { return normal(random, i % 2 == 0 ? 1e4 : -1e4, 1); }});
  r.push_back({"one outlier of 1e30 among ones", channels, count,
               [=](Random&, int64_t c, int64_t i) { return i == c * 97 % count ? 1e30f : 1.0f; }});
  r.push_back({"subnormal", channels, count, [](Random& random, int64_t, int64_t) {
                 return static_cast<float>(random.below(2000)) * std::numeric_limits<float>::denorm_min();
               }});
  r.push_back({"largest finite", channels, count, [](Random& random, int64_t c, int64_t) {
                 const float largest = std::numeric_limits<float>::max();
                 return (c % 2 == 0 && random.below(2) == 0 ? -1.0f : 1.0f) * largest *
                        static_cast<float>(1 - random.uniform() * 1e-3);
               }});
  r.push_back({"scales from 1e-15 to 1e16 side by side", 32, count, [](Random& random, int64_t c, int64_t) {
                 const double scale = std::pow(10.0, static_cast<double>(c) - 15);
                 return normal(random, scale * 3, scale);
               }});
  return r;
}

void check_kinds(int64_t channels, std::initializer_list<int64_t> counts) {
  Tally tally;
  for (const int64_t count : counts)
    for (const Data& data : kinds(channels, count)) check_data(data, arrangements(count), tally);
  tally.check();
}

}  // namespace

TEST_CASE("accuracy: mean and variance are the nearest float but for one channel in a thousand") {
  check_kinds(40, {49, 147, 1029, 4116});
}

TEST_SUITE("isa") {
  TEST_CASE("accuracy: likewise, small enough for an emulated CPU") { check_kinds(5, {49, 1029}); }

  TEST_CASE("accuracy: a constant channel has variance 0 and its own value for mean") {
    for (const int64_t count : {1, 2, 3, 7, 49, 1000, 1029})
      for (const Arrangement& a : arrangements(count)) {
        const Data data = {"constant", 40, count, [](Random&, int64_t c, int64_t) {
                             return std::ldexp(1.0f + static_cast<float>(c) / 64, static_cast<int>(c * 6) - 120);
                           }};
        const Sample sample = draw(data);
        const Statistics32 r = statistics(arrange(sample, data, a), data, a);
        for (size_t c = 0; c < r.mean.size(); ++c) {
          CHECK(r.mean[c] == sample.x[c * static_cast<size_t>(count)]);
          CHECK(r.var[c] == 0);
        }
      }
  }
}

TEST_CASE("accuracy: counts from 2 up") {
  Tally tally;
  const std::vector<int64_t> counts =
      options().full ? std::vector<int64_t>{10'000'000, 100'000'000} : std::vector<int64_t>{100'000, 1'000'000};
  const auto check = [&](int64_t channels, int64_t count) {
    for (const double mu : {0.0, 1e3, 1e7})
      check_data({"N(" + std::to_string(mu) + ", 1)", channels, count,
                  [=](Random& random, int64_t, int64_t) { return normal(random, mu, 1); }},
                 {{count, BNORM_PLANAR}, {1, BNORM_CHANNELS_LAST}}, tally);
  };
  for (int64_t count = 2; count <= 40; ++count) check(20, count);
  for (const int64_t count : {511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 10'000}) check(20, count);
  for (const int64_t count : counts) check(1, count);
  tally.check();
}

}  // namespace bnorm_tests::test_accuracy
