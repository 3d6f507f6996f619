// SPDX-License-Identifier: Apache-2.0
// What the header promises beyond the formulas: empty and single-value batches, NaN and Inf, the guard, factors,
// groups, large and small numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "plan.hh"
#include "random.hh"
#include "reference.hh"

namespace bnorm_tests::test_semantics {
namespace {

Case small(const Shape& shape, bnorm_type data = BNORM_F32) {
  Case c;
  c.shape = shape;
  c.data = data;
  c.param = data == BNORM_F64 ? BNORM_F64 : BNORM_F32;
  return c;
}

/// One for each family of kernels.
std::vector<Case> families() {
  std::vector<Case> r;
  for (const Shape& shape : {Shape{1, 6, 5, 20}, Shape{1, 9, 20, 4}, Shape{1, 40, 3, 1}, Shape{1, 1100, 17, 1}})
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast, Layout::kPermuted})
      for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16}) {
        r.push_back(small(shape, data));
        r.back().layout = layout;
      }
  return r;
}

Outputs train(const Problem& p) { return p.run(Operation::kTrain, BNORM_SERIAL); }

bool is_channel(const Problem& p, size_t element, int64_t channel) {
  return static_cast<int64_t>(element) / p.shape().s % p.shape().c == channel;
}

}  // namespace

TEST_CASE("semantics: one value per channel has variance 0 and gives activation(shift + residual)") {
  for (const bool residual : {false, true})
    for (const bool relu : {false, true}) {
      Case c = small({2, 1, 20, 1});
      c.mode = BNORM_RUNNING_SEQUENTIAL;
      c.residual = residual;
      c.activation = relu_if(relu);
      const Problem p(c);
      const Outputs out = train(p);
      for (size_t i = 0; i < out.y.size(); ++i) {
        double z = p.inputs().shift[i % 20];
        if (residual) z = rounded(BNORM_F32, z + p.inputs().residual[i]);
        CHECK(out.y[i] == (relu && z < 0 ? 0 : z));
        CHECK(out.mean[i] == p.inputs().x[i]);
        CHECK(is_inverse_root(out.inv_std[i], c.epsilon));
      }
      CHECK(violation(expect_train(p, out), out) == "");  // M < 2: the variance 0 itself enters running_var
    }
}

TEST_CASE("semantics: empty tensors are fine, statistics 0 and running statistics kept") {
  for (const Shape& shape : {Shape{1, 0, 3, 4}, Shape{2, 3, 5, 0}, Shape{1, 3, 0, 4}, Shape{0, 3, 5, 4}}) {
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
      Case c = small(shape);
      c.layout = layout;
      c.mode = BNORM_RUNNING_MEAN;
      c.give_workspace = layout == Layout::kPlanar;
      const Problem p(c);
      for (const Operation operation : {Operation::kTrain, Operation::kParts}) {
        const Outputs out = p.run(operation, nullptr);
        for (const double v : out.mean) CHECK(v == 0);
        for (const double v : out.inv_std) CHECK(v == 0);
        CHECK(out.running_mean == p.inputs().running_mean);
        CHECK(out.running_var == p.inputs().running_var);
      }
      for (const Operation operation : {Operation::kBackward, Operation::kBackwardParts}) {
        const Outputs out = p.run(operation, nullptr);
        CHECK(out.dscale == std::vector<double>(static_cast<size_t>(shape.c), 0));
        CHECK(out.dshift == out.dscale);
      }
      p.run(Operation::kInfer, nullptr);
      p.run(Operation::kPrepared, nullptr);
    }
  }
}

TEST_CASE("semantics: an empty call of a plan with a batch") {
  Case c = small({1, 7, 3, 4});
  c.batch = 0;
  const Problem p(c);
  const Outputs out = train(p);
  CHECK(out.mean == std::vector<double>(3, 0));
  CHECK(out.running_var == p.inputs().running_var);
}

TEST_CASE("semantics: NaN and Inf stay in their channel and reach its outputs") {
  for (Case c : families())
    for (const double bad : {kNaN, kInf, -kInf}) {
      c.activation = BNORM_RELU;
      const Problem good(c);
      Problem p(c);
      const int64_t channel = c.shape.c / 2;
      const size_t at = p.index(0, c.shape.n - 1, channel, c.shape.s - 1);
      p.inputs().x[at] = bad;
      INFO(describe(c), " value ", bad);
      const Outputs a = train(good), b = train(p);
      for (size_t i = 0; i < b.y.size(); ++i)
        if (is_channel(p, i, channel))
          CHECK(std::isnan(b.y[i]));
        else
          CHECK(b.y[i] == a.y[i]);
      for (size_t i = 0; i < b.mean.size(); ++i) {
        if (static_cast<int64_t>(i) == channel) continue;
        CHECK(b.mean[i] == a.mean[i]);
        CHECK(b.running_var[i] == a.running_var[i]);
      }
      CHECK(!std::isfinite(b.mean[static_cast<size_t>(channel)]));
      CHECK(std::isnan(b.inv_std[static_cast<size_t>(channel)]));
      CHECK(!std::isfinite(b.running_mean[static_cast<size_t>(channel)]));
      CHECK(!std::isfinite(b.running_var[static_cast<size_t>(channel)]));
    }
}

TEST_CASE("semantics: inference keeps NaN through ReLU, and one element from the others") {
  for (Case c : families()) {
    c.activation = BNORM_RELU;
    const Problem good(c);
    Problem p(c);
    const size_t at = p.inputs().x.size() / 2;
    p.inputs().x[at] = kNaN;
    const Outputs a = good.run(Operation::kInfer, BNORM_SERIAL), b = p.run(Operation::kInfer, BNORM_SERIAL);
    INFO(describe(c));
    for (size_t i = 0; i < b.y.size(); ++i)
      if (i == at)
        CHECK(std::isnan(b.y[i]));
      else
        CHECK(b.y[i] == a.y[i]);
  }
}

TEST_CASE("semantics: NaN in dy stays in its channel; ReLU's mask keeps it where it passes") {
  for (Case c : families()) {
    c.activation = BNORM_RELU;
    c.nulls = kNoScale | kNoShift;
    const Problem good(c);
    Problem p(c);
    const int64_t channel = c.shape.c - 1;
    int64_t i = 0;  // position of an element that ReLU lets through
    const auto element = [&] { return p.index(0, i / c.shape.s, channel, i % c.shape.s); };
    while (!(p.inputs().y[element()] > 0.1)) ++i;
    REQUIRE(i < c.shape.count());
    p.inputs().dy[element()] = kNaN;
    INFO(describe(c));
    const Outputs a = good.run(Operation::kBackward, BNORM_SERIAL), b = p.run(Operation::kBackward, BNORM_SERIAL);
    for (size_t j = 0; j < b.dx.size(); ++j)
      if (is_channel(p, j, channel))
        CHECK(std::isnan(b.dx[j]));
      else
        CHECK(b.dx[j] == a.dx[j]);
    CHECK(std::isnan(b.dshift.back()));
    CHECK(std::isnan(b.dscale.back()));
    CHECK(b.dshift.front() == a.dshift.front());
  }
}

TEST_CASE("semantics: the guard keeps the running statistics of the affected channels only") {
  for (const double bad : {kNaN, kInf}) {
    Case c = small({1, 6, 5, 20});
    const Problem good(c);
    c.guard = true;
    Problem p(c);
    const Outputs a = train(good);
    CHECK(difference(a, train(p)) == "");  // with nothing to guard against: the same, and OK
    p.inputs().x[p.index(0, 3, 2, 7)] = bad;
    for (const Operation operation : {Operation::kTrain, Operation::kParts}) {
      const Outputs b = p.run(operation, BNORM_SERIAL);
      CHECK(b.status == BNORM_NONFINITE);
      CHECK(std::string(bnorm_last_error()).find("2") != std::string::npos);
      for (size_t i = 0; i < 5; ++i) {
        CHECK(b.running_mean[i] == (i == 2 ? p.inputs().running_mean[i] : a.running_mean[i]));
        CHECK(b.running_var[i] == (i == 2 ? p.inputs().running_var[i] : a.running_var[i]));
      }
      CHECK(std::isnan(b.y[p.index(0, 0, 2, 0)]));
      CHECK(b.y[p.index(0, 0, 1, 0)] == a.y[p.index(0, 0, 1, 0)]);
    }
  }
}

TEST_CASE("semantics: the guard holds back a variance that param_type cannot hold") {
  Case c = small({1, 6, 5, 20});
  c.guard = true;
  Problem p(c);
  p.inputs().x[p.index(0, 3, 2, 7)] = 0x1p100;
  const Outputs out = train(p);
  CHECK(out.status == BNORM_NONFINITE);
  CHECK(out.running_mean[2] == p.inputs().running_mean[2]);
  CHECK(out.running_var[2] == p.inputs().running_var[2]);
  CHECK(std::isfinite(out.y[p.index(0, 0, 2, 0)]));
}

TEST_CASE("semantics: the guard goes by what 16-bit parameters hold") {
  // Variances that f32 holds and the type does not, and the means that it does.
  const struct {
    bnorm_type type;
    double deviation;
  } kinds[] = {{BNORM_F16, 260}, {BNORM_BF16, 0x1.ffep63}};
  for (const auto& kind : kinds)
    for (const double size : {1.0, 0.9}) {
      Case c = small({1, 6, 5, 20});
      c.guard = true;
      c.biased = true;
      c.param = kind.type;
      Problem p(c);
      for (int64_t n = 0; n < 6; ++n)
        for (int64_t s = 0; s < 20; ++s)
          p.inputs().x[p.index(0, n, 2, s)] = (s % 2 == 0 ? size : -size) * kind.deviation;
      const Outputs out = train(p);
      CHECK(out.status == (size == 1 ? BNORM_NONFINITE : BNORM_OK));
      CHECK((out.running_var[2] == p.inputs().running_var[2]) == (size == 1));
      CHECK(std::isfinite(out.running_var[2]));
    }
}

TEST_CASE("semantics: dresidual may be dy") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 3;
  d.channels = 5;
  d.spatial = 70;
  d.activation = BNORM_RELU;
  d.residual_added = 1;
  for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST}) {
    REQUIRE(bnorm_desc_set_layout(&d, layout) == BNORM_OK);
    const PlanPointer plan = make_plan(d);
    std::vector<float> x, y, dy, dx[2], dresidual;
    for (int64_t i = 0; i < 3 * 5 * 70; ++i) {
      x.push_back(static_cast<float>(i * 7 % 101) - 50);
      y.push_back(static_cast<float>(i % 3));
      dy.push_back(static_cast<float>(i * 13 % 29) - 14);
    }
    dresidual = dx[0] = dx[1] = x;
    const std::vector<double> mean(5, 1), inv_std(5, 0.03);
    bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
    a.x = x.data();
    a.y = y.data();
    a.dy = dy.data();
    a.mean = mean.data();
    a.inv_std = inv_std.data();
    a.dx = dx[0].data();
    a.dresidual = dresidual.data();
    REQUIRE(bnorm_backward(plan.get(), &a) == BNORM_OK);
    a.dx = dx[1].data();
    a.dresidual = dy.data();
    REQUIRE(bnorm_backward(plan.get(), &a) == BNORM_OK);
    CHECK(dx[0] == dx[1]);
    CHECK(dresidual == dy);
  }
}

TEST_CASE("semantics: a constant channel has variance exactly 0") {
  for (Case c : families())
    for (const double value : {0.1, -3.0, 1e30, 12345.678})
      for (const double epsilon : {0.0, 1e-5}) {
        c.epsilon = epsilon;
        Problem p(c);
        const double held = rounded(c.data, value);
        for (double& x : p.inputs().x) x = held;
        INFO(describe(c), " value ", value);
        const Outputs out = train(p);
        for (size_t i = 0; i < out.mean.size(); ++i) {
          CHECK(out.mean[i] == held);
          CHECK((epsilon == 0 ? out.inv_std[i] == 0 : is_inverse_root(out.inv_std[i], epsilon)));
        }
        for (size_t i = 0; i < out.y.size(); ++i) {
          // (x - mean) is 0 exactly: shift comes back as the data type holds it.
          const size_t channel = i / static_cast<size_t>(c.shape.s) % static_cast<size_t>(c.shape.c);
          CHECK(out.y[i] == rounded(c.data, p.inputs().shift[channel]));
        }
      }
}

TEST_CASE("semantics: epsilon 0 and variance 0 give inv_std 0 in inference and backward too") {
  Case c = small({1, 4, 3, 1});
  c.epsilon = 0;
  Problem p(c);
  p.inputs().running_var = {0, 1, 0};
  p.inputs().inv_std = {0, 1, 0};
  const Outputs out = p.run(Operation::kInfer, BNORM_SERIAL);
  for (size_t i = 0; i < out.y.size(); i += 3) CHECK(out.y[i] == p.inputs().shift[0]);
  const Outputs gradients = p.run(Operation::kBackward, BNORM_SERIAL);
  for (size_t i = 0; i < out.y.size(); i += 3) CHECK(gradients.dx[i] == 0);
  CHECK(gradients.dscale[0] == 0);
}

TEST_CASE("semantics: average_factor 0 keeps the running statistics, 1 replaces even NaN") {
  for (const bnorm_running_mode mode : {BNORM_RUNNING_PER_GROUP, BNORM_RUNNING_SEQUENTIAL, BNORM_RUNNING_MEAN}) {
    Case c = small({2, 4, 3, 5});
    c.mode = mode;
    c.average_factor = 0;
    Problem keeps(c);
    keeps.inputs().running_mean[1] = kNaN;
    const Outputs kept = train(keeps);
    for (size_t i = 0; i < kept.running_mean.size(); ++i) {
      if (i == 1)
        CHECK(std::isnan(kept.running_mean[i]));
      else
        CHECK(kept.running_mean[i] == keeps.inputs().running_mean[i]);
      CHECK(kept.running_var[i] == keeps.inputs().running_var[i]);
    }
    c.average_factor = 1;
    const Outputs clean = train(Problem(c));
    Problem replaces(c);
    replaces.inputs().running_mean.assign(replaces.inputs().running_mean.size(), kNaN);
    replaces.inputs().running_var.assign(replaces.inputs().running_var.size(), kInf);
    const Outputs replaced = train(replaces);
    CHECK(difference(clean, replaced) == "");
    for (const double v : replaced.running_var) CHECK(std::isfinite(v));
  }
}

TEST_CASE("semantics: args.average_factor wins over the descriptor's, and gives a cumulative average") {
  const float x[4] = {1, 3, 5, 11};  // batches {1, 3} and {5, 11}: means 2 and 8, unbiased variances 2 and 18
  float y[2], mean[1] = {77}, var[1] = {77};
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 2;
  d.channels = 1;
  const PlanPointer plan = make_plan(d);
  for (int k = 0; k < 2; ++k) {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.x = x + 2 * k;
    a.y = y;
    a.running_mean = mean;
    a.running_var = var;
    a.average_factor = 1.0 / (k + 1);
    REQUIRE(bnorm_train(plan.get(), &a) == BNORM_OK);
  }
  CHECK(mean[0] == 5);
  CHECK(var[0] == 10);
}

TEST_CASE("semantics: running variance unbiased by default, biased on request") {
  const float x[2] = {1, 3};
  for (const bool biased : {false, true}) {
    float y[2], mean[1] = {0}, var[1] = {0};
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = 2;
    d.channels = 1;
    d.biased_running_var = biased;
    d.average_factor = 0.5;
    const PlanPointer plan = make_plan(d);
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.x = x;
    a.y = y;
    a.running_mean = mean;
    a.running_var = var;
    REQUIRE(bnorm_train(plan.get(), &a) == BNORM_OK);
    CHECK(mean[0] == 1);
    CHECK(var[0] == (biased ? 0.5f : 1.0f));
  }
}

TEST_CASE("semantics: groups that are the time steps of [N][T][C] have each what their steps alone would") {
  constexpr int64_t batch = 70, steps = 3, channels = 18, step = channels, sample = steps * channels;
  Random random(8);
  const std::vector<float> x = normals<float>(random, batch * sample, 3);
  bnorm_desc d = BNORM_DESC_INIT;
  d.groups = steps;
  d.batch = batch;
  d.channels = channels;
  d.running_mode = BNORM_RUNNING_PER_GROUP;
  d.x = d.y = {step, sample, 1, 1};
  std::vector<float> y(x.size()), running_mean(sample, 1), running_var = running_mean;
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.x = x.data();
  t.y = y.data();
  t.running_mean = running_mean.data();
  t.running_var = running_var.data();
  REQUIRE(bnorm_train(make_plan(d).get(), &t) == BNORM_OK);
  d.groups = 1;
  const PlanPointer plan = make_plan(d);
  for (int64_t s = 0; s < steps; ++s) {
    std::vector<float> alone(x.size()), mean(channels, 1), var = mean;
    t.x = x.data() + s * step;
    t.y = alone.data() + s * step;
    t.running_mean = mean.data();
    t.running_var = var.data();
    REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);
    for (int64_t i = s * step; i < batch * sample; i += sample)
      CHECK(std::equal(y.begin() + i, y.begin() + i + channels, alone.begin() + i));
    CHECK(std::equal(mean.begin(), mean.end(), running_mean.begin() + s * channels));
    CHECK(std::equal(var.begin(), var.end(), running_var.begin() + s * channels));
  }
}

TEST_CASE("semantics: a residual broadcast by stride 0") {
  Case c = small({1, 6, 5, 20});
  c.residual = true;
  Problem p(c);
  for (size_t i = 0; i < p.inputs().residual.size(); ++i) p.inputs().residual[i] = p.inputs().residual[i % 100];
  const Outputs plain = train(p);
  bnorm_desc d = p.desc();
  d.residual = {0, 0, 20, 1};
  const PlanPointer plan = make_plan(d);
  const auto floats = [](const std::vector<double>& v) { return std::vector<float>(v.begin(), v.end()); };
  const std::vector<float> x = floats(p.inputs().x), residual = floats(p.inputs().residual),
                           scale = floats(p.inputs().scale), shift = floats(p.inputs().shift);
  std::vector<float> y(x.size());
  bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
  a.x = x.data();
  a.residual = residual.data();
  a.y = y.data();
  a.scale = scale.data();
  a.shift = shift.data();
  REQUIRE(bnorm_train(plan.get(), &a) == BNORM_OK);
  CHECK(y == floats(plain.y));
}

}  // namespace bnorm_tests::test_semantics
