// SPDX-License-Identifier: Apache-2.0
// Batch renormalization: the formulas of Ioffe 2017 (arXiv:1702.03275), its gradients by differences, and its parts.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "isas.hh"
#include "plan.hh"
#include "random.hh"
#include "refusal.hh"

namespace bnorm_tests::test_renorm {
namespace {

using Values = std::vector<double>;
constexpr double kEpsilon = 1e-3, kRMax = 1.5, kDMax = 0.5;

/// What groups share; kBlocks: blocks of 8 channels, which are groups inside.
enum class Sharing { kAll, kNothing, kBlocks };

/// A problem in f64, so that the formulas can be compared closely.
struct Renorm {
  Sharing sharing = Sharing::kAll;
  int64_t groups = 2, batch = 6, channels = 5, spatial = 7;
  bool channels_last = false;
  double r_max = kRMax, d_max = kDMax;
  Values x, dy, scale, shift, running_mean, running_var;

  explicit Renorm(Sharing s = Sharing::kAll) : sharing(s) {
    if (s == Sharing::kBlocks) groups = 1, channels = 16;
    Random random(11);
    x = normals<double>(random, groups * batch * channels * spatial, 1);
    dy = normals<double>(random, groups * batch * channels * spatial);
    const int64_t params = (s == Sharing::kNothing ? groups : 1) * channels;
    scale = normals<double>(random, params, 1, 0.2);
    shift = normals<double>(random, params, 0, 0.2);
    // Some corrections inside their limits, some beyond.
    running_mean = normals<double>(random, params, 1, 0.6);
    for (int64_t i = 0; i < params; ++i) running_var.push_back(0.3 + 0.7 * static_cast<double>(i % 6));
  }
  /// Of a group's channel in scale and the like.
  size_t param_at(int64_t g, int64_t c) const {
    return static_cast<size_t>((sharing == Sharing::kNothing ? g * channels : 0) + c);
  }
  size_t at(int64_t g, int64_t n, int64_t c, int64_t s) const {
    int64_t inner = channels_last ? s * channels + c : c * spatial + s;
    if (sharing == Sharing::kBlocks) inner = (c / 8 * spatial + s) * 8 + c % 8;
    return static_cast<size_t>((g * batch + n) * channels * spatial + inner);
  }
  size_t all() const { return static_cast<size_t>(groups * channels); }
  long double count() const { return static_cast<long double>(batch * spatial); }

  template <class Visit>
  void each(int64_t g, int64_t c, Visit visit) const {
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t s = 0; s < spatial; ++s) visit(at(g, n, c, s));
  }
  PlanPointer plan() const {
    bnorm_desc d = BNORM_DESC_INIT;
    d.data_type = BNORM_F64;
    d.groups = groups;
    d.batch = batch;
    d.channels = channels;
    d.spatial = spatial;
    d.running_mode = sharing == Sharing::kNothing ? BNORM_RUNNING_PER_GROUP : BNORM_RUNNING_SEQUENTIAL;
    d.params_per_group = sharing == Sharing::kNothing;
    d.epsilon = kEpsilon;
    d.renorm = 1;
    if (sharing == Sharing::kBlocks)
      d.channel_block = 8;
    else
      REQUIRE(bnorm_desc_set_layout(&d, channels_last ? BNORM_CHANNELS_LAST : BNORM_PLANAR) == BNORM_OK);
    return make_plan(d);
  }
};

struct Results {
  Values y, mean, inv_std, r, d, running_mean, running_var, dx, dscale, dshift;
  explicit Results(const Renorm& p)
      : y(p.x.size()),
        mean(p.all()),
        inv_std(p.all()),
        r(p.all()),
        d(p.all()),
        running_mean(p.running_mean),
        running_var(p.running_var),
        dx(p.x.size()),
        dscale(p.scale.size()),
        dshift(p.scale.size()) {}
  bool operator==(const Results&) const = default;
};

bnorm_train_args statistics_args(const Renorm& p, Results& r) {
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.mean = r.mean.data();
  t.inv_std = r.inv_std.data();
  t.running_mean = r.running_mean.data();
  t.running_var = r.running_var.data();
  t.renorm_r_max = p.r_max;
  t.renorm_d_max = p.d_max;
  t.renorm_r = r.r.data();
  t.renorm_d = r.d.data();
  return t;
}

bnorm_backward_args backward_args(const Renorm& p, const Results& r) {
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.x = p.x.data();
  b.dy = p.dy.data();
  b.scale = p.scale.data();
  b.shift = p.shift.data();
  b.mean = r.mean.data();
  b.inv_std = r.inv_std.data();
  b.renorm_r = r.r.data();
  b.renorm_d = r.d.data();
  return b;
}

void want_gradients(bnorm_backward_args& b, Results& r) {
  b.dx = r.dx.data();
  b.dscale = r.dscale.data();
  b.dshift = r.dshift.data();
}

Results run(const Renorm& p) {
  const PlanPointer plan = p.plan();
  Results r(p);
  bnorm_train_args t = statistics_args(p, r);
  t.x = p.x.data();
  t.y = r.y.data();
  t.scale = p.scale.data();
  t.shift = p.shift.data();
  REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);
  bnorm_backward_args b = backward_args(p, r);
  want_gradients(b, r);
  REQUIRE(bnorm_backward(plan.get(), &b) == BNORM_OK);
  return r;
}

Results run_in_parts(const Renorm& p) {
  const PlanPointer plan = p.plan();
  Results r(p);
  Values partials(bnorm_plan_partials_count(plan.get()));
  bnorm_train_args m = BNORM_TRAIN_ARGS_INIT;
  m.x = p.x.data();
  REQUIRE(bnorm_moments(plan.get(), &m, partials.data()) == BNORM_OK);
  const bnorm_train_args t = statistics_args(p, r);
  REQUIRE(bnorm_moments_finalize(plan.get(), partials.data(), &t) == BNORM_OK);
  Values coefficients(bnorm_plan_coefficients_size(plan.get()) / sizeof(double));
  bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
  a.mean = r.mean.data();
  a.inv_std = r.inv_std.data();
  a.renorm_r = r.r.data();
  a.renorm_d = r.d.data();
  a.scale = p.scale.data();
  a.shift = p.shift.data();
  REQUIRE(bnorm_prepare(plan.get(), &a, coefficients.data()) == BNORM_OK);
  bnorm_normalize_args n = BNORM_NORMALIZE_ARGS_INIT;
  n.x = p.x.data();
  n.y = r.y.data();
  n.coefficients = coefficients.data();
  REQUIRE(bnorm_normalize(plan.get(), &n) == BNORM_OK);
  bnorm_backward_args b = backward_args(p, r);
  REQUIRE(bnorm_backward_sums(plan.get(), &b, partials.data()) == BNORM_OK);
  want_gradients(b, r);
  REQUIRE(bnorm_backward_apply(plan.get(), &b, partials.data()) == BNORM_OK);
  return r;
}

struct Channel {
  long double mean = 0, deviation = 0;
};

Channel channel_of(const Renorm& p, const std::vector<long double>& x, int64_t g, int64_t c) {
  Channel k;
  long double var = 0;
  p.each(g, c, [&](size_t i) { k.mean += x[i] / p.count(); });
  p.each(g, c, [&](size_t i) { var += (x[i] - k.mean) * (x[i] - k.mean) / p.count(); });
  k.deviation = std::sqrt(var + static_cast<long double>(kEpsilon));
  return k;
}

long double clip(long double v, long double low, long double high) { return std::fmin(std::fmax(v, low), high); }

/// sum(dy * y) of a group's channel with r and d held, which backward differentiates.
long double loss(const Renorm& p, const Results& actual, const std::vector<long double>& x, int64_t g, int64_t c) {
  const Channel k = channel_of(p, x, g, c);
  const size_t i = static_cast<size_t>(g * p.channels + c), j = p.param_at(g, c);
  long double sum = 0;
  p.each(g, c, [&](size_t e) {
    const long double hat = (x[e] - k.mean) / k.deviation * actual.r[i] + actual.d[i];
    sum += p.dy[e] * (hat * p.scale[j] + p.shift[j]);
  });
  return sum;
}

void check_forward(const Renorm& p, const Results& actual) {
  const std::vector<long double> x(p.x.begin(), p.x.end());
  int inside = 0;
  for (int64_t g = 0; g < p.groups; ++g)
    for (int64_t c = 0; c < p.channels; ++c) {
      const size_t i = static_cast<size_t>(g * p.channels + c), j = p.param_at(g, c);
      const Channel k = channel_of(p, x, g, c);
      const long double sigma = std::sqrt(static_cast<long double>(p.running_var[j]) + kEpsilon);
      const long double r = clip(k.deviation / sigma, 1 / p.r_max, p.r_max);
      const long double d = clip((k.mean - p.running_mean[j]) / sigma, -p.d_max, p.d_max);
      CHECK(std::fabs(actual.r[i] - r) <= 1e-13);
      CHECK(std::fabs(actual.d[i] - d) <= 1e-13);
      inside += r > 1 / p.r_max && r < p.r_max && std::fabs(d) < p.d_max;
      p.each(g, c, [&](size_t e) {
        const long double hat = (x[e] - k.mean) / k.deviation * r + d;
        CHECK(std::fabs(actual.y[e] - (hat * p.scale[j] + p.shift[j])) <= 1e-13);
      });
    }
  if (p.r_max == kRMax) CHECK((inside > 0 && inside < p.groups * p.channels));
}

void check_backward(const Renorm& p, const Results& actual) {
  std::vector<long double> x(p.x.begin(), p.x.end());
  constexpr long double h = 1e-5L;
  for (int64_t c = 0; c < p.channels; ++c) {
    long double dscale = 0, dshift = 0;
    for (int64_t g = 0; g < p.groups; ++g) {
      if (p.sharing == Sharing::kNothing) dscale = dshift = 0;
      const Channel k = channel_of(p, x, g, c);
      const auto i = static_cast<size_t>(g * p.channels + c);
      p.each(g, c, [&](size_t e) {
        dshift += p.dy[e];
        dscale += p.dy[e] * ((x[e] - k.mean) / k.deviation * actual.r[i] + actual.d[i]);
      });
      p.each(g, c, [&](size_t e) {
        const long double middle = x[e];
        x[e] = middle + h;
        const long double above = loss(p, actual, x, g, c);
        x[e] = middle - h;
        const long double below = loss(p, actual, x, g, c);
        x[e] = middle;
        CHECK(std::fabs(actual.dx[e] - (above - below) / (2 * h)) <= 1e-9);
      });
      if (p.sharing != Sharing::kNothing && g + 1 < p.groups) continue;
      CHECK(std::fabs(actual.dscale[p.param_at(g, c)] - dscale) <= 1e-12);
      CHECK(std::fabs(actual.dshift[p.param_at(g, c)] - dshift) <= 1e-12);
    }
  }
}

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("renorm: the paper's formulas and their gradients") {
    for (const std::string& isa : isas())
      for (const bool channels_last : {false, true})
        for (const double limit : {kRMax, 1.0, HUGE_VAL}) {
          INFO(isa, channels_last ? " channels-last" : " planar", ", limit of r ", limit);
          const IsaScope scope(isa);
          Renorm p;
          p.channels_last = channels_last;
          p.r_max = limit;
          const Results actual = run(p);
          check_forward(p, actual);
          check_backward(p, actual);
          CHECK(run_in_parts(p) == actual);
        }
  }
}

TEST_CASE("renorm: of groups that share nothing, and in blocks of channels") {
  for (const Sharing sharing : {Sharing::kNothing, Sharing::kBlocks}) {
    const Renorm p(sharing);
    const Results actual = run(p);
    check_forward(p, actual);
    check_backward(p, actual);
    CHECK(run_in_parts(p) == actual);
  }
}

TEST_CASE("renorm: with the limits of INIT it is batch normalization") {
  Renorm p;
  p.r_max = 1;
  p.d_max = 0;
  const Results actual = run(p);
  for (size_t i = 0; i < p.all(); ++i) {
    CHECK(actual.r[i] == 1);
    CHECK(actual.d[i] == 0);
  }
  bnorm_desc d = BNORM_DESC_INIT;
  d.data_type = BNORM_F64;
  d.groups = p.groups;
  d.batch = p.batch;
  d.channels = p.channels;
  d.spatial = p.spatial;
  d.running_mode = BNORM_RUNNING_SEQUENTIAL;
  d.epsilon = kEpsilon;
  const PlanPointer plain = make_plan(d);
  Results expected(p);
  bnorm_train_args t = statistics_args(p, expected);
  t.renorm_r = t.renorm_d = nullptr;
  t.x = p.x.data();
  t.y = expected.y.data();
  t.scale = p.scale.data();
  t.shift = p.shift.data();
  REQUIRE(bnorm_train(plain.get(), &t) == BNORM_OK);
  CHECK(actual.y == expected.y);
  CHECK(actual.running_mean == expected.running_mean);
  CHECK(actual.running_var == expected.running_var);
}

TEST_CASE("renorm: f32, statistics in f32, and what has no deviation") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 4;
  d.channels = 2;
  d.epsilon = 0;
  d.stats_type = BNORM_F32;
  d.renorm = 1;
  // Channel 0 is constant, channel 1 has running_var 0.
  const float x[] = {3, 1, 3, 2, 3, 3, 3, 4};
  float y[8], running_mean[] = {1, 1}, running_var[] = {4, 0}, r[2], correction[2];
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.x = x;
  t.y = y;
  t.running_mean = running_mean;
  t.running_var = running_var;
  t.renorm_r_max = 2;
  t.renorm_d_max = 3;
  t.renorm_r = r;
  t.renorm_d = correction;
  const PlanPointer plan = make_plan(d);
  REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);
  CHECK(r[0] == 0.5F);
  CHECK(correction[0] == 1);
  CHECK(y[0] == 1);
  CHECK(r[1] == 0.5F);
  CHECK(correction[1] == 0);
  t.batch = 0;
  REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);
  CHECK(r[1] == 1);
  CHECK(correction[0] == 0);
}

TEST_CASE("renorm: from the output, r = 0 of a channel without deviation") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 2;
  d.channels = 1;
  d.epsilon = 0;
  d.renorm = d.from_output = 1;
  const float x[] = {3, 3}, dy[] = {1, 2};
  float y[2], dx[2], dscale, dshift, running_mean = 1, running_var = 4;
  double mean, inv_std, r, correction;
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.x = x;
  t.y = y;
  t.mean = &mean;
  t.inv_std = &inv_std;
  t.running_mean = &running_mean;
  t.running_var = &running_var;
  t.renorm_r_max = t.renorm_d_max = HUGE_VAL;
  t.renorm_r = &r;
  t.renorm_d = &correction;
  const PlanPointer plan = make_plan(d);
  REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);
  CHECK(r == 0);
  CHECK(y[0] == 1);  // (3 - 1) / 2
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.y = y;
  b.dy = dy;
  b.mean = &mean;
  b.inv_std = &inv_std;
  b.renorm_r = &r;
  b.renorm_d = &correction;
  b.dx = dx;
  b.dscale = &dscale;
  b.dshift = &dshift;
  REQUIRE(bnorm_backward(plan.get(), &b) == BNORM_OK);
  CHECK(dx[0] == 0);
  CHECK(dx[1] == 0);
  CHECK(dshift == 3);
  CHECK(dscale == 3);  // sum(dy * d)
}

TEST_CASE("renorm: refusals") {
  Renorm p;
  const PlanPointer plan = p.plan();
  Results r(p);
  const auto train = [&](auto change, std::initializer_list<const char*> words) {
    bnorm_train_args t = statistics_args(p, r);
    t.x = p.x.data();
    t.y = r.y.data();
    change(t);
    check_refusal(bnorm_train(plan.get(), &t), BNORM_INVALID_ARGUMENT, nullptr, words);
  };
  using Args = bnorm_train_args;
  train([](Args& t) { t.renorm_r_max = 0.9; }, {"renorm_r_max = 0.9"});
  train([](Args& t) { t.renorm_r_max = std::nan(""); }, {"renorm_r_max = nan"});
  train([](Args& t) { t.renorm_d_max = -1; }, {"renorm_d_max = -1"});
  train([](Args& t) { t.renorm_d = nullptr; }, {"renorm_d = NULL"});
  train([](Args& t) { t.running_var = nullptr; }, {"running_var = NULL"});
  train([](Args& t) { t.renorm_r = t.mean; }, {"renorm_r", "overlaps"});
  bnorm_backward_args b = backward_args(p, r);
  want_gradients(b, r);
  b.renorm_r = nullptr;
  check_refusal(bnorm_backward(plan.get(), &b), BNORM_INVALID_ARGUMENT, nullptr, {"renorm_r = NULL"});
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 5;
  const PlanPointer plain = make_plan(d);
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.renorm_r = t.renorm_d = r.r.data();
  check_refusal(bnorm_train(plain.get(), &t), BNORM_INVALID_ARGUMENT, nullptr, {"renorm_r", "must be NULL"});
}

}  // namespace bnorm_tests::test_renorm
