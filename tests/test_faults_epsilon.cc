// SPDX-License-Identifier: Apache-2.0
// Published faults: epsilon, and coefficients folded from the running statistics.
#include <cmath>

#include "faults.hh"
#include "refusal.hh"

namespace bnorm_tests::test_faults_epsilon {
namespace {

/// Every function that takes an epsilon must refuse this one.
void check_epsilon_refused(double epsilon, const char* text) {
  const auto refused = [&](bnorm_status status) {
    check_refusal(status, BNORM_INVALID_ARGUMENT, nullptr, {"epsilon", text, "finite and >= 0"});
  };
  for (const bool frozen : {false, true}) {
    bnorm_desc d = BNORM_DESC_INIT;
    d.epsilon = epsilon;
    d.frozen = frozen;
    bnorm_plan* plan = nullptr;
    refused(bnorm_plan_create(&plan, &d, nullptr));
    CHECK(plan == nullptr);
  }
  const float x[1] = {1}, running[1] = {1};
  float y[1] = {kUntouched}, running_mean[1] = {kUntouched}, running_var[1] = {kUntouched};
  refused(bnorm_infer_f32(1, 1, 1, x, y, nullptr, nullptr, running, running, epsilon));
  refused(bnorm_train_f32(1, 1, 1, x, y, nullptr, nullptr, nullptr, nullptr, running_mean, running_var, epsilon, 0.1));
  CHECK((y[0] == kUntouched && running_mean[0] == kUntouched && running_var[0] == kUntouched));
}

/// A problem of inference whose every channel has these statistics and parameters.
Problem inference(Layout layout, double mean, double var, double epsilon, double scale, double shift) {
  Case c = case_of({1, 3, 5, 7}, layout);
  c.epsilon = epsilon;
  Problem p(c);
  p.inputs().x = values(c.shape.elements(), [](int64_t i) { return static_cast<double>(i % 17) - 8; });
  p.inputs().running_mean = all(5, mean);
  p.inputs().running_var = all(5, var);
  p.inputs().scale = all(5, scale);
  p.inputs().shift = all(5, shift);
  return p;
}

/// Inference in one call and from prepared coefficients gives (x - mean) * gain + shift exactly.
void check_inference(const Problem& p, double mean, double gain, double shift) {
  for (const Operation operation : {Operation::kInfer, Operation::kPrepared}) {
    const Outputs out = run(p, operation);
    for (size_t i = 0; i < out.y.size(); ++i) CHECK(out.y[i] == (p.inputs().x[i] - mean) * gain + shift);
  }
}

}  // namespace

// pytorch/pytorch#166405, tensorflow/tensorflow#59399, apache/tvm#12590: each device or compiler made something else
// of it, NaN, Inf or a crash.
TEST_CASE("fault: an epsilon of -1 or less is taken") {
  check_epsilon_refused(-1, "-1");
  check_epsilon_refused(-1.5, "-1.5");
  check_epsilon_refused(-1e30, "-1e+30");
}

// ml-explore/mlx#4312, tensorflow/tensorflow#122612: channels whose variance is smaller become NaN, the others not.
TEST_CASE("fault: a slightly negative epsilon makes some channels NaN") {
  check_epsilon_refused(-1e-5, "-1e-05");
  check_epsilon_refused(-std::numeric_limits<double>::denorm_min(), "-4.94066e-324");
}

// pytorch/pytorch#189831: backward ran with an epsilon of -Inf.
TEST_CASE("fault: an epsilon that is not finite is taken") {
  check_epsilon_refused(kNaN, "nan");
  check_epsilon_refused(kInf, "inf");
  check_epsilon_refused(-kInf, "-inf");
}

// pytorch/pytorch#173337: too strict a check; pytorch/pytorch#141203: 9.87654e9 is odd but legal.
TEST_CASE("fault: an epsilon of 0 is refused although every variance is positive") {
  each_way([](Layout layout) {
    check_inference(inference(layout, 1, 4, 0, 2, 3), 1, 1, 3);
    check_inference(inference(layout, 1, 0, 0x1p34, 1, 0), 1, 0x1p-17, 0);
    check_bounds(inference(layout, 1, 2, 9.87654e9, 1, 3), Operation::kInfer);
  });
}

// Tencent/ncnn#303, tensorflow/tensorflow#122612: Inf or NaN where the documented limit is the shift.
TEST_CASE("fault: an epsilon of 0 and a variance of 0 divide by zero") {
  each_way([](Layout layout) {
    check_inference(inference(layout, 1, 0, 0, 2, 3), 1, 0, 3);
    Case c = plain_case({1, 4, 3, 9}, layout);
    c.epsilon = 0;
    Problem p = with_x(c, all(108, 0.1f));
    const Outputs gradients = train_and_differentiate(p);
    CHECK(p.inputs().inv_std == all(3, 0));
    CHECK(run(p, Operation::kTrain).y == all(108, 0));
    CHECK(gradients.dx == all(108, 0));
    CHECK(gradients.dscale == all(3, 0));
  });
}

// Tencent/ncnn#303: in the review of its fix, epsilon is added to the root instead of to the variance.
TEST_CASE("fault: epsilon is added outside the root") {
  each_way([](Layout layout) {
    check_inference(inference(layout, 1, 0, 0x1p-16, 1, 0), 1, 256, 0);
    check_inference(inference(layout, 1, 3, 1, 1, 0), 1, 0.5, 0);
  });
}

// pytorch/vision#648: variances near 1e-14 leave a gain of 1e7 where epsilon is dropped.
TEST_CASE("fault: folding tiny variances drops epsilon") {
  each_way([](Layout layout) {
    for (const double var : {1.8647e-14, 3.74e-14}) {
      const Problem p = inference(layout, 0, static_cast<float>(var), 1e-3, 1, 0.5);
      CHECK(difference(check_bounds(p, Operation::kInfer), check_bounds(p, Operation::kPrepared)) == "");
    }
  });
}

// tenstorrent/tt-metal#5317: without a bias of the convolution, mean and shift are lost.
TEST_CASE("fault: folding without a bias loses mean and shift") {
  each_way([](Layout layout) { check_inference(inference(layout, 1, 3, 1, 1, 2), 1, 0.5, 2); });
}

// LeelaChessZero/lc0#779: folding had to be done again for scales that are negative or zero.
TEST_CASE("fault: folding fails for negative and zero scale") {
  each_way([](Layout layout) {
    check_inference(inference(layout, 1, 3, 1, -1, 2), 1, -0.5, 2);
    check_inference(inference(layout, 1, 3, 1, 0, 2), 1, 0, 2);
  });
}

// apple/coreai-torch#54: variances beyond the range of the data's type became Inf and the output 0; tiny ones lost
// their bits.
TEST_CASE("fault: the running variance is rounded to the 16-bit type of the data") {
  each_way([](Layout layout) {
    for (const double var : {0x1p17, 100001.0, 1.2345e-8}) {
      Case c = case_of({1, 3, 5, 7}, layout, BNORM_BF16);
      c.sigma = std::sqrt(var);
      Problem p(c);
      p.inputs().running_var = all(5, static_cast<float>(var));
      check_bounds(p, Operation::kInfer);
      check_bounds(p, Operation::kPrepared);
    }
  });
}

}  // namespace bnorm_tests::test_faults_epsilon
