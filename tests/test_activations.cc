// SPDX-License-Identifier: Apache-2.0
// Activations and 16-bit types, value by value: conversions of every 16-bit number, errors of the functions over their
// whole range, limits, and what y or the residual tell backward.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "bounds.hh"
#include "isas.hh"
#include "plan.hh"
#include "problem.hh"
#include "tensor.hh"

namespace bnorm_tests::test_activations {
namespace {

/// One channel of `values`, through mean 0 and variance 1: z is the value.
bnorm_desc line_desc(int64_t values, bnorm_type data, bnorm_type output) {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 1;
  d.channels = 1;
  d.spatial = values;
  d.data_type = data;
  d.output_type = output;
  d.epsilon = 0;
  return d;
}

/// The arrays of a call on such a line.
struct Line {
  Array x, mean, var;

  Line(const bnorm_desc& d, const std::vector<double>& values)
      : x(d.data_type, values.size(), Placement::kHeap, 0),
        mean(d.data_type == BNORM_F64 ? BNORM_F64 : BNORM_F32, 1, Placement::kHeap, 0),
        var(d.data_type == BNORM_F64 ? BNORM_F64 : BNORM_F32, 1, Placement::kHeap, 0) {
    x.fill(values);
    mean.fill({0});
    var.fill({1});
  }
  template <class Args>
  void give(Args& args) {
    args.x = x.data();
    args.running_mean = mean.data();
    args.running_var = var.data();
    args.executor = BNORM_SERIAL;
  }
};

std::vector<double> infer(const bnorm_desc& desc, const std::vector<double>& x) {
  Line line(desc, x);
  Array out(desc.output_type, x.size(), Placement::kHeap, 0);
  bnorm_infer_args args = BNORM_INFER_ARGS_INIT;
  line.give(args);
  args.y = out.data();
  REQUIRE(bnorm_infer(make_plan(desc).get(), &args) == BNORM_OK);
  return out.values();
}

/// dx = dy * activation'(x) of frozen statistics; dy is 1.
std::vector<double> slopes(bnorm_desc desc, const std::vector<double>& x) {
  desc.frozen = 1;
  Line line(desc, x);
  Array dy(desc.output_type, x.size(), Placement::kHeap, 0), dx(desc.data_type, x.size(), Placement::kHeap, 0);
  dy.fill(std::vector<double>(x.size(), 1));
  bnorm_backward_args args = BNORM_BACKWARD_ARGS_INIT;
  line.give(args);
  args.dy = dy.data();
  args.dx = dx.data();
  REQUIRE(bnorm_backward(make_plan(desc).get(), &args) == BNORM_OK);
  return dx.values();
}

std::vector<double> all_16_bit(bnorm_type type) {
  std::vector<double> r;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint64_t element = bits;  // little endian, as all targets
    r.push_back(load_element(type, &element));
  }
  return r;
}

/// Values of f32 that lie on, beside and between those of a 16-bit type.
std::vector<double> around_16_bit(bnorm_type type) {
  std::vector<double> r = {0,       -0.0,           kInf,           -kInf,      kNaN,          0x1p-149,
                           0x1p-25, 0x1.000002p-25, 0x1.fffffep-26, 65504,      65519.99,      65520,
                           65536,   0x1.fep127,     0x1.fefffep127, 0x1.ffp127, 0x1.fffffep127};
  for (const double value : all_16_bit(type)) {
    const float exact = static_cast<float>(value);
    if (!std::isfinite(exact)) continue;
    const float up = std::nextafter(exact, HUGE_VALF),
                half_up =
                    std::bit_cast<float>(std::bit_cast<uint32_t>(exact) + (type == BNORM_BF16 ? 0x8000u : 0x1000u));
    for (const float v : {exact, up, half_up, std::nextafter(half_up, HUGE_VALF), std::nextafter(half_up, -HUGE_VALF)})
      if (std::isfinite(v)) r.push_back(static_cast<double>(v));
  }
  return r;
}

/// z over all exponents, dense where the functions bend.
std::vector<double> range(bnorm_type type) {
  std::vector<double> r;
  for (int i = -4000; i <= 4000; ++i) r.push_back(i * 0.00317);
  for (int i = -1200; i <= 1200; ++i) r.push_back(i * 0.661);
  for (int e = -140; e <= 127; ++e)
    for (const double m : {1.0, 1.37, -1.0, -1.71}) r.push_back(std::ldexp(m, e));
  for (double& v : r) v = rounded(type, v);
  return r;
}

bnorm_desc activation_desc(bnorm_activation a, bnorm_type type, size_t values) {
  bnorm_desc d = line_desc(static_cast<int64_t>(values), type, type);
  d.activation = a;
  return d;
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("types: every 16-bit number comes in exactly") {
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      for (const bnorm_type type : {BNORM_BF16, BNORM_F16}) {
        const std::vector<double> x = all_16_bit(type), y = infer(line_desc(65536, type, BNORM_F32), x);
        int64_t wrong = 0;
        for (size_t i = 0; i < x.size(); ++i) wrong += !same(x[i] == 0 ? 0.0 : x[i], y[i] == 0 ? 0.0 : y[i]);
        INFO(isa, " type ", type);
        CHECK(wrong == 0);
      }
    }
  }

  TEST_CASE("types: f32 goes out to the nearest 16-bit number, ties to even") {
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      for (const bnorm_type type : {BNORM_BF16, BNORM_F16}) {
        const std::vector<double> x = around_16_bit(type);
        const std::vector<double> y = infer(line_desc(static_cast<int64_t>(x.size()), BNORM_F32, type), x);
        int64_t wrong = 0, first = 0;
        for (size_t i = 0; i < x.size(); ++i) {
          const double expected = rounded(type, x[i]);
          if (!same(expected == 0 ? 0.0 : expected, y[i] == 0 ? 0.0 : y[i]) && ++wrong == 1)
            first = static_cast<int64_t>(i);
        }
        INFO(isa, " type ", type, ", the first: ", x[static_cast<size_t>(first)]);
        CHECK(wrong == 0);
      }
    }
  }

  TEST_CASE("activations: values and derivatives within their bounds over the whole range") {
    for (const bnorm_type type : {BNORM_F32, BNORM_F64})
      for (bnorm_activation a = BNORM_IDENTITY; a < kActivations; ++a) {
        const std::vector<double> z = range(type);
        const bnorm_desc d = activation_desc(a, type, z.size());
        const Activation f = activation(d);
        const std::vector<double> y = infer(d, z), slope = slopes(d, z);
        for (const std::string& isa : isas()) {
          INFO("activation ", a, " type ", type, " on ", isa);
          const IsaScope scope(isa);
          CHECK(same_bits(infer(d, z), y));
          CHECK(same_bits(slopes(d, z), slope));
        }
        const long double u = roundoff(type);
        long double worst_value = 0, worst_slope = 0;
        for (size_t i = 0; i < z.size(); ++i) {
          const auto exact = static_cast<long double>(z[i]);
          const long double value_off = std::fabs(y[i] - f.value(exact)),
                            slope_off = std::fabs(slope[i] - f.slope(exact));
          // An exponential that is subnormal is off by half of the smallest number, and then multiplied by z, or in the
          // tanh form of GELU by a third power of it.
          const long double reach = std::min(std::fabs(exact), 1000.0L);
          const long double tiny = (4 + 4 * reach + reach * reach * reach) * smallest(type);
          INFO("activation ", a, " z ", z[i], " y ", y[i], " slope ", slope[i]);
          CHECK(value_off <= u * f.value_error(exact) + tiny);
          CHECK(slope_off <= u * f.slope_error(exact) + tiny);
          if (value_off > tiny) worst_value = std::max(worst_value, value_off / (u * f.value_error(exact)));
          if (slope_off > tiny) worst_slope = std::max(worst_slope, slope_off / (u * f.slope_error(exact)));
        }
        MESSAGE("activation ", a, " type ", type, " uses of its bounds ", static_cast<double>(worst_value), " ",
                static_cast<double>(worst_slope));
      }
  }
}

TEST_CASE("activations: NaN stays, infinities give the limits") {
  struct Limits {
    bnorm_activation activation;
    double low, high, low_slope, high_slope;
  };
  const Limits all[] = {{BNORM_IDENTITY, -kInf, kInf, 1, 1},
                        {BNORM_RELU, 0, kInf, 0, 1},
                        {BNORM_CLIP, 0, 6, 0, 0},
                        {BNORM_LEAKY_RELU, -kInf, kInf, 0.01, 1},
                        {BNORM_ELU, -1, kInf, 0, 1},
                        {BNORM_SIGMOID, 0, 1, 0, 0},
                        {BNORM_TANH, -1, 1, 0, 0},
                        {BNORM_SILU, 0, kInf, 0, 1},
                        {BNORM_HARD_SWISH, 0, kInf, 0, 1},
                        {BNORM_GELU, 0, kInf, 0, 1},
                        {BNORM_GELU_TANH, 0, kInf, 0, 1}};
  for (const bnorm_type type : {BNORM_F32, BNORM_F64})
    for (const Limits& l : all) {
      const bnorm_desc d = activation_desc(l.activation, type, 3);
      const std::vector<double> y = infer(d, {-kInf, kInf, kNaN}), slope = slopes(d, {-kInf, kInf, kNaN});
      INFO("activation ", l.activation);
      CHECK(y[0] == l.low);
      CHECK(y[1] == l.high);
      CHECK(std::isnan(y[2]));
      CHECK(slope[0] == rounded(type, l.low_slope));
      CHECK(slope[1] == l.high_slope);
    }
}

TEST_CASE("activations: a derivative by a rounded y is off by the slope of the derivative times that rounding") {
  struct Told {
    bnorm_activation activation;
    long double (*steepness)(long double);  // of the derivative by y
  };
  const Told all[] = {{BNORM_ELU, [](long double y) { return y < 0 ? 1.0L : 0.0L; }},
                      {BNORM_SIGMOID, [](long double y) { return std::fabs(1 - 2 * y); }},
                      {BNORM_TANH, [](long double y) { return 2 * std::fabs(y); }}};
  for (const bnorm_type type : {BNORM_F32, BNORM_BF16, BNORM_F16})
    for (const Told& told : all) {
      std::vector<double> z;
      for (int i = -600; i <= 600; ++i) z.push_back(rounded(BNORM_F32, i * 0.0317));
      bnorm_desc d = line_desc(static_cast<int64_t>(z.size()), BNORM_F32, type);
      d.activation = told.activation;
      const std::vector<double> y_values = infer(d, z);
      d.residual_added = 1;
      d.frozen = 1;
      Line line(d, z);
      Array y(type, z.size(), Placement::kHeap, 0), dy(type, z.size(), Placement::kHeap, 0),
          dresidual(type, z.size(), Placement::kHeap, 0);
      y.fill(y_values);
      dy.fill(std::vector<double>(z.size(), 1));
      bnorm_backward_args args = BNORM_BACKWARD_ARGS_INIT;
      line.give(args);
      args.y = y.data();
      args.dy = dy.data();
      args.dresidual = dresidual.data();
      REQUIRE(bnorm_backward(make_plan(d).get(), &args) == BNORM_OK);
      const std::vector<double> slope = dresidual.values();
      const Activation f = activation(d);
      const long double u = roundoff(BNORM_F32), o = type == BNORM_F32 ? 0 : roundoff(type);
      for (size_t i = 0; i < z.size(); ++i) {
        const long double exact = f.slope(z[i]), value = f.value(z[i]);
        const long double of_y = told.steepness(value) * ((o + 4 * u) * std::fabs(value) + u * f.value_error(z[i]));
        const long double off = std::fabs(slope[i] - exact);
        INFO("activation ", told.activation, " type ", type, " z ", z[i], " slope ", slope[i]);
        CHECK(off <= kSecondOrder * (of_y + u * f.slope_of_y_error(value) + o * exact) + smallest(type));
      }
    }
}

TEST_CASE("activations: backward refuses to guess what it needs behind a residual") {
  const auto check = [](bnorm_activation a, bool from_residual) {
    bnorm_desc d = activation_desc(a, BNORM_F32, 4);
    d.residual_added = 1;
    d.from_residual = from_residual;
    const PlanPointer plan = make_plan(d);
    const float x[4] = {1, 2, 3, 4}, dy[4] = {1, 1, 1, 1}, y[4] = {}, residual[4] = {};
    float dx[4] = {9, 9, 9, 9};
    const double mean = 0, inv_std = 1;
    bnorm_backward_args args = BNORM_BACKWARD_ARGS_INIT;
    args.x = x;
    args.dy = dy;
    args.dx = dx;
    args.mean = &mean;
    args.inv_std = &inv_std;
    const bool y_tells = activation(d).y_tells && !from_residual;
    (y_tells ? args.residual : args.y) = y_tells ? residual : y;
    CHECK(bnorm_backward(plan.get(), &args) == BNORM_INVALID_ARGUMENT);
    CHECK(std::string(bnorm_last_error()).find(y_tells ? "y = NULL" : "residual = NULL") != std::string::npos);
    CHECK(dx[0] == 9);
    args.y = y;
    args.residual = residual;
    CHECK(bnorm_backward(plan.get(), &args) == BNORM_OK);
  };
  for (bnorm_activation a = BNORM_RELU; a < kActivations; ++a)
    for (const bool from_residual : {false, true}) check(a, from_residual);
}

}  // namespace bnorm_tests::test_activations
