// SPDX-License-Identifier: Apache-2.0
// Published faults: running statistics, from empty batches and single values to momentum, Bessel's correction and Inf.
#include <cmath>

#include "faults.hh"

namespace bnorm_tests::test_faults_running {
namespace {

constexpr Operation kForward[] = {Operation::kTrain, Operation::kParts};

/// Running statistics of one channel after a batch {x...} with the given factor, from (mean, var).
struct Running {
  double mean, var;
};
Running after(Case c, const std::vector<double>& x, double factor, const Running& before, Operation operation) {
  c.average_factor = factor;
  Problem p = with_x(c, x);
  p.inputs().running_mean = {before.mean};
  p.inputs().running_var = {before.var};
  const Outputs out = run(p, operation);
  return {out.running_mean[0], out.running_var[0]};
}

/// The inputs of the next batch start where `out` left the running statistics.
void carry_over(const Outputs& out, Problem& next) {
  next.inputs().running_mean = out.running_mean;
  next.inputs().running_var = out.running_var;
}

}  // namespace

// pytorch/pytorch#12013, google-deepmind/sonnet#125, tensorflow/tensorflow#33444: moments of nothing are NaN and enter.
TEST_CASE("fault: an empty batch turns the running mean into NaN") {
  each_way([](Layout layout) {
    for (const Shape& shape : {Shape{1, 0, 5, 9}, Shape{1, 3, 5, 0}, Shape{1, 4, 5, 9}})
      for (const Operation operation : kForward) {
        Case c = case_of(shape, layout);
        if (shape.elements() > 0) c.batch = 0;
        const Problem p(c);
        const Outputs out = run(p, operation);
        CHECK(out.running_mean == p.inputs().running_mean);
        CHECK(out.running_var == p.inputs().running_var);
        CHECK(out.mean == all(5, 0));
        CHECK(out.inv_std == all(5, 0));
      }
  });
}

// pytorch/pytorch#29578, pytorch/pytorch#40806: (0, 64, 112, 112) in inference.
TEST_CASE("fault: an empty batch ends in a division by zero") {
  each_way([](Layout layout) {
    const Case c = case_of({1, 0, 64, 112 * 112}, layout);
    for (const Operation operation : {Operation::kInfer, Operation::kPrepared, Operation::kTrain})
      CHECK(run(Problem(c), operation).status == BNORM_OK);
  });
  const std::vector<float> running(64, 1.0f);
  CHECK(bnorm_infer_f32(0, 64, 12544, nullptr, nullptr, nullptr, nullptr, running.data(), running.data(), 1e-5) ==
        BNORM_OK);
}

// tensorflow/tensorflow#14657, pytorch/pytorch#189831: backward of an empty batch; its gradients of the parameters are
// sums of nothing.
TEST_CASE("fault: an empty batch leaves no gradients of the parameters") {
  each_way([](Layout layout) {
    for (const Shape& shape : {Shape{1, 0, 4, 9}, Shape{1, 3, 4, 0}})
      for (const bool frozen : {false, true}) {
        Case c = case_of(shape, layout);
        c.frozen = frozen;
        for (const Operation operation : {Operation::kBackward, Operation::kBackwardParts}) {
          const Outputs out = run(Problem(c), operation);
          CHECK(out.dscale == all(4, 0));
          CHECK(out.dshift == all(4, 0));
        }
      }
  });
}

// pytorch/pytorch#120803: a 0 x 0 input divides by the number of channels.
TEST_CASE("fault: no channels end in a division by zero") {
  each_way([](Layout layout) {
    for (const Shape& shape : {Shape{1, 0, 0, 1}, Shape{1, 3, 0, 4}, Shape{0, 3, 2, 4}})
      for (int operation = 0; operation < kOperations; ++operation)
        CHECK(run(Problem(case_of(shape, layout)), static_cast<Operation>(operation)).status == BNORM_OK);
  });
  CHECK(bnorm_train_f32(0, 0, 1, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 0) ==
        BNORM_OK);
}

// pytorch/pytorch#1381, FluxML/Flux.jl#1992, tensorflow/tensorflow#34062: Bessel's m / (m - 1) with m = 1.
TEST_CASE("fault: one value per channel makes the running variance NaN") {
  each_way([](Layout layout) {
    for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
      for (const Operation operation : kForward) {
        Case c = case_of({1, 1, 19, 1}, layout, data);
        c.average_factor = 0.25;
        Problem p = with_x(c, values(19, [](int64_t i) { return i == 0 ? 0 : static_cast<double>(i) - 9; }));
        p.inputs().running_mean = all(19, 8);
        p.inputs().running_var = all(19, 1);
        p.inputs().shift = values(19, [](int64_t i) { return 0.5 * static_cast<double>(i); });
        const Outputs out = run(p, operation);
        CHECK(out.y == p.inputs().shift);
        CHECK(out.running_var == all(19, 0.75));
        for (size_t i = 0; i < 19; ++i) CHECK(out.running_mean[i] == 6 + 0.25 * p.inputs().x[i]);
      }
  });
}

// torch/nn#1271: 101 samples in batches of 10 end with a batch of 1.
TEST_CASE("fault: the odd last batch of an epoch ruins the running variance") {
  each_way([](Layout layout) {
    Case c = case_of({1, 10, 3, 1}, layout, BNORM_F64);
    Outputs out = run(Problem(c), Operation::kTrain);
    for (uint64_t batch = 1; batch < 11; ++batch) {
      c.seed = batch + 1;
      c.batch = batch < 10 ? 10 : 1;
      Problem p(c);
      carry_over(out, p);
      out = check_bounds(p, Operation::kTrain);
      for (size_t i = 0; batch == 10 && i < 3; ++i) {
        const double before = p.inputs().running_var[i];
        CHECK(before > 0.3);
        CHECK(out.running_var[i] == before + c.average_factor * (0 - before));
      }
    }
  });
}

// PaddlePaddle/Paddle#51120, intel/ipex-llm#2872: momentum weighed the old value on one path, the new one on another.
TEST_CASE("fault: momentum means the weight of the new batch here and of the old one there") {
  each_way([](Layout layout) {
    for (const Operation operation : kForward) {
      const Running r = after(case_of({1, 2, 1, 1}, layout), {0, 2}, 0.25, {0, 0}, operation);
      CHECK(r.mean == 0.25);
      CHECK(r.var == 0.5);
    }
  });
  const float x[2] = {0, 2};
  float y[2], mean[1] = {0}, var[1] = {0};
  REQUIRE(bnorm_train_f32(2, 1, 1, x, y, nullptr, nullptr, nullptr, nullptr, mean, var, 1e-5, 0.25) == BNORM_OK);
  CHECK(mean[0] == 0.25f);
  CHECK(var[0] == 0.5f);
}

// pytorch/pytorch#15298: which end keeps the running statistics and which replaces them.
TEST_CASE("fault: momentum of 0 and 1 neither keeps nor replaces") {
  each_way([](Layout layout) {
    for (const Operation operation : kForward)
      for (const double old : {0.1, 1e30, kNaN}) {
        const Case c = case_of({1, 2, 1, 1}, layout);
        const Running kept = after(c, {0.25, 0.75}, 0, {old, 0.1}, operation);
        CHECK((std::isnan(old) ? std::isnan(kept.mean) : kept.mean == static_cast<float>(old)));
        CHECK(kept.var == 0.1f);
        const Running replaced = after(c, {0.25, 0.75}, 1, {old, old}, operation);
        CHECK(replaced.mean == 0.5);
        CHECK(replaced.var == 0.125);
      }
  });
}

// chainer/chainer#332: the mean was multiplied by m / (m - 1) too.
TEST_CASE("fault: Bessel's correction is applied to the running mean") {
  each_way([](Layout layout) {
    for (const Operation operation : kForward)
      CHECK(after(case_of({1, 2, 1, 1}, layout), {0.5, 1.5}, 1, {0, 0}, operation).mean == 1);
  });
}

// tensorflow/tensorflow#55545, tenstorrent/tt-metal#55438: one path stores the corrected variance, another the biased
// one.
TEST_CASE("fault: the running variance is biased on one path and unbiased on another") {
  each_way([](Layout layout) {
    for (const bool biased : {false, true})
      for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
        for (const Operation operation : kForward) {
          Case c = case_of({1, 2, 1, 2}, layout, data);
          c.biased = biased;
          CHECK(after(c, {1, 2, 3, 4}, 1, {0, 0}, operation).var == rounded(c.param, biased ? 1.25 : 5.0 / 3));
        }
  });
}

// keras-team/keras#8982: about 0.5 where the variance is 1. All four batches of two values -1 and 1 stand for the
// distribution, and a cumulative average for its expectation.
TEST_CASE("fault: in batches of two the running variance settles at half of the true one") {
  const double batches[4][2] = {{1, 1}, {1, -1}, {-1, 1}, {-1, -1}};
  each_way([&](Layout layout) {
    for (const bool biased : {false, true}) {
      Case c = case_of({1, 2, 1, 1}, layout, BNORM_F64);
      c.biased = biased;
      Running r = {kNaN, kNaN};  // what a cumulative average starts from does not matter
      for (int k = 0; k < 4; ++k) r = after(c, {batches[k][0], batches[k][1]}, 1.0 / (k + 1), r, Operation::kTrain);
      // Four updates of three roundings, of values up to 2.
      CHECK(std::fabs(r.mean) <= 4 * 3 * 2 * 0x1p-53);
      CHECK(std::fabs(r.var - (biased ? 0.5 : 1)) <= 4 * 3 * 2 * 0x1p-53);
    }
  });
}

// apache/mxnet#14357: it stays at 1 where another path decays it to 0.9^100.
TEST_CASE("fault: the running variance of zeros does not decay") {
  each_way([](Layout layout) {
    Problem p = with_x(case_of({1, 1, 3, 25}, layout), all(75, 0));
    p.inputs().running_mean = all(3, 0);
    p.inputs().running_var = all(3, 1);
    for (int step = 0; step < 100; ++step) carry_over(run(p, Operation::kTrain), p);
    CHECK(p.inputs().running_mean == all(3, 0));
    // One rounding to f32 a step.
    for (const double v : p.inputs().running_var) CHECK(std::fabs(v / std::pow(0.9, 100) - 1) <= 101 * 0x1p-24);
  });
}

// apache/mxnet#18673: no update where the layer has neither scale nor shift.
TEST_CASE("fault: without scale and shift the running statistics stand still") {
  each_way([](Layout layout) {
    for (const Operation operation : kForward) {
      Case c = case_of({1, 4, 5, 6}, layout);
      const Outputs with = check_bounds(Problem(c), operation);
      c.nulls = kNoScale | kNoShift;
      const Outputs without = check_bounds(Problem(c), operation);
      CHECK(without.running_mean == with.running_mean);
      CHECK(without.running_var == with.running_var);
    }
  });
}

// microsoft/onnxruntime#29790: y of a training step differed with the momentum.
TEST_CASE("fault: the output of training depends on momentum") {
  each_way([](Layout layout) {
    Case c = case_of({1, 2, 4, 3}, layout);
    const Outputs tenth = check_bounds(Problem(c), Operation::kTrain);
    for (const double factor : {0.0, 0.5, 1.0}) {
      c.average_factor = factor;
      const Outputs out = run(Problem(c), Operation::kTrain);
      CHECK(out.y == tenth.y);
      CHECK(out.inv_std == tenth.inv_std);
    }
  });
}

// apache/mxnet#9216: an output of one name holds the other quantity.
TEST_CASE("fault: variance and inverse standard deviation change names") {
  each_way([](Layout layout) {
    Case c = plain_case({1, 2, 1, 1}, layout);
    c.epsilon = 3;
    for (const Operation operation : kForward) {
      const Outputs out = run(with_x(c, {1, 3}), operation);
      CHECK(out.mean[0] == 2);
      CHECK(out.inv_std[0] == 0.5);
      CHECK(out.running_mean[0] == 2);
      CHECK(out.running_var[0] == 1);
    }
  });
}

// patrick-kidger/equinox#1010: a bias-corrected average divides 0 by 0 before its first step.
TEST_CASE("fault: inference before the first training step is NaN") {
  each_way([](Layout layout) {
    Case c = plain_case({1, 3, 4, 5}, layout);
    c.epsilon = 0;
    Problem p(c);
    p.inputs().running_mean = all(4, 0);
    p.inputs().running_var = all(4, 1);
    CHECK(run(p, Operation::kInfer).y == p.inputs().x);
  });
}

// pytorch/pytorch#96136, pytorch/pytorch#90342: recomputing the forward pass, or normalizing alone, cannot be had
// without an update.
TEST_CASE("fault: a forward pass computed again updates the running statistics again") {
  each_way([](Layout layout) {
    Case c = case_of({1, 5, 6, 7}, layout);
    const Outputs first = check_bounds(Problem(c), Operation::kTrain);
    c.nulls = kNoRunningMean | kNoRunningVar;
    for (const Operation operation : kForward) {
      const Outputs again = run(Problem(c), operation);
      CHECK(again.y == first.y);
      CHECK(again.mean == first.mean);
      CHECK(again.running_mean.empty());
    }
  });
}

// pytorch/pytorch#88474, pytorch/pytorch#90342: one overflow in mixed precision, and inference is NaN ever after.
TEST_CASE("fault: one Inf ruins the running statistics for good") {
  constexpr int64_t kBad = 2;
  each_way([](Layout layout) {
    for (const double bad : {kInf, -kInf, kNaN})
      for (const Operation operation : kForward) {
        Case c = case_of({1, 4, 5, 6}, layout);
        c.guard = true;
        Problem first(c), clean(c);
        c.seed = 2;
        Problem dirty(c), last(c);
        dirty.inputs().x[dirty.index(0, 3, kBad, 5)] = bad;
        carry_over(run(first, operation), dirty);
        carry_over(run(first, operation), clean);
        const Outputs out = run(dirty, operation);
        CHECK(out.status == BNORM_NONFINITE);
        CHECK(std::isnan(out.y[dirty.index(0, 0, kBad, 0)]));
        last.inputs() = first.inputs();
        carry_over(out, last);
        const Outputs end = check_bounds(last, operation), skipped = check_bounds(clean, operation);
        // The channel is as if the bad batch had not been; the others have had all three.
        CHECK(end.status == BNORM_OK);
        CHECK(end.running_mean[kBad] == skipped.running_mean[kBad]);
        CHECK(end.running_var[kBad] == skipped.running_var[kBad]);
        for (size_t i = 0; i < 5; ++i) CHECK((i == kBad || end.running_var[i] != skipped.running_var[i]));
      }
  });
}

}  // namespace bnorm_tests::test_faults_running
