// SPDX-License-Identifier: Apache-2.0
// Published faults: layouts, strides, sizes beyond 32 bits, reads outside the tensors.
#include <sys/mman.h>

#include "faults.hh"

namespace bnorm_tests::test_faults_layouts {
namespace {

constexpr Operation kAll[] = {Operation::kInfer, Operation::kPrepared, Operation::kTrain,
                              Operation::kParts, Operation::kBackward, Operation::kBackwardParts};

/// A tensor of f32 whose strides reach far: address space that takes memory only where it is touched.
class FarTensor {
 public:
  FarTensor(const Shape& shape, const bnorm_strides& strides) : shape_(shape), strides_(strides) {
    const int64_t reach[] = {(shape.n - 1) * strides.n, (shape.c - 1) * strides.c, (shape.s - 1) * strides.s};
    int64_t high = 1;
    for (const int64_t r : reach) (r < 0 ? low_ : high) += r;
    bytes_ = static_cast<size_t>(high - low_) * sizeof(float);
    void* const p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) base_ = static_cast<float*>(p);
  }
  ~FarTensor() {
    if (base_ != nullptr) munmap(base_, bytes_);
  }
  FarTensor(const FarTensor&) = delete;
  FarTensor& operator=(const FarTensor&) = delete;

  bool mapped() const { return base_ != nullptr; }
  float* data() { return base_ - low_; }
  void fill(const std::vector<double>& logical) {
    for (size_t i = 0; i < logical.size(); ++i) at(i) = static_cast<float>(logical[i]);
  }
  std::vector<double> values() {
    std::vector<double> r;
    for (int64_t i = 0; i < shape_.elements(); ++i) r.push_back(at(static_cast<size_t>(i)));
    return r;
  }

 private:
  float& at(size_t i) {
    const auto element = static_cast<int64_t>(i);
    return data()[element / (shape_.c * shape_.s) * strides_.n + channel_of(shape_, i) * strides_.c +
                  element % shape_.s * strides_.s];
  }

  Shape shape_;
  bnorm_strides strides_;
  int64_t low_ = 0;
  size_t bytes_ = 0;
  float* base_ = nullptr;
};

/// Forward and, in place, backward on far strides give the bits of the packed tensors.
void check_far(const Shape& shape, const bnorm_strides& strides) {
  Case c = case_of(shape, Layout::kPlanar);
  c.nulls = kNoScale | kNoShift | kNoRunningMean | kNoRunningVar;
  const Problem p(c);
  bnorm_desc d = p.desc();
  d.x = d.y = d.dy = d.dx = strides;
  const PlanPointer plan = make_plan(d);
  FarTensor x(shape, strides), y(shape, strides);
  if (!x.mapped() || !y.mapped()) {
    MESSAGE("skipped: this system does not reserve the address space");
    return;
  }
  x.fill(p.inputs().x);
  const auto channels = static_cast<size_t>(shape.c);
  std::vector<double> mean(channels), inv_std(channels);
  bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
  a.x = x.data();
  a.y = y.data();
  a.mean = mean.data();
  a.inv_std = inv_std.data();
  REQUIRE(bnorm_train(plan.get(), &a) == BNORM_OK);
  const Outputs forward = run(p, Operation::kTrain);
  CHECK(y.values() == forward.y);
  CHECK(mean == forward.mean);
  CHECK(inv_std == forward.inv_std);

  y.fill(p.inputs().dy);
  std::vector<float> dscale(channels);
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.x = x.data();
  b.dy = b.dx = y.data();
  b.mean = p.inputs().mean.data();
  b.inv_std = p.inputs().inv_std.data();
  b.dscale = dscale.data();
  REQUIRE(bnorm_backward(plan.get(), &b) == BNORM_OK);
  const Outputs backward = run(p, Operation::kBackward);
  CHECK(y.values() == backward.dx);
  CHECK(std::vector<double>(dscale.begin(), dscale.end()) == backward.dscale);
}

/// Channel c holds c + 1 and c - 1 in turn: mean c, sum of squares about it M. Every sum in it is exact.
std::vector<double> alternating_moments(const Shape& shape, Layout layout) {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = shape.n;
  d.channels = shape.c;
  d.spatial = shape.s;
  const bool planar = layout == Layout::kPlanar;
  REQUIRE(bnorm_desc_set_layout(&d, planar ? BNORM_PLANAR : BNORM_CHANNELS_LAST) == BNORM_OK);
  std::vector<float> x;
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const int64_t c = planar ? channel_of(shape, static_cast<size_t>(i)) : i % shape.c;
    const int64_t position = planar ? i % shape.s : i / shape.c;
    x.push_back(static_cast<float>(c + (position % 2 == 0 ? 1 : -1)));
  }
  return moments_of(d, x.data());
}

void check_alternating(const Shape& shape, Layout layout) {
  std::vector<double> expected = {static_cast<double>(shape.count())};
  for (int64_t c = 0; c < shape.c; ++c) expected.push_back(static_cast<double>(c));
  expected.insert(expected.end(), static_cast<size_t>(shape.c), expected[0]);
  INFO("C ", shape.c, " S ", shape.s);
  CHECK(alternating_moments(shape, layout) == expected);
}

/// y of inference on as many values as x has.
std::vector<float> infer(const bnorm_desc& d, const std::vector<float>& x, const std::vector<float>& mean,
                         const std::vector<float>& var) {
  const PlanPointer plan = make_plan(d);
  std::vector<float> y(x.size());
  bnorm_infer_args a = BNORM_INFER_ARGS_INIT;
  a.x = x.data();
  a.y = y.data();
  a.running_mean = mean.data();
  a.running_var = var.data();
  REQUIRE(bnorm_infer(plan.get(), &a) == BNORM_OK);
  return y;
}

}  // namespace

// microsoft/onnxruntime#12754: zeros for a vector of ten.
TEST_CASE("fault: a flat vector comes back as zeros") {
  each_way([](Layout layout) {
    Case c = case_of({1, 10, 1, 1}, layout);
    c.epsilon = 1;
    Problem p = with_x(c, values(10, [](int64_t i) { return static_cast<double>(i); }));
    p.inputs().running_mean = {1};
    p.inputs().running_var = {3};
    p.inputs().scale = {4};
    p.inputs().shift = {0.5};
    CHECK(run(p, Operation::kInfer).y == values(10, [](int64_t i) { return static_cast<double>(i) * 2 - 1.5; }));
  });
}

// Tencent/ncnn#331: the features behind a dense layer are channels, not positions of one.
TEST_CASE("fault: a matrix of features is walked along the wrong axis") {
  const int64_t sizes[] = {2, 3};
  bnorm_desc d = BNORM_DESC_INIT;
  REQUIRE(bnorm_desc_set_axis(&d, sizes, 2, 1) == BNORM_OK);
  d.epsilon = 0;
  each_isa([&] {
    CHECK(infer(d, {1, 20, 300, 3, 40, 700}, {1, 20, 300}, {1, 4, 16}) == std::vector<float>{0, 0, 0, 2, 10, 100});
  });
}

// pytorch/pytorch#63224: the elements of a permuted view come back in the order of storage.
TEST_CASE("fault: a permuted view comes back shuffled") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 1;
  d.channels = 2;
  d.spatial = 3;
  d.epsilon = 0;
  d.x = {6, 6, 1, 2};
  each_isa([&] { CHECK(infer(d, {0, 1, 2, 3, 4, 5}, {0, 0}, {1, 1}) == std::vector<float>{0, 2, 4, 1, 3, 5}); });
}

// pytorch/pytorch#121651, pytorch/pytorch#62594: models drift apart by the layout of the same data.
TEST_CASE("fault: planar and channels-last drift apart") {
  each_isa([] {
    for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
      for (const Shape& shape : {Shape{1, 2, 17, 50}, Shape{1, 30, 5, 4}, Shape{1, 300, 3, 1}})
        for (const Operation operation : kAll) {
          const Outputs planar = run(Problem(case_of(shape, Layout::kPlanar, data)), operation);
          for (const Layout layout : {Layout::kChannelsLast, Layout::kSlices, Layout::kPermuted, Layout::kReversed})
            CHECK(difference(run(Problem(case_of(shape, layout, data)), operation), planar) == "");
        }
  });
}

// pytorch/pytorch#64039, pytorch/pytorch#147303: x is read as if it had the layout of dy.
TEST_CASE("fault: gradients are wrong where x and dy differ in layout") {
  each_isa([] {
    for (const bnorm_type data : {BNORM_F32, BNORM_BF16})
      for (const uint64_t seed : {1, 2, 3, 4}) {
        Case c = case_of({1, 4, 3, 25}, Layout::kMixed, data);
        c.seed = seed;
        const Outputs mixed = check_bounds(Problem(c), Operation::kBackward);
        c.layout = Layout::kPlanar;
        CHECK(difference(mixed, check_bounds(Problem(c), Operation::kBackward)) == "");
      }
  });
}

// pytorch/pytorch#1866: the gradient of a sum is one number, expanded by strides of 0.
TEST_CASE("fault: a gradient expanded by strides of 0 fails") {
  each_isa([] {
    const Case c = case_of({1, 4, 10, 3}, Layout::kPlanar);
    Problem p(c);
    p.inputs().dy = all(120, 2);
    const Outputs full = check_bounds(p, Operation::kBackward);
    const float dy[1] = {2};
    const std::vector<float> x(p.inputs().x.begin(), p.inputs().x.end());
    const std::vector<float> scale(p.inputs().scale.begin(), p.inputs().scale.end());
    std::vector<float> dx(120), dshift(10);
    bnorm_desc d = p.desc();
    d.dy = {1, 0, 0, 0};  // all zeros would mean packed
    const PlanPointer plan = make_plan(d);
    bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
    a.x = x.data();
    a.dy = dy;
    a.scale = scale.data();
    a.mean = p.inputs().mean.data();
    a.inv_std = p.inputs().inv_std.data();
    a.dx = dx.data();
    a.dshift = dshift.data();
    REQUIRE(bnorm_backward(plan.get(), &a) == BNORM_OK);
    CHECK(std::vector<double>(dx.begin(), dx.end()) == full.dx);
    CHECK(dshift == std::vector<float>(10, 24));
    CHECK(dy[0] == 2);
  });
}

// NVIDIA/apex#1768: 65 channels were wrong in channels-last planes of 100 x 100, though right in 10 x 10.
TEST_CASE("fault: moments are wrong for channel counts that are no power of two") {
  each_way([](Layout layout) {
    for (const int64_t positions : {32, 138})
      for (int64_t channels = 1; channels <= 130; ++channels) check_alternating({1, 1, channels, positions}, layout);
    for (const int64_t channels : {3, 33, 65}) check_alternating({1, 1, channels, 10000}, layout);
  });
}

// apache/mxnet#19150: 64 channels took a blocked layout and failed where 45 worked, backward too.
TEST_CASE("fault: a channel count that is a multiple of the vector fails where another works") {
  each_way([](Layout layout) {
    for (const int64_t channels : {45, 64}) {
      Problem p(case_of({1, 1, channels, 8 * 3 * 3}, layout));
      train_and_differentiate(p);
    }
  });
}

// flashlight/flashlight#271, ROCm/rocm-libraries#10970: reads past the heap block of odd channel counts, and writes
// past dx of tiny tensors. Every buffer here ends, or starts, at a page that must not be touched.
TEST_CASE("fault: odd channel counts and tiny tensors are read or written out of bounds") {
  each_way([](Layout layout) {
    for (const Placement placement : {Placement::kPageEnd, Placement::kPageStart})
      for (const bnorm_type data : {BNORM_F32, BNORM_BF16})
        for (const int64_t channels : {1, 2, 3, 5, 15, 17, 33})
          for (const Shape& shape : {Shape{1, 1, channels, 1}, Shape{1, 2, channels, 1}, Shape{1, 1, channels, 11}}) {
            Case c = case_of(shape, layout, data);
            c.placement = placement;
            const Problem p(c);
            for (const Operation operation : kAll) check_bounds(p, operation);
          }
  });
}

// ROCm/rocm-libraries#10259, PaddlePaddle/Paddle-Lite#1796: offsets in 32 bits. Whichever axis takes them beyond, an
// offset cut to 32 bits would land on another element.
TEST_CASE("fault: offsets beyond 2^32 elements wrap round") {
  constexpr int64_t kFar = (int64_t{1} << 32) + 1;
  each_isa([] {
    check_far({1, 3, 5, 40}, {0, kFar, 40, 1});
    check_far({1, 3, 5, 4}, {0, kFar, 4, 1});
    check_far({1, 3, 33, 4}, {0, kFar, 1, 33});
    check_far({1, 3, 5, 4}, {0, -kFar, 1, 5});
    check_far({1, 3, 5, 40}, {0, 40, kFar, 1});
    check_far({1, 40, 3, 1}, {0, 1, kFar, 1});
    check_far({1, 3, 5, 4}, {0, 5, 1, kFar});
    check_far({1, 3, 5, 4}, {0, 5, -1, -kFar});
  });
}

// ROCm/rocm-libraries#10259, pytorch/pytorch#51776: more elements than an int counts.
TEST_CASE("fault: more than 2^31 elements crash") {
  constexpr int64_t kSpatial = 4096, kBatch = (int64_t{1} << 31) / kSpatial + 1;
  std::vector<float> zeros_and_ones(kSpatial);
  for (size_t i = 0; i < kSpatial; ++i) zeros_and_ones[i] = static_cast<float>(i % 2);
  const double m = static_cast<double>(kSpatial * kBatch);
  CHECK(moments_of_repeated(Layout::kPlanar, 1, kBatch, zeros_and_ones) == std::vector<double>{m, 0.5, m / 4});
}

// pytorch/pytorch#16998: batches from 2^17 fail.
TEST_CASE("fault: a batch of 131072 fails") {
  constexpr int64_t kBatch = 131072;
  std::vector<float> x(kBatch), y(kBatch);
  for (size_t i = 0; i < kBatch; ++i) x[i] = i % 2 == 0 ? 5.0f : 1.0f;
  each_isa([&] {
    double mean[1], inv_std[1];
    float dshift[1];
    REQUIRE(bnorm_train_f32(kBatch, 1, 1, x.data(), y.data(), nullptr, nullptr, mean, inv_std, nullptr, nullptr, 0,
                            0) == BNORM_OK);
    CHECK(mean[0] == 3);
    CHECK(inv_std[0] == 0.5);
    for (size_t i = 0; i < kBatch; i += 4095) CHECK(y[i] == (i % 2 == 0 ? 1 : -1));
    REQUIRE(bnorm_backward_f32(kBatch, 1, 1, x.data(), x.data(), nullptr, mean, inv_std, nullptr, nullptr, dshift) ==
            BNORM_OK);
    CHECK(dshift[0] == 3 * kBatch);
  });
}

}  // namespace bnorm_tests::test_faults_layouts
