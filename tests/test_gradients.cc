// SPDX-License-Identifier: Apache-2.0
// Gradients against finite differences of the forward call, in f64, and the invariants of batch statistics.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "bounds.hh"
#include "plan.hh"
#include "random.hh"
#include "reference.hh"
#include "refusal.hh"

namespace bnorm_tests::test_gradients {
namespace {

constexpr double kStep = 0x1p-8;

Case f64_case(bnorm_activation activation, bool residual, bool frozen) {
  Case c;
  c.shape = {2, 3, 9, 2};
  c.data = c.param = c.stats = BNORM_F64;
  c.mode = BNORM_RUNNING_PER_GROUP;
  c.activation = activation;
  c.residual = residual;
  c.frozen = frozen;
  c.epsilon = 0.01;
  c.mu = 0.5;
  c.seed = 5;
  return c;
}

/// sum(dy * y) of the forward call, and how much rounding may have gone into it.
struct Loss {
  double value, size;
};

Loss loss(const Problem& p) {
  const Outputs out = p.run(p.config().frozen ? Operation::kInfer : Operation::kTrain, BNORM_SERIAL);
  Loss r{0, 0};
  for (size_t i = 0; i < out.y.size(); ++i) {
    r.value += out.y[i] * p.inputs().dy[i];
    r.size += std::fabs(out.y[i] * p.inputs().dy[i]);
  }
  return r;
}

struct Difference {
  double value, bound;
};

/// Derivative of the loss by *at. Central differences at h and 2 h, extrapolated; the bound is the rounding of the two
/// losses (u for each of the operations of an element and of its sum) over h, and what the extrapolation corrected,
/// / 16.
Difference derivative(const Problem& p, double* at) {
  const double middle = *at;
  double slope[2], size = 0;
  for (int i = 0; i < 2; ++i) {
    const double h = kStep * (i + 1);
    *at = middle + h;
    const Loss above = loss(p);
    *at = middle - h;
    const Loss below = loss(p);
    slope[i] = (above.value - below.value) / (2 * h);
    size = std::max({size, above.size, below.size});
  }
  *at = middle;
  const double correction = (slope[0] - slope[1]) / 3;
  return {slope[0] + correction, std::fabs(correction) * 3 / 16 + 0x1p-53 * 64 * size / kStep};
}

/// Channels of a group in which no z comes near a kink of the activation when an input moves by 2 steps.
bool far_from_kink(const Problem& p, int64_t g, int64_t c) {
  const Activation f = activation(p.desc());
  const Outputs out = p.run(p.config().frozen ? Operation::kInfer : Operation::kTrain, BNORM_SERIAL);
  Case open = p.config();
  open.activation = BNORM_IDENTITY;
  Problem linear(open);
  linear.inputs() = p.inputs();
  const Outputs z = linear.run(open.frozen ? Operation::kInfer : Operation::kTrain, BNORM_SERIAL);
  double gain = 1;
  const size_t gc = static_cast<size_t>(g * p.shape().c + c);
  if (!open.frozen) gain = std::fabs(z.inv_std[gc] * p.inputs().scale[p.param_index(g, c)]);
  if (open.frozen) gain = std::fabs(p.inputs().scale[p.param_index(g, c)]) / std::sqrt(p.inputs().running_var[gc]);
  // scale moves z by |x-hat| h, at most 3 h here; shift and residual by h; x by 2 gain h.
  for (int64_t n = 0; n < p.shape().n; ++n)
    for (int64_t s = 0; s < p.shape().s; ++s)
      if (f.slope_jump(z.y[p.index(g, n, c, s)], 2 * kStep * std::max(3.0, 2 * gain)) > 0) return false;
  return true;
}

void check_gradient(const char* name, const Problem& p, double* at, double gradient) {
  const Difference d = derivative(p, at);
  INFO(name, ": ", gradient, ", finite difference ", d.value, ", allowed ", d.bound, ' ', describe(p.config()));
  CHECK(std::fabs(gradient - d.value) <= d.bound);
}

void check_channel(Problem& p, const Outputs& out, int64_t c) {
  for (int64_t g = 0; g < p.shape().g; ++g) {
    if (!far_from_kink(p, g, c)) return;
  }
  const size_t channel = static_cast<size_t>(c);
  check_gradient("dscale", p, &p.inputs().scale[channel], out.dscale[channel]);
  check_gradient("dshift", p, &p.inputs().shift[channel], out.dshift[channel]);
  for (int64_t g = 0; g < p.shape().g; ++g)
    for (int64_t n = 0; n < p.shape().n; ++n)
      for (int64_t s = 0; s < p.shape().s; ++s) {
        const size_t i = p.index(g, n, c, s);
        check_gradient("dx", p, &p.inputs().x[i], out.dx[i]);
        if (p.config().residual) check_gradient("dresidual", p, &p.inputs().residual[i], out.dresidual[i]);
      }
}

/// Largest |sum(dx)| and |sum(dx * x-hat)| that rounding explains in one channel. The sums of the exact dx are 0 where
/// epsilon = 0; the saved statistics are off by a few u of D = max |x - mean| and of inv_std.
void check_invariants(const Problem& p, const Outputs& out, const Expected& expected, int64_t g, int64_t c) {
  const size_t gc = static_cast<size_t>(g * p.shape().c + c);
  const Real mean = p.inputs().mean[gc], inv_std = p.inputs().inv_std[gc];
  const Real gain = inv_std * static_cast<Real>(p.inputs().scale[static_cast<size_t>(c)]);
  Real sum = 0, sum_x = 0, bound = 0, bound_x = 0, size = 0, size_x = 0, reach = 0;
  for (int64_t n = 0; n < p.shape().n; ++n)
    for (int64_t s = 0; s < p.shape().s; ++s) {
      const size_t i = p.index(g, n, c, s);
      const Real x_hat = (static_cast<Real>(p.inputs().x[i]) - mean) * inv_std;
      sum += out.dx[i];
      sum_x += static_cast<Real>(out.dx[i]) * x_hat;
      bound += expected.dx.bound[i];
      bound_x += expected.dx.bound[i] * std::fabs(x_hat);
      size += std::fabs(static_cast<Real>(p.inputs().dy[i]));
      size_x += std::fabs(static_cast<Real>(p.inputs().dy[i]) * x_hat);
      reach = std::max(reach, std::fabs(x_hat));
    }
  const Real count = static_cast<Real>(p.shape().count());
  const Real saved = kF64 * (count + 4) * std::fabs(gain) * (size + size_x) * (1 + reach * reach);
  INFO(describe(p.config()), " channel ", c, " sums ", static_cast<double>(sum), ' ', static_cast<double>(sum_x),
       " allowed ", static_cast<double>(bound + saved), ' ', static_cast<double>(bound_x + saved));
  CHECK(std::fabs(sum) <= bound + saved);
  CHECK(std::fabs(sum_x) <= bound_x + saved);
}

}  // namespace

TEST_CASE("gradients: finite differences") {
  for (const bool frozen : {false, true})
    for (bnorm_activation activation = 0; activation < kActivations; ++activation)
      for (const bool residual : {false, true}) {
        Problem p(f64_case(activation, residual, frozen));
        const Outputs out = p.run(Operation::kBackward, BNORM_SERIAL);
        int64_t far = 0;
        for (int64_t c = 0; c < p.shape().c; ++c) {
          far += far_from_kink(p, 0, c) && far_from_kink(p, 1, c);
          check_channel(p, out, c);
        }
        CHECK(far >= 2);
      }
}

TEST_CASE("gradients: any subset of the outputs has the bits of all") {
  constexpr unsigned kOutputs[] = {kNoDx, kNoDresidual, kNoDscale, kNoDshift};
  const auto same_if_given = [](const std::vector<double>& some, const std::vector<double>& all) {
    return some.empty() || some == all;
  };
  for (const bool frozen : {false, true})
    for (const bool residual : {false, true})
      for (const bool mask : {false, true})
        for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
          Case c;
          c.shape = {2, 70, 17, 10};
          c.layout = layout;
          c.mode = BNORM_RUNNING_PER_GROUP;
          c.activation = relu_if(residual || mask);
          c.residual = residual;
          c.mask = mask;
          c.frozen = frozen;
          const Outputs all = Problem(c).run(Operation::kBackward, BNORM_SERIAL);
          for (unsigned missing = 1; missing < 16; ++missing) {
            c.nulls = 0;
            for (unsigned i = 0; i < 4; ++i)
              if ((missing >> i & 1U) != 0) c.nulls |= kOutputs[i];
            for (const Operation operation : {Operation::kBackward, Operation::kBackwardParts}) {
              INFO("operation ", static_cast<int>(operation), ' ', describe(c));
              const Outputs some = Problem(c).run(operation, BNORM_SERIAL);
              CHECK(same_if_given(some.dx, all.dx));
              CHECK(same_if_given(some.dresidual, all.dresidual));
              CHECK(same_if_given(some.dscale, all.dscale));
              CHECK(same_if_given(some.dshift, all.dshift));
              CHECK(some.dx.empty() == ((c.nulls & kNoDx) != 0));
            }
          }
        }
}

TEST_CASE("gradients: x may be missing where no output is made of it") {
  constexpr int64_t n = 5, c = 3, s = 20;
  Random random(4);
  const std::vector<float> x = normals<float>(random, n * c * s), y = normals<float>(random, n * c * s),
                           dy = normals<float>(random, n * c * s);
  const double mean[c] = {0.25, 0, -1}, inv_std[c] = {1, 2, 0.5};
  const float running_mean[c] = {0.25F, 0, -1}, running_var[c] = {1, 0.25F, 4};
  for (const bool frozen : {false, true})
    for (const bool residual : {false, true})
      for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST}) {
        bnorm_desc d = BNORM_DESC_INIT;
        d.batch = n;
        d.channels = c;
        d.spatial = s;
        d.frozen = frozen;
        d.residual_added = residual;
        d.activation = relu_if(residual);  // which y tells
        REQUIRE(bnorm_desc_set_layout(&d, layout) == BNORM_OK);
        const PlanPointer plan = make_plan(d);
        bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
        a.y = y.data();
        a.dy = dy.data();
        if (frozen)
          a.running_mean = running_mean, a.running_var = running_var;
        else
          a.mean = mean, a.inv_std = inv_std;
        float all_dscale[c], all_dshift[c], dshift[c] = {-9, -9, -9};
        std::vector<float> all_dx(x.size()), dx(x.size());
        a.x = x.data();
        a.dx = all_dx.data();
        a.dscale = all_dscale;
        a.dshift = all_dshift;
        REQUIRE(bnorm_backward(plan.get(), &a) == BNORM_OK);
        a.x = nullptr;
        a.dscale = nullptr;
        a.dshift = dshift;
        a.dx = dx.data();
        if (frozen) {
          REQUIRE(bnorm_backward(plan.get(), &a) == BNORM_OK);
          CHECK(dx == all_dx);
        } else {
          check_refusal(bnorm_backward(plan.get(), &a), BNORM_INVALID_ARGUMENT, nullptr, {"x = NULL"});
          a.dx = nullptr;
          REQUIRE(bnorm_backward(plan.get(), &a) == BNORM_OK);
        }
        CHECK(std::equal(dshift, dshift + c, all_dshift));
      }
}

TEST_CASE("gradients: sum(dx) = 0 and sum(dx * x-hat) = 0 in each channel") {
  const Shape shapes[] = {{1, 40, 17, 1}, {2, 9, 5, 4}, {1, 4, 3, 300}, {1, 2100, 2, 1}};
  for (const Shape& shape : shapes)
    for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
      for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
        Case c;
        c.shape = shape;
        c.data = data;
        c.param = data == BNORM_F64 ? BNORM_F64 : BNORM_F32;
        c.layout = layout;
        c.epsilon = 0;
        c.mode = BNORM_RUNNING_PER_GROUP;
        const Problem p(c);
        const Outputs out = p.run(Operation::kBackward, BNORM_SERIAL);
        const Expected expected = expect_backward(p);
        for (int64_t g = 0; g < shape.g; ++g)
          for (int64_t channel = 0; channel < shape.c; ++channel) check_invariants(p, out, expected, g, channel);
      }
}

}  // namespace bnorm_tests::test_gradients
