// SPDX-License-Identifier: Apache-2.0
// Published faults: missing parameters, in-place calls, and gradients.
#include <cmath>

#include "faults.hh"

namespace bnorm_tests::test_faults_gradients {
namespace {

constexpr Operation kBackward[] = {Operation::kBackward, Operation::kBackwardParts};

}  // namespace

// intel/ipex-llm#2012, Oneflow-Inc/oneflow#7574, tensorflow/tensorflow#58999: NULL or empty parameters were read.
TEST_CASE("fault: a layer without scale and shift fails, forward or backward") {
  each_way([](Layout layout) {
    for (const bool relu : {false, true})
      for (const unsigned nulls : {kNoScale | kNoShift, +kNoScale, +kNoShift}) {
        Case c = case_of({1, 2, 3, 7}, layout);
        c.activation = relu_if(relu);
        Problem with(c);
        c.nulls = nulls;
        const Problem without(c);
        if ((nulls & kNoScale) != 0) with.inputs().scale = all(3, 1);
        if ((nulls & kNoShift) != 0) with.inputs().shift = all(3, 0);
        for (int operation = 0; operation < kOperations; ++operation)
          CHECK(difference(run(without, static_cast<Operation>(operation)),
                           run(with, static_cast<Operation>(operation))) == "");
      }
  });
}

// mapillary/inplace_abn#92: the absolute value of scale, so negative ones flip the result.
TEST_CASE("fault: in place, a negative scale counts as positive") {
  each_way([](Layout layout) {
    for (const bool relu : {false, true}) {
      Case c = case_of({1, 5, 20, 3}, layout);
      c.activation = relu_if(relu);
      for (const bool in_place : {false, true}) {
        c.in_place = in_place;
        Problem p(c);
        p.inputs().scale = all(20, -1);
        check_bounds(p, Operation::kInfer);
        train_and_differentiate(p);
      }
    }
  });
}

// mapillary/inplace_abn#15, mapillary/inplace_abn#92: an activation or a scale that has no inverse divides by zero
// where backward finds x again from y. Here backward reads x, and the forward call alone was in place.
TEST_CASE("fault: after an in-place forward with ReLU, backward inverts what has no inverse") {
  each_way([](Layout layout) {
    for (const double scale : {0.0, 1e-30, 1.0}) {
      Case c = case_of({1, 4, 3, 10}, layout);
      c.in_place = true;
      c.activation = BNORM_RELU;
      Problem p(c);
      p.inputs().scale = all(3, static_cast<float>(scale));
      p.inputs().shift = {1, 0, -1};
      const Outputs in_place = train_and_differentiate(p);
      c.in_place = false;
      Problem apart(c);
      apart.inputs() = p.inputs();
      CHECK(difference(check_bounds(apart, Operation::kBackward), in_place) == "");
      if (scale != 0) continue;
      CHECK(in_place.dx == all(120, 0));
      CHECK(in_place.dshift[0] != 0);
      CHECK(in_place.dshift[1] == 0);  // z = 0 throughout
      CHECK(in_place.dshift[2] == 0);
    }
  });
}

// mapillary/inplace_abn#155: the gradient of sum(), all ones, was written to and spoiled. dx may be dy or x (odd
// seeds); where it is neither, all inputs are checked to be as they were.
TEST_CASE("fault: in-place backward of a gradient of ones is wrong") {
  each_way([](Layout layout) {
    for (const uint64_t seed : {1, 2}) {
      Case c = case_of({1, 2, 5, 240}, layout);
      c.activation = BNORM_RELU;
      c.seed = seed;
      Problem apart(c);
      apart.inputs().dy = all(2400, 1);
      c.in_place = true;
      Problem in_place(c);
      in_place.inputs().dy = all(2400, 1);
      for (const Operation operation : kBackward)
        CHECK(difference(run(in_place, operation), check_bounds(apart, operation)) == "");
    }
  });
}

// pytorch/xla#913, tensorflow/tensorflow#10857: terms of batch statistics enter where the statistics are frozen.
TEST_CASE("fault: the gradient of frozen statistics has the terms of batch statistics") {
  each_way([](Layout layout) {
    for (const Operation operation : kBackward) {
      Case c = case_of({1, 4, 5, 3}, layout);
      c.nulls = kNoScale;
      c.frozen = true;
      c.epsilon = 0x1p-6;
      Problem p(c);
      p.inputs().running_mean = all(5, 0);
      p.inputs().running_var = all(5, 4 - 0x1p-6);
      p.inputs().dy = all(60, 1);
      const Outputs out = check_bounds(p, operation);
      CHECK(out.dx == all(60, 0.5));
      CHECK(out.dshift == all(5, 12));
    }
  });
}

// torch/nn#768: saved buffers that no forward call had filled made it NaN; pytorch/pytorch#586: the same pass twice
// gave two results.
TEST_CASE("fault: backward of inference needs saved statistics, or differs the second time") {
  each_way([](Layout layout) {
    Case c = case_of({1, 4, 3, 10}, layout);
    c.frozen = true;
    Problem p(c);
    p.inputs().mean.clear();
    p.inputs().inv_std.clear();
    for (const Operation operation : kBackward) CHECK(difference(check_bounds(p, operation), run(p, operation)) == "");
  });
}

// FluxML/Flux.jl#2096, keras-team/keras#2960: the derivative of a root at 0.
TEST_CASE("fault: the gradient of a constant channel is NaN") {
  each_way([](Layout layout) {
    for (const double value : {0.0, 1.0, 1e10})
      for (const Operation operation : kBackward) {
        Case c = case_of({1, 2, 3, 8}, layout);
        c.epsilon = 0x1p-16;
        Problem p = with_x(c, all(48, rounded(BNORM_F32, value)));
        p.inputs().scale = all(3, 2);
        // Its mean over each channel is 4.
        p.inputs().dy = values(48, [](int64_t i) { return static_cast<double>(i % 8) + 0.5; });
        const Outputs out = train_and_differentiate(p, operation);
        CHECK(out.dscale == all(3, 0));
        CHECK(out.dshift == all(3, 64));
        for (size_t i = 0; i < 48; ++i) CHECK(out.dx[i] == 2 * (p.inputs().dy[i] - 4) * 256);
      }
  });
}

// pytorch/pytorch#156513, pytorch/pytorch#147303: gradients of 16-bit data with f32 parameters, wrong in one layout or
// NaN from sums in 16 bits.
TEST_CASE("fault: gradients of 16-bit data with f32 parameters are wrong in one layout") {
  each_isa([] {
    for (const Shape& shape : {Shape{1, 16, 3, 100}, Shape{1, 8, 40, 9}, Shape{1, 300, 5, 1}}) {
      Problem planar(case_of(shape, Layout::kPlanar, BNORM_BF16));
      Problem last(case_of(shape, Layout::kChannelsLast, BNORM_BF16));
      for (const Operation operation : kBackward)
        CHECK(difference(train_and_differentiate(last, operation), train_and_differentiate(planar, operation)) == "");
    }
  });
}

// ROCm/rocm-libraries#9030: the remainder of a vectorized sum counts some elements four times and skips others. All
// sums here are of small integers.
TEST_CASE("fault: gradient sums count the last elements wrong") {
  each_way([](Layout layout) {
    for (int64_t size = 1; size <= 70; ++size)
      for (const Shape& shape : {Shape{1, 1, 2, size}, Shape{1, size, 2, 1}, Shape{1, 3, 1, size}}) {
        Case c = case_of(shape, layout);
        c.nulls = kNoDx;
        Problem p(c);
        std::vector<double> dscale = all(static_cast<size_t>(shape.c), 0), dshift = dscale;
        p.inputs().mean = dscale;
        p.inputs().inv_std = all(dscale.size(), 1);
        for (size_t i = 0; i < p.inputs().x.size(); ++i) {
          const double x = static_cast<double>(i * 7 % 11), dy = static_cast<double>(i * 5 % 13);
          const auto channel = static_cast<size_t>(channel_of(shape, i));
          p.inputs().x[i] = x;
          p.inputs().dy[i] = dy;
          dscale[channel] += dy * x;
          dshift[channel] += dy;
        }
        const Outputs out = run(p, Operation::kBackward);
        CHECK(out.dscale == dscale);
        CHECK(out.dshift == dshift);
      }
  });
}

}  // namespace bnorm_tests::test_faults_gradients
