// SPDX-License-Identifier: Apache-2.0
// Published faults: cancellation, overflow, sums and counts in narrow types, NaN, subnormals.
#include <cmath>

#include "executors.hh"
#include "faults.hh"
#include "random.hh"

namespace bnorm_tests::test_faults_numbers {
namespace {

std::vector<double> normals(int64_t count, bnorm_type type, double mu, double sigma) {
  Random random(7);
  return values(count, [&](int64_t) { return rounded(type, mu + sigma * random.normal()); });
}

/// Values that are all the same must have exactly that mean, no variance, and normalize to 0.
void check_constant(const Shape& shape, Layout layout, bnorm_type data, double value) {
  Case c = plain_case(shape, layout, data);
  c.stats = BNORM_F64;
  Problem p = with_x(c, all(static_cast<size_t>(shape.elements()), rounded(data, value)));
  const auto channels = static_cast<size_t>(shape.c);
  const Outputs out = run(p, Operation::kTrain);
  INFO("value ", value);
  CHECK(out.mean == all(channels, rounded(data, value)));
  CHECK(out.running_var == all(channels, 0));
  for (const double inv_std : out.inv_std) CHECK(is_inverse_root(inv_std, c.epsilon));
  CHECK(out.y == all(p.inputs().x.size(), 0));
}

}  // namespace

// pytorch/pytorch#5410, tensorflow/tensorflow#117286: a rounded mean leaves differences that epsilon does not hide.
TEST_CASE("fault: a constant channel above 1e7 normalizes to +-1") {
  each_way([](Layout layout) {
    for (const double value : {1.6777217e7, 3.3e7, 1e10, -1e10, 1e15, 1.1e15, 3e38})
      for (const Shape& shape : {Shape{1, 1, 5, 100}, Shape{1, 33, 3, 4}, Shape{1, 3, 20, 1}})
        check_constant(shape, layout, BNORM_F32, value);
  });
}

// BVLC/caffe#3963: nine values of 100 had the mean 100.000015; numpy/numpy#27782: seven of 45^10 a deviation of 4.
TEST_CASE("fault: the mean of equal values is not that value") {
  each_way([](Layout layout) {
    for (const int64_t count : {7, 9, 11, 100, 1001})
      for (const Shape& shape : {Shape{1, count, 2, 1}, Shape{1, 1, 2, count}}) {
        for (const double value : {100.0, 0.1, -15.94}) check_constant(shape, layout, BNORM_F32, value);
        for (const double value : {std::pow(45.0, 10), 0.1, -1 / 3.0}) check_constant(shape, layout, BNORM_F64, value);
      }
  });
}

// numpy/numpy#20381, scikit-learn/scikit-learn#19546: 0 or 5.6e-17 by the strides of the same ten numbers.
TEST_CASE("fault: the variance of a constant depends on memory layout") {
  each_way([](Layout layout) {
    for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
      for (const int64_t channels : {1, 2, 17})
        for (const int64_t count : {10, 1000}) {
          check_constant({1, count, channels, 1}, layout, data, 0.1);
          check_constant({1, 1, channels, count}, layout, data, 0.1);
        }
  });
}

// tensorflow/tensorflow#117318: x * inv_std - mean * inv_std with a fused multiply-add left -1e10.
TEST_CASE("fault: inference of x = mean = 1e15 is not the shift") {
  each_way([](Layout layout) {
    for (const Operation operation : {Operation::kInfer, Operation::kPrepared}) {
      const double large = rounded(BNORM_F32, 1e15);
      Problem p = with_x(case_of({1, 2, 3, 19}, layout), all(114, large));
      p.inputs().running_mean = all(3, large);
      p.inputs().running_var = all(3, 0);
      p.inputs().shift = all(3, 0.75);
      CHECK(run(p, operation).y == all(114, 0.75));
    }
  });
}

// tensorflow/tensorflow#118701: NaN from negative variances at these offsets, forward and backward, in either layout.
TEST_CASE("fault: offsets of 1e4, 1e5, 1e6 and 1e7 make variances negative and outputs NaN") {
  each_way([](Layout layout) {
    for (const double offset : {1e4, 1e5, 1e6, 1e7})
      for (const int64_t channels : {1, 3, 8}) {
        Case c = case_of({1, 4, channels, 50}, layout);
        c.mu = offset;
        Problem p(c);
        train_and_differentiate(p);
      }
  });
}

// google/flax#1491, tensorflow/tensorflow#3290, keras-team/keras#18795: E[x^2] - E[x]^2 of nearly constant data. One
// value of m is one ulp off: the sum of squares about the mean is ulp^2 (m - 1) / m.
TEST_CASE("fault: the variance of nearly constant data is negative") {
  constexpr double kUlp = 0x1p-4;  // of f32 at 1e6
  // docs/numerics.md: of one block.
  constexpr double kRelative = 1024 * 140 * 0x1p-53;
  each_way([](Layout layout) {
    for (const int64_t m : {2, 9, 100, 1000})
      for (const int64_t odd : {int64_t{0}, m / 2, m - 1}) {
        Case c = plain_case({1, 1, 1, m}, layout);
        c.param = BNORM_F64;
        const Outputs out =
            run(with_x(c, values(m, [&](int64_t i) { return 1e6 + (i == odd ? kUlp : 0); })), Operation::kTrain);
        const double count = static_cast<double>(m), var = kUlp * kUlp * (count - 1) / count / count;
        CHECK(std::fabs(out.running_var[0] - var) <= kRelative * var);
      }
  });
}

// boostorg/accumulators#26: -79.9 for a variance of 1e-4; cellarium-ai/cellarium-ml#113: 20 % off at mean 151.
TEST_CASE("fault: the variance of many values far from 0 is wrong or negative") {
  each_way([](Layout layout) {
    for (const auto& [mu, sigma] : {std::pair{500.0, 0.01}, std::pair{151.0, 0.1}}) {
      Case c = plain_case({1, 5, 1, 2000}, layout);
      c.param = BNORM_F64;
      const Outputs out = check_bounds(with_x(c, normals(c.shape.elements(), BNORM_F32, mu, sigma)), Operation::kTrain);
      CHECK(std::fabs(out.running_var[0] / (sigma * sigma) - 1) < 0.1);  // the sample's own deviation: 1.4 %
    }
  });
}

// solvcon/solvcon#1522: 0 for doubles that vary.
TEST_CASE("fault: the variance of {1e9, 1e9 + 1, 1e9 + 2} is 0") {
  each_way([](Layout layout) {
    const Outputs out =
        run(with_x(plain_case({1, 3, 1, 1}, layout, BNORM_F64), {1e9, 1e9 + 1, 1e9 + 2}), Operation::kTrain);
    CHECK(out.mean[0] == 1e9 + 1);
    CHECK(out.running_var[0] == 2.0 / 3);
  });
}

// microsoft/onnxruntime#28463: NaN for four consecutive numbers.
TEST_CASE("fault: 40000, 40001, 40002, 40003 normalize to NaN") {
  each_way([](Layout layout) {
    for (const double base : {4e4, 8e4, 1.6e7}) {
      const Outputs out = check_bounds(with_x(plain_case({1, 1, 1, 4}, layout), {base, base + 1, base + 2, base + 3}),
                                       Operation::kTrain);
      for (size_t i = 0; i < 4; ++i) {
        const double y = (static_cast<double>(i) - 1.5) / std::sqrt(1.25 + 1e-5);
        CHECK(std::fabs(out.y[i] - y) <= 7 * 0x1p-24 * std::fabs(y));
      }
    }
  });
}

// k2-fsa/sherpa-onnx#3857: the one frame that differs came out as 7500; no normalized value exceeds sqrt(m - 1).
TEST_CASE("fault: the one value that differs from all others explodes") {
  each_way([](Layout layout) {
    const double base = rounded(BNORM_F32, -15.94), odd = rounded(BNORM_F32, -15.94 + 0.05);
    Case c = plain_case({1, 100, 1, 1}, layout);
    c.epsilon = 0;
    const Outputs out =
        check_bounds(with_x(c, values(100, [&](int64_t i) { return i == 37 ? odd : base; })), Operation::kTrain);
    CHECK(std::fabs(out.y[37] - std::sqrt(99.0)) <= 7 * 0x1p-24 * std::sqrt(99.0));
  });
}

// pytorch/pytorch#178123: squares overflow, and every output is 0.
TEST_CASE("fault: values of 1e30 normalize to 0") {
  each_way([](Layout layout) {
    for (const bnorm_type data : {BNORM_F32, BNORM_BF16}) {
      const double large = rounded(data, 1e30);
      const Problem p = with_x(plain_case({1, 4, 3, 50}, layout, data),
                               values(600, [&](int64_t i) { return i % 2 == 0 ? large : -large; }));
      const Outputs out = run(p, Operation::kTrain);
      CHECK(out.mean == all(3, 0));
      for (const double inv_std : out.inv_std) CHECK(is_inverse_root(inv_std, large * large + 1e-5));
      for (size_t i = 0; i < 600; ++i) CHECK(std::fabs(out.y[i] - (i % 2 == 0 ? 1 : -1)) <= 5 * 0x1p-24);
    }
  });
}

// pytorch/pytorch#180156: the deviation of 1000 f32 values around 1e20 was Inf.
TEST_CASE("fault: the standard deviation of values near 1e20 is Inf") {
  each_way([](Layout layout) {
    const Outputs out = check_bounds(with_x(plain_case({1, 10, 1, 100}, layout), normals(1000, BNORM_F32, 1e20, 1e19)),
                                     Operation::kTrain);
    CHECK(std::fabs(1 / out.inv_std[0] / 1e19 - 1) < 0.1);  // the sample's own deviation: 2 %
  });
}

// pytorch/pytorch#44350: the mean of three values near the largest overflows although it is one of them.
TEST_CASE("fault: the mean of the largest values overflows") {
  each_way([](Layout layout) {
    check_constant({1, 3, 2, 1}, layout, BNORM_F32, 3e38);
    check_constant({1, 3, 2, 1}, layout, BNORM_F32, std::numeric_limits<float>::max());
    check_constant({1, 3, 2, 1}, layout, BNORM_BF16, 3e38);
    check_constant({1, 3, 2, 1}, layout, BNORM_F64, 1e308);
    const double x = std::numeric_limits<float>::max();
    CHECK(run(with_x(plain_case({1, 1, 1, 3}, layout), {x, x / 2, 0}), Operation::kTrain).mean[0] == x / 2);
  });
}

// tensorflow/tensorflow#115732, numpy/numpy#21941, pytorch/pytorch#126525: the count, the sum or the sum of squares was
// kept in the 16-bit type of the data.
TEST_CASE("fault: 65536 16-bit values have a mean of 0 or a variance of Inf") {
  each_way([](Layout layout) {
    const Case c = plain_case({1, 1, 1, 65536 + 3}, layout, BNORM_BF16);
    check_constant(c.shape, layout, BNORM_BF16, 3);
    const Outputs out = check_bounds(with_x(c, normals(c.shape.elements(), BNORM_BF16, 0.5, 300)), Operation::kTrain);
    CHECK(std::fabs(out.running_var[0] / 9e4 - 1) < 0.05);  // the sample's own deviation: 0.6 %
  });
}

// tensorflow/tensorflow#30230: m / (m - 1) in a 16-bit type is NaN for many values, and 1 for some.
TEST_CASE("fault: Bessel's correction is computed in a 16-bit type") {
  each_way([](Layout layout) {
    for (const int64_t m : {300, 70000}) {
      Case c = plain_case({1, m / 10, 1, 10}, layout, BNORM_BF16);
      c.param = BNORM_F64;
      const std::vector<double> x = values(m, [](int64_t i) { return static_cast<double>(i % 2); });
      const double biased = run(with_x(c, x), Operation::kTrain).running_var[0];
      c.biased = false;
      const double unbiased = run(with_x(c, x), Operation::kTrain).running_var[0];
      const double count = static_cast<double>(m);
      // Two quotients here, two there.
      CHECK(std::fabs(unbiased / biased - count / (count - 1)) <= 4 * 0x1p-52);
    }
  });
}

// tenstorrent/tt-metal#45968: NaN for a mean of 5 and a deviation of 0.1.
TEST_CASE("fault: 16-bit data with a mean of 50 deviations is NaN") {
  each_way([](Layout layout) {
    for (const double mu : {-5.0, 5.0}) {
      Case c = case_of({1, 4, 8, 32}, layout, BNORM_BF16);
      c.mu = mu;
      c.sigma = 0.1;
      Problem p(c);
      train_and_differentiate(p);
    }
  });
}

// pytorch/pytorch#18277: a million equal f32 values differ from their mean in the fifth digit.
TEST_CASE("fault: the mean of a million equal values is off") {
  each_way([](Layout layout) {
    for (const float v : {9991.0f, 9995.0f, 9999.0f})
      CHECK(moments_of_repeated(layout, 1, 1000, std::vector<float>(1000, v)) == std::vector<double>{1e6, v, 0});
  });
}

// numpy/numpy#5681, cupy/cupy#6439: a counter or sum in f32 stops at 2^24.
TEST_CASE("fault: counts and sums stop growing at 2^24") {
  constexpr int64_t kBatch = 4099, kSpatial = 4095;
  const double m = kBatch * kSpatial;  // odd, so that f32 does not hold it
  const std::vector<float> ones(kSpatial, 1.0f);
  for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast})
    CHECK(moments_of_repeated(layout, 2, kBatch, ones) == std::vector<double>{m, 1, 1, 0, 0});
}

// FluxML/Flux.jl#2071, apache/mxnet#11115, pytorch/pytorch#7999: max(0, NaN) as 0, on one path or in its last lanes.
TEST_CASE("fault: NaN becomes 0 in the fused ReLU") {
  each_way([](Layout layout) {
    for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
      for (const int64_t size : {1, 7, 16, 32, 37})
        for (const Shape& shape : {Shape{1, 1, 32, size}, Shape{1, size, 3, 1}}) {
          Case c = case_of(shape, layout, data);
          c.activation = BNORM_RELU;
          const Problem p = with_x(c, all(static_cast<size_t>(shape.elements()), kNaN));
          for (const Operation operation : {Operation::kInfer, Operation::kPrepared, Operation::kTrain})
            for (const double y : run(p, operation).y) CHECK(std::isnan(y));
        }
  });
}

// gevent/gevent#1820, althonos/pyhmmer#71: a library that flushes subnormals to zero does so for its whole process.
TEST_CASE("fault: a call flushes subnormals to zero, its own or its caller's") {
  const auto keeps_subnormals = [] {
    volatile float tiny = 1e-40f, one = 1.0f;
    volatile float product = tiny * one;  // 0 where inputs or results are flushed
    return product == tiny && product > 0;
  };
  static constexpr auto check_between = [](void* context, int64_t n, bnorm_task task, void* argument) -> int32_t {
    for (int64_t i = 0; i < n; ++i) {
      task(argument, i);
      CHECK((*static_cast<decltype(keeps_subnormals)*>(context))());
    }
    return 0;
  };
  auto probe = keeps_subnormals;
  const bnorm_executor between = {sizeof(bnorm_executor), 4, &probe, check_between};
  each_way([&](Layout layout) {
    Case c = case_of({1, 3, 2, 40000}, layout);  // large enough for tasks
    c.nulls = kNoShift;
    c.epsilon = 0;
    Problem p = with_x(c, values(240000, [](int64_t i) { return i % 2 == 0 ? 1.0 : -1.0; }));
    p.inputs().scale = all(2, 0x1p-140);
    for (int operation = 0; operation < kOperations; ++operation) {
      p.run(static_cast<Operation>(operation), &between);
      p.run(static_cast<Operation>(operation), nullptr);
      CHECK(keeps_subnormals());
    }
    for (const double y : run(p, Operation::kTrain).y) CHECK(std::fabs(y) == 0x1p-140);
  });
}

}  // namespace bnorm_tests::test_faults_numbers
