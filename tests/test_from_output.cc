// SPDX-License-Identifier: Apache-2.0
// Backward from the output (bnorm_desc.from_output): the gradients of backward from the input, which it never sees.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "isas.hh"
#include "plan.hh"
#include "random.hh"
#include "refusal.hh"

namespace bnorm_tests::test_from_output {
namespace {

/// What varies.
struct Variant {
  bnorm_activation activation = BNORM_IDENTITY;
  bool channels_last = false, frozen = false, renorm = false;
  bnorm_type stats = BNORM_F64;
  int64_t spatial = 20;
};

constexpr int64_t kGroups = 2, kBatch = 6, kChannels = 5;

template <class T>
struct Gradients {
  std::vector<T> dx, dscale = std::vector<T>(kChannels), dshift = dscale;
};

/// A training step in T, in place, and its backward from y; and the same from a copy of x.
template <class T>
class Step {
 public:
  using Values = std::vector<T>;

  explicit Step(const Variant& v) : v_(v) {
    Random random(9);
    const int64_t elements = kGroups * kBatch * kChannels * v.spatial;
    x_ = normals<T>(random, elements, 2);
    dy_ = normals<T>(random, elements);
    scale_ = normals<T>(random, kChannels, -1, 0.2);
    shift_ = normals<T>(random, kChannels, 0.5, 0.2);
    running_mean_ = normals<T>(random, kChannels, 2, 0.2);
    running_var_ = normals<T>(random, kChannels, 1, 0.1);
    mean_.resize(kGroups * kChannels * 2);  // f64, or f32 in half of it
    inv_std_ = r_ = d_ = mean_;
    y_ = x_;
    const PlanPointer plan = make(true);
    if (v.frozen)
      infer(plan.get());
    else
      train(plan.get());
  }

  Gradients<T> from_output() const { return backward(true); }
  Gradients<T> from_input() const { return backward(false); }

  Gradients<T> from_output_in_parts() const {
    const PlanPointer plan = make(true);
    std::vector<double> sums(bnorm_plan_partials_count(plan.get()));
    bnorm_backward_args b = args(true);
    REQUIRE(bnorm_backward_sums(plan.get(), &b, sums.data()) == BNORM_OK);
    Gradients<T> g;
    want(b, g);
    REQUIRE(bnorm_backward_apply(plan.get(), &b, sums.data()) == BNORM_OK);
    return g;
  }

 private:
  PlanPointer make(bool from_output) const {
    bnorm_desc d = BNORM_DESC_INIT;
    d.data_type = sizeof(T) == 8 ? BNORM_F64 : BNORM_F32;
    d.stats_type = v_.stats;
    d.groups = kGroups;
    d.batch = kBatch;
    d.channels = kChannels;
    d.spatial = v_.spatial;
    d.running_mode = BNORM_RUNNING_SEQUENTIAL;
    d.activation = v_.activation;
    d.leaky_slope = 0.25;
    d.frozen = v_.frozen;
    d.renorm = v_.renorm;
    d.from_output = from_output;
    REQUIRE(bnorm_desc_set_layout(&d, v_.channels_last ? BNORM_CHANNELS_LAST : BNORM_PLANAR) == BNORM_OK);
    return make_plan(d);
  }
  void train(const bnorm_plan* plan) {
    Values running_mean = running_mean_, running_var = running_var_;
    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    t.x = t.y = y_.data();
    t.scale = scale_.data();
    t.shift = shift_.data();
    t.mean = mean_.data();
    t.inv_std = inv_std_.data();
    if (v_.renorm) {
      t.running_mean = running_mean.data();
      t.running_var = running_var.data();
      t.renorm_r_max = 3;
      t.renorm_d_max = 5;
      t.renorm_r = r_.data();
      t.renorm_d = d_.data();
    }
    REQUIRE(bnorm_train(plan, &t) == BNORM_OK);
  }
  void infer(const bnorm_plan* plan) {
    bnorm_infer_args i = BNORM_INFER_ARGS_INIT;
    i.x = i.y = y_.data();
    i.scale = scale_.data();
    i.shift = shift_.data();
    i.running_mean = running_mean_.data();
    i.running_var = running_var_.data();
    REQUIRE(bnorm_infer(plan, &i) == BNORM_OK);
  }
  bnorm_backward_args args(bool from_output) const {
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    if (from_output)
      b.y = y_.data();
    else
      b.x = x_.data();
    b.dy = dy_.data();
    b.scale = scale_.data();
    b.shift = shift_.data();
    if (v_.frozen) {
      b.running_mean = running_mean_.data();
      b.running_var = running_var_.data();
    } else {
      b.mean = mean_.data();
      b.inv_std = inv_std_.data();
    }
    if (v_.renorm) b.renorm_r = r_.data(), b.renorm_d = d_.data();
    return b;
  }
  void want(bnorm_backward_args& b, Gradients<T>& g) const {
    g.dx.resize(x_.size());
    b.dx = g.dx.data();
    b.dscale = g.dscale.data();
    b.dshift = g.dshift.data();
  }
  Gradients<T> backward(bool from_output) const {
    Gradients<T> g;
    bnorm_backward_args b = args(from_output);
    want(b, g);
    REQUIRE(bnorm_backward(make(from_output).get(), &b) == BNORM_OK);
    return g;
  }

  Variant v_;
  Values x_, y_, dy_, scale_, shift_, running_mean_, running_var_;
  std::vector<double> mean_, inv_std_, r_, d_;
};

template <class T>
void check_close(const std::vector<T>& actual, const std::vector<T>& expected, double bound) {
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO(i, ": ", actual[i], ", expected ", expected[i]);
    CHECK(std::fabs(static_cast<double>(actual[i] - expected[i])) <= bound);
  }
}

/// `roundings` of the type: of z up to 6, in sums over 240 values.
template <class T>
void check_variant(const Variant& v, double roundoff) {
  const Step<T> step(v);
  const Gradients<T> expected = step.from_input(), actual = step.from_output();
  check_close(actual.dx, expected.dx, 64 * roundoff);
  check_close(actual.dscale, expected.dscale, 2000 * roundoff);
  check_close(actual.dshift, expected.dshift, 100 * roundoff);
  const Gradients<T> parts = step.from_output_in_parts();
  CHECK(parts.dx == actual.dx);
  CHECK(parts.dscale == actual.dscale);
}

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("from output: the gradients of backward from the input") {
    for (const std::string& isa : isas())
      for (const bnorm_activation activation : {BNORM_IDENTITY, BNORM_LEAKY_RELU, BNORM_ELU})
        for (const bool channels_last : {false, true})
          for (const bool frozen : {false, true})
            for (const bool renorm : {false, true})
              for (const int64_t spatial : {1, 4, 20}) {
                if (frozen && renorm) continue;
                INFO(isa, " activation ", activation, channels_last ? " channels-last" : " planar",
                     frozen ? " frozen" : "", renorm ? " renorm" : "", " S ", spatial);
                const IsaScope scope(isa);
                Variant v;
                v.activation = activation;
                v.channels_last = channels_last;
                v.frozen = frozen;
                v.renorm = renorm;
                v.spatial = spatial;
                check_variant<double>(v, 0x1p-53);
                check_variant<float>(v, 0x1p-24);
                v.stats = BNORM_F32;
                check_variant<float>(v, 0x1p-24);
              }
  }
}

/// dscale of one value a channel, z = y of ELU, with dy = 1, scale 1 and shift 0: dz * z.
template <class T>
void check_elu(T roundoff) {
  constexpr double alpha = 0.75;
  std::vector<T> y;
  for (double z = -36; z < 4; z += 0.0117) y.push_back(static_cast<T>(z > 0 ? z : alpha * std::expm1(z)));
  for (double z = -1; z < -1e-30; z /= 3) y.push_back(static_cast<T>(alpha * std::expm1(z)));
  for (const double z : {-alpha, -0.0, 0.0}) y.push_back(static_cast<T>(z));
  bnorm_desc d = BNORM_DESC_INIT;
  d.data_type = sizeof(T) == 8 ? BNORM_F64 : BNORM_F32;
  d.batch = 1;
  d.channels = static_cast<int64_t>(y.size());
  d.activation = BNORM_ELU;
  d.elu_alpha = alpha;
  d.frozen = 1;
  d.from_output = 1;
  d.epsilon = 0;
  const std::vector<T> dy(y.size(), 1), mean(y.size(), 0), var(y.size(), 1);
  std::vector<T> dscale(y.size()), dshift(y.size());
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.y = y.data();
  b.dy = dy.data();
  b.running_mean = mean.data();
  b.running_var = var.data();
  b.dscale = dscale.data();
  b.dshift = dshift.data();
  REQUIRE(bnorm_backward(make_plan(d).get(), &b) == BNORM_OK);
  for (size_t i = 0; i < y.size(); ++i) {
    const auto value = static_cast<long double>(y[i]), u = value / static_cast<long double>(alpha);
    if (u <= -1) {
      CHECK(dscale[i] == 0);
      continue;
    }
    const long double z = value > 0 ? value : std::log1p(u), expected = static_cast<long double>(dshift[i]) * z;
    // y / alpha is rounded, which log(1 + u) stretches.
    const long double stretch = value > 0 ? 0 : std::fabs(u / (1 + u));
    const long double allowed = roundoff * (4 * std::fabs(z) + stretch) * static_cast<long double>(dshift[i]);
    INFO("y ", y[i], ": ", dscale[i], ", expected ", static_cast<double>(expected));
    CHECK(std::fabs(static_cast<long double>(dscale[i]) - expected) <= allowed);
  }
}

TEST_SUITE("isa") {
  TEST_CASE("from output: z of ELU's y, within 4 roundings and that of y / alpha") {
    for (const std::string& isa : isas()) {
      INFO(isa);
      const IsaScope scope(isa);
      check_elu<float>(0x1p-24F);
      check_elu<double>(0x1p-53);
    }
  }
}

TEST_CASE("from output: refusals") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 2;
  d.channels = 2;
  d.from_output = 1;
  const PlanPointer plan = make_plan(d);
  float y[4] = {1, 2, 3, 4};
  const float dy[4] = {1, 1, 1, 1}, zero[2] = {1, 0}, infinite[2] = {HUGE_VALF, 1}, before[4] = {1, 2, 3, 4};
  float dx[4];
  const double mean[2] = {}, inv_std[2] = {1, 1};
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.x = t.y = y;
  t.scale = zero;
  check_refusal(bnorm_train(plan.get(), &t), BNORM_INVALID_ARGUMENT, nullptr, {"scale[1] = 0", "from_output"});
  CHECK(std::equal(y, y + 4, before));
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.y = y;
  b.dy = dy;
  b.dx = dx;
  b.mean = mean;
  b.inv_std = inv_std;
  b.scale = infinite;
  check_refusal(bnorm_backward(plan.get(), &b), BNORM_INVALID_ARGUMENT, nullptr, {"scale[0] = inf", "from_output"});
  std::vector<double> sums(bnorm_plan_partials_count(plan.get()));
  const float nan[2] = {1, std::nanf("")};
  b.scale = nan;
  check_refusal(bnorm_backward_apply(plan.get(), &b, sums.data()), BNORM_INVALID_ARGUMENT, nullptr, {"scale[1] = nan"});
  b.scale = zero;
  b.dx = nullptr;
  check_refusal(bnorm_backward_sums(plan.get(), &b, sums.data()), BNORM_INVALID_ARGUMENT, nullptr, {"scale[1] = 0"});
  b.dx = dx;
  b.scale = nullptr;
  b.y = nullptr;
  check_refusal(bnorm_backward(plan.get(), &b), BNORM_INVALID_ARGUMENT, nullptr, {"y = NULL"});
}

}  // namespace bnorm_tests::test_from_output
