// SPDX-License-Identifier: Apache-2.0
// Numbers at the ends of the types: means that f32 cannot hold, the largest floats, subnormals.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "isas.hh"
#include "random.hh"
#include "reference.hh"

namespace bnorm_tests::test_extremes {
namespace {

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {{1, 6, 5, 200}, {1, 99, 20, 4}, {1, 400, 3, 1}, {1, 3000, 17, 1}};
  return all;
}

void check_against_reference(const Problem& p) {
  INFO(describe(p.config()));
  for (const Operation operation : {Operation::kTrain, Operation::kInfer, Operation::kBackward}) {
    const Outputs out = p.run(operation, BNORM_SERIAL);
    INFO("operation ", static_cast<int>(operation));
    CHECK(violation(expect(operation, p, out), out) == "");
  }
}

}  // namespace

TEST_CASE("extremes: N(1e7, 1) is normalized right although f32 holds neither its mean nor its deviations well") {
  for (const Shape& shape : shapes())
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast})
      for (const double mu : {1e3, 1e6, 1e7, -1e7}) {
        Case c;
        c.shape = shape;
        c.layout = layout;
        c.mu = mu;
        const Problem p(c);
        check_against_reference(p);
        // Independent of the bounds: y differs from its f64 evaluation by no more than f32 rounding of values of
        // order 1.
        const Outputs out = p.run(Operation::kTrain, BNORM_SERIAL);
        for (size_t i = 0; i < out.y.size(); ++i) {
          const size_t channel = i / static_cast<size_t>(shape.s) % static_cast<size_t>(shape.c);
          const double scale = p.inputs().scale[channel], shift = p.inputs().shift[channel];
          const double x_hat = (p.inputs().x[i] - p.inputs().mean[channel]) * p.inputs().inv_std[channel];
          CHECK(std::fabs(out.y[i] - (x_hat * scale + shift)) <=
                0x1p-24 * 8 * (2 * std::fabs(x_hat * scale) + std::fabs(scale) + std::fabs(shift)));
        }
      }
}

TEST_CASE("extremes: a scale that is NaN with all bits of its payload makes bf16 outputs NaN") {
  for (const std::string& isa : isas())
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast})
      for (const int64_t channels : {3, 64}) {
        const IsaScope scope(isa);
        Case c;
        c.shape = {1, 2, channels, 77};
        c.layout = layout;
        c.data = BNORM_BF16;
        c.output = BNORM_BF16;
        Problem p(c);
        for (double& value : p.inputs().scale) value = std::bit_cast<double>(0x7fffffffe0000000);
        const Outputs y = p.run(Operation::kTrain, BNORM_SERIAL), dx = p.run(Operation::kBackward, BNORM_SERIAL);
        INFO(isa, ", ", describe(c));
        CHECK(std::all_of(y.y.begin(), y.y.end(), [](double v) { return std::isnan(v); }));
        CHECK(std::all_of(dx.dx.begin(), dx.dx.end(), [](double v) { return std::isnan(v); }));
      }
}

TEST_CASE("extremes: variances of N(1e6, 1) in f64 data and f64 statistics") {
  for (const Shape& shape : shapes()) {
    Case c;
    c.shape = shape;
    c.data = c.param = BNORM_F64;
    c.mu = 1e6;
    check_against_reference(Problem(c));
  }
}

TEST_CASE("extremes: the largest floats don't overflow, and a variance beyond f32 gives a right inv_std") {
  const double largest = std::numeric_limits<float>::max();
  for (const Shape& shape : shapes())
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
      Case c;
      c.shape = shape;
      c.layout = layout;
      Problem p(c);
      for (size_t i = 0; i < p.inputs().x.size(); ++i) p.inputs().x[i] = i * 7 / 3 % 2 == 0 ? largest : -largest;
      const Outputs out = p.run(Operation::kTrain, BNORM_SERIAL);
      INFO(describe(c));
      const Expected expected = expect_train(p, out);
      for (size_t i = 0; i < out.mean.size(); ++i) {
        CHECK(std::isfinite(out.mean[i]));
        CHECK(out.inv_std[i] > 0);
        CHECK(std::fabs(out.inv_std[i] - static_cast<double>(expected.inv_std.value[i])) <=
              static_cast<double>(expected.inv_std.bound[i]));
      }
      for (const double v : out.running_var) CHECK(v == std::numeric_limits<double>::infinity());
    }
}

TEST_CASE("extremes: deviations whose squares are subnormal in f64") {
  for (const std::string& isa : isas())
    for (const int64_t channels : {1, 20}) {
      INFO(isa);
      const IsaScope scope(isa);
      Case c;
      c.shape = {1, 4, channels, 4};
      c.data = c.param = BNORM_F64;
      c.epsilon = 0;
      Problem p(c);
      for (size_t i = 0; i < p.inputs().x.size(); ++i) p.inputs().x[i] = (i % 2 == 0 ? 1 : -1) * 0x1p-515;
      for (const double inv_std : p.run(Operation::kTrain, BNORM_SERIAL).inv_std)
        CHECK(std::fabs(inv_std * 0x1p-515 - 1) <= 1e-14);
    }
}

TEST_CASE("extremes: subnormal inputs are not flushed") {
  const double tiny = std::numeric_limits<float>::denorm_min();
  for (const Shape& shape : shapes())
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
      Case c;
      c.shape = shape;
      c.layout = layout;
      c.epsilon = 0;
      Problem p(c);
      Random random(3);
      for (double& x : p.inputs().x) x = tiny * static_cast<double>(random.below(1000));
      INFO(describe(c));
      const Outputs out = p.run(Operation::kTrain, BNORM_SERIAL);
      const Expected expected = expect_train(p, out);
      for (size_t i = 0; i < out.mean.size(); ++i) {
        CHECK(std::fabs(out.mean[i] - static_cast<double>(expected.mean.value[i])) <=
              static_cast<double>(expected.mean.bound[i]));
        CHECK(out.mean[i] > 0);
        CHECK(std::fabs(out.inv_std[i] - static_cast<double>(expected.inv_std.value[i])) <=
              static_cast<double>(expected.inv_std.bound[i]));
      }
    }
}

TEST_CASE("extremes: subnormal outputs are not flushed") {
  Case c;
  c.shape = {1, 40, 3, 5};
  Problem p(c);
  p.inputs().scale.assign(3, 0x1p-140);
  p.inputs().shift.assign(3, 0);
  const Outputs out = p.run(Operation::kTrain, BNORM_SERIAL);
  int64_t subnormal = 0;
  for (const double y : out.y) subnormal += y != 0 && std::fabs(y) < std::numeric_limits<float>::min();
  CHECK(subnormal > 500);
  CHECK(violation(expect_train(p, out), out) == "");
}

}  // namespace bnorm_tests::test_extremes
