// SPDX-License-Identifier: Apache-2.0
// What the tests of published faults share. Each of them cites the public threads, as repository#number, of a fault
// that other libraries' batch normalization has had, and shows that this one does not have it.
#pragma once
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "isas.hh"
#include "plan.hh"
#include "reference.hh"

namespace bnorm_tests {

constexpr float kUntouched = 7;  // fills outputs that must not be written

/// Calls check() with every ISA of this machine.
template <class Check>
void each_isa(Check check) {
  for (const std::string& isa : isas()) {
    const IsaScope scope(isa);
    INFO(isa);
    check();
  }
}

/// Calls check(layout) for both layouts with every ISA of this machine.
template <class Check>
void each_way(Check check) {
  each_isa([&] {
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
      INFO(std::string(layout == Layout::kPlanar ? "planar" : "channels-last"));
      check(layout);
    }
  });
}

inline Case case_of(const Shape& shape, Layout layout, bnorm_type data = BNORM_F32) {
  Case c;
  c.shape = shape;
  c.layout = layout;
  c.data = data;
  c.param = data == BNORM_F64 ? BNORM_F64 : BNORM_F32;
  return c;
}

/// The same without scale and shift, and with running statistics that the biased variance replaces.
inline Case plain_case(const Shape& shape, Layout layout, bnorm_type data = BNORM_F32) {
  Case c = case_of(shape, layout, data);
  c.nulls = kNoScale | kNoShift;
  c.biased = true;
  c.average_factor = 1;
  return c;
}

/// `count` values, f(i) each.
template <class F>
std::vector<double> values(int64_t count, F f) {
  std::vector<double> r;
  for (int64_t i = 0; i < count; ++i) r.push_back(f(i));
  return r;
}

inline std::vector<double> all(size_t count, double value) { return std::vector<double>(count, value); }

inline int64_t channel_of(const Shape& shape, size_t element) {
  return static_cast<int64_t>(element) / shape.s % shape.c;
}

inline Problem with_x(const Case& c, std::vector<double> x) {
  Problem p(c);
  p.inputs().x = std::move(x);
  return p;
}

inline Outputs run(const Problem& p, Operation operation) { return p.run(operation, BNORM_SERIAL); }

/// Runs the operation and checks its outputs against the formulas in long double.
inline Outputs check_bounds(const Problem& p, Operation operation) {
  Outputs out = run(p, operation);
  CHECK(violation(expect(operation, p, out), out) == "");
  return out;
}

/// Trains, hands the saved statistics on to the inputs, and returns the gradients.
inline Outputs train_and_differentiate(Problem& p, Operation operation = Operation::kBackward) {
  const Outputs forward = check_bounds(p, Operation::kTrain);
  p.inputs().mean = forward.mean;
  p.inputs().inv_std = forward.inv_std;
  return check_bounds(p, operation);
}

/// Partial moments of one call of one group: count, means, M2s.
inline std::vector<double> moments_of(const bnorm_desc& desc, const void* x) {
  const PlanPointer plan = make_plan(desc);
  bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
  a.x = x;
  std::vector<double> moments(bnorm_plan_partials_count(plan.get()));
  REQUIRE(bnorm_moments(plan.get(), &a, moments.data()) == BNORM_OK);
  return moments;
}

/// The same of a tensor in which each channel repeats the values of `period`. Its strides find them in the same memory
/// again and again, so that it may have any number of elements.
inline std::vector<double> moments_of_repeated(Layout layout, int64_t channels, int64_t repeats,
                                               const std::vector<float>& period) {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = repeats;
  d.channels = channels;
  d.spatial = static_cast<int64_t>(period.size());
  const bool planar = layout == Layout::kPlanar;
  d.x = planar ? bnorm_strides{0, 0, 0, 1} : bnorm_strides{0, 0, 1, channels};
  std::vector<float> x;
  for (const float v : period) x.insert(x.end(), planar ? 1 : static_cast<size_t>(channels), v);
  return moments_of(d, x.data());
}

}  // namespace bnorm_tests
