// SPDX-License-Identifier: Apache-2.0
// 16-bit results: those of f32, rounded once, and so within 0.51 units of the exact ones where f32 has digits to spare.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "isas.hh"
#include "reference.hh"

namespace bnorm_tests::test_16_bit {
namespace {

using Values = std::vector<double>;

/// A unit in the last place of a number.
long double unit(bnorm_type type, long double value) {
  int exponent;
  std::frexp(value, &exponent);
  const int least = type == BNORM_BF16 ? -126 : -14;
  return std::ldexp(2 * static_cast<long double>(roundoff(type)), std::max(exponent - 1, least));
}

void check_rounded(const char* name, bnorm_type type, const Values& narrow, Values wide) {
  INFO(name);
  for (double& v : wide) v = rounded(type, v);
  CHECK(narrow == wide);
}

/// Half a unit beside the error that f32 may have: of most results without an activation within 0.51.
void check_units(const char* name, bnorm_type type, const Values& narrow, const Bounded& exact, bool most) {
  INFO(name);
  REQUIRE(narrow.size() == exact.value.size());
  size_t close = 0;
  for (size_t i = 0; i < narrow.size(); ++i) {
    const long double one = unit(type, exact.value[i]);
    const long double off = std::fabs(narrow[i] - exact.value[i]), allowed = 0.5L * one + exact.bound[i];
    INFO(i, ": ", narrow[i], " is off by ", static_cast<double>(off / one), " units");
    CHECK(off <= allowed);
    close += allowed <= 0.51L * one;
  }
  if (most) CHECK(2 * close >= narrow.size());
}

void check_case(const Case& narrow, Operation operation) {
  Case wide = narrow;
  wide.data = wide.output = wide.param = BNORM_F32;
  const Problem problem(narrow);
  Problem in_f32(wide);
  in_f32.inputs() = problem.inputs();
  const Outputs actual = problem.run(operation, BNORM_SERIAL), exact = in_f32.run(operation, BNORM_SERIAL);
  const Expected expected = expect(operation, in_f32, exact);
  const bnorm_type data = narrow.data, output = output_type(narrow), param = narrow.param;
  check_rounded("y", output, actual.y, exact.y);
  check_rounded("dx", data, actual.dx, exact.dx);
  check_rounded("dresidual", output, actual.dresidual, exact.dresidual);
  check_rounded("dscale", param, actual.dscale, exact.dscale);
  check_rounded("dshift", param, actual.dshift, exact.dshift);
  check_rounded("running_mean", param, actual.running_mean, exact.running_mean);
  check_rounded("running_var", param, actual.running_var, exact.running_var);
  CHECK(actual.mean == exact.mean);
  CHECK(actual.inv_std == exact.inv_std);
  if (narrow.from_output) return;
  const bool most = narrow.activation == BNORM_IDENTITY;
  check_units("y", output, actual.y, expected.y, most);
  check_units("dx", data, actual.dx, expected.dx, most);
  check_units("dscale", param, actual.dscale, expected.dscale, most);
  check_units("dshift", param, actual.dshift, expected.dshift, most);
}

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("16-bit: results of f32, rounded once") {
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      for (const bnorm_type type : {BNORM_BF16, BNORM_F16})
        for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast})
          for (const bnorm_activation activation : {BNORM_IDENTITY, BNORM_LEAKY_RELU, BNORM_SILU}) {
            Case c;
            c.shape = {1, 12, 17, 30};
            c.data = c.param = type;
            c.layout = layout;
            c.activation = activation;
            c.residual = activation == BNORM_SILU;
            for (const Operation operation : {Operation::kInfer, Operation::kTrain, Operation::kBackward}) {
              INFO("ISA ", isa, " operation ", static_cast<int>(operation), ' ', describe(c));
              check_case(c, operation);
            }
            if (c.residual) continue;
            c.from_output = true;
            check_case(c, Operation::kBackward);
          }
    }
  }

  TEST_CASE("16-bit: results of more channels than maps take at once") {
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      for (const bnorm_type type : {BNORM_BF16, BNORM_F16}) {
        Case c;
        c.shape = {1, 4, 4130, 2};
        c.data = c.param = type;
        c.layout = Layout::kChannelsLast;
        for (const Operation operation : {Operation::kInfer, Operation::kBackward}) {
          INFO("ISA ", isa, " operation ", static_cast<int>(operation), ' ', describe(c));
          check_case(c, operation);
        }
      }
    }
  }
}

}  // namespace bnorm_tests::test_16_bit
