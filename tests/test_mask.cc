// SPDX-License-Identifier: Apache-2.0
// Backward from a mask (bnorm_desc.from_mask): the gradients of backward from y or x, which it does not read. The grid
// compares them with the reference as well.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "executors.hh"
#include "isas.hh"
#include "plan.hh"
#include "random.hh"
#include "refusal.hh"
#include "tensor.hh"

namespace bnorm_tests::test_mask {
namespace {

/// What varies: every family of kernels in one of its shapes, most with enough work to share out; of 5003 positions,
/// whose rows begin no line, outputs go around the caches, of thousands of channels there are several tiles.
struct Variant {
  int64_t groups, batch, channels, spatial;
  bool channels_last;
};
constexpr Variant kVariants[] = {{2, 3, 5, 20, false},    {1, 2, 17, 1040, false}, {1, 300, 150, 7, false},
                                 {2, 5, 3, 2, false},     {1, 700, 37, 9, true},   {2, 3, 5, 20, true},
                                 {1, 1300, 100, 1, true}, {1, 300, 70, 12, false}, {1, 9, 64, 5003, false},
                                 {1, 1, 37, 1, true},     {1, 17, 9000, 1, true},  {1, 17, 6000, 3, false}};

template <class T>
struct Gradients {
  std::vector<T> dx, dresidual, dscale, dshift;
  bool operator==(const Gradients&) const = default;
};

/// What the steps of a variant are given; made once, since drawing it took most of the time.
template <class T>
struct Inputs {
  Variant v;
  std::vector<T> x, residual, dy, scale, shift;

  explicit Inputs(const Variant& variant) : v(variant) {
    Random random(4);
    const int64_t elements = v.groups * v.batch * v.channels * v.spatial;
    x = normals<T>(random, elements, 2);
    residual = normals<T>(random, elements);
    dy = normals<T>(random, elements);
    scale = normals<T>(random, v.channels, 1, 0.5);
    shift = normals<T>(random, v.channels, 0.5, 0.5);
  }
};

/// A training step in T and its backward, from the mask and from what the plan reads without one.
template <class T>
class Step {
 public:
  using Values = std::vector<T>;

  Step(const Inputs<T>& in, bnorm_activation activation, bool residual, const bnorm_executor* executor)
      : in_(in),
        activation_(activation),
        residual_added_(residual),
        executor_(executor),
        y_(in.x.size()),
        mean_(static_cast<size_t>(in.v.groups * in.v.channels)),
        inv_std_(mean_) {
    const PlanPointer plan = make(true);
    mask_.assign(bnorm_plan_mask_size(plan.get()), 0xa5);
    REQUIRE(8 * mask_.size() >= in.x.size());
    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    t.x = in.x.data();
    if (residual) t.residual = in.residual.data();
    t.y = y_.data();
    t.scale = in.scale.data();
    t.shift = in.shift.data();
    t.mean = mean_.data();
    t.inv_std = inv_std_.data();
    t.mask = mask_.data();
    t.executor = executor;
    REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);
  }

  const std::vector<unsigned char>& mask() const { return mask_; }

  Gradients<T> backward(bool from_mask) const {
    Gradients<T> g = {Values(in_.x.size()), Values(residual_added_ ? in_.x.size() : 0), Values(in_.scale.size()),
                      Values(in_.scale.size())};
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    b.x = in_.x.data();
    if (from_mask)
      b.mask = mask_.data();
    else
      b.y = y_.data();
    b.dy = in_.dy.data();
    b.scale = in_.scale.data();
    b.shift = in_.shift.data();
    b.mean = mean_.data();
    b.inv_std = inv_std_.data();
    b.dx = g.dx.data();
    if (residual_added_) b.dresidual = g.dresidual.data();
    b.dscale = g.dscale.data();
    b.dshift = g.dshift.data();
    b.executor = executor_;
    REQUIRE(bnorm_backward(make(from_mask).get(), &b) == BNORM_OK);
    return g;
  }

 private:
  PlanPointer make(bool from_mask) const {
    bnorm_desc d = BNORM_DESC_INIT;
    d.data_type = sizeof(T) == 8 ? BNORM_F64 : BNORM_F32;
    d.groups = in_.v.groups;
    d.batch = in_.v.batch;
    d.channels = in_.v.channels;
    d.spatial = in_.v.spatial;
    d.activation = activation_;
    d.clip_upper = 1;
    d.residual_added = residual_added_;
    d.from_mask = from_mask;
    REQUIRE(bnorm_desc_set_layout(&d, in_.v.channels_last ? BNORM_CHANNELS_LAST : BNORM_PLANAR) == BNORM_OK);
    return make_plan(d);
  }

  const Inputs<T>& in_;
  bnorm_activation activation_;
  bool residual_added_;
  const bnorm_executor* executor_;
  Values y_;
  std::vector<double> mean_, inv_std_;
  std::vector<unsigned char> mask_;
};

template <class T>
void check_same_gradients() {
  for (const Variant& v : kVariants) {
    const Inputs<T> in(v);
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      for (const bnorm_activation activation : {BNORM_RELU, BNORM_CLIP, BNORM_LEAKY_RELU})
        for (const bool residual : {false, true}) {
          CAPTURE(isa);
          CAPTURE(v.channels);
          CAPTURE(v.spatial);
          CAPTURE(activation);
          CAPTURE(residual);
          const Step<T> step(in, activation, residual, BNORM_SERIAL);
          CHECK(step.backward(true) == step.backward(false));
        }
    }
  }
}

}  // namespace

TEST_CASE("mask: the gradients of backward from y or x, f32") { check_same_gradients<float>(); }
TEST_CASE("mask: the gradients of backward from y or x, f64") { check_same_gradients<double>(); }

TEST_CASE("mask: any executor and ISA keep the same one and make the same gradients of it") {
  for (const Variant& v : kVariants) {
    const Inputs<float> in(v);
    const Step<float> serial(in, BNORM_CLIP, true, BNORM_SERIAL);
    const Gradients<float> gradients = serial.backward(true);
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      for (const Executor& executor : executors())
        executor.with([&](const bnorm_executor* e) {
          CAPTURE(isa);
          CAPTURE(executor.name);
          CAPTURE(v.channels);
          const Step<float> step(in, BNORM_CLIP, true, e);
          CHECK(step.mask() == serial.mask());
          CHECK(step.backward(true) == gradients);
        });
    }
  }
}

TEST_CASE("mask: of z, not of the rounded y") {
  // In bf16 z = 0.999 is 1, the upper limit, where the derivative is 0.
  bnorm_desc d = BNORM_DESC_INIT;
  d.output_type = BNORM_BF16;
  d.batch = 1;
  d.channels = 1;
  d.spatial = 3;
  d.activation = BNORM_CLIP;
  d.clip_upper = 1;
  d.epsilon = 0;
  d.frozen = 1;
  d.residual_added = 1;
  d.from_mask = 1;
  const PlanPointer plan = make_plan(d);
  const float x[] = {0.999F, 1, -0.5F}, mean = 0, var = 1;
  const uint16_t residual[3] = {}, dy[] = {0x3f80, 0x3f80, 0x3f80};
  uint16_t y[3];
  float dx[3];
  std::vector<unsigned char> mask(bnorm_plan_mask_size(plan.get()));
  bnorm_infer_args i = BNORM_INFER_ARGS_INIT;
  i.x = x;
  i.residual = residual;
  i.y = y;
  i.running_mean = &mean;
  i.running_var = &var;
  i.mask = mask.data();
  REQUIRE(bnorm_infer(plan.get(), &i) == BNORM_OK);
  CHECK(y[0] == 0x3f80);
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.dy = dy;
  b.dx = dx;
  b.running_mean = &mean;
  b.running_var = &var;
  b.mask = mask.data();
  REQUIRE(bnorm_backward(plan.get(), &b) == BNORM_OK);  // x is not needed
  CHECK(dx[0] == 1);
  CHECK(dx[1] == 0);
  CHECK(dx[2] == 0);
}

namespace {

/// Clip behind a residual of 0, with statistics that leave x as it is: the middle three of five values are within.
void check_clipped(bnorm_type type, double limit, int from_mask) {
  bnorm_desc d = BNORM_DESC_INIT;
  d.data_type = d.output_type = type;
  d.batch = 1;
  d.channels = 1;
  d.spatial = 5;
  d.activation = BNORM_CLIP;
  d.clip_lower = -limit;
  d.clip_upper = limit;
  d.epsilon = 0;
  d.frozen = 1;
  d.residual_added = 1;
  d.from_mask = from_mask;
  const auto array = [type](const std::vector<double>& values) {
    Array a(type, values.size(), Placement::kHeap, 0);
    a.fill(values);
    return a;
  };
  Array x = array({-100, -0.0625, 0, 0.0625, 100}), residual = array({0, 0, 0, 0, 0});
  Array dy = array({1, 1, 1, 1, 1}), y = array({7, 7, 7, 7, 7}), dx = array({7, 7, 7, 7, 7});
  const PlanPointer plan = make_plan(d);
  const float mean = 0, var = 1;
  float dshift = 7;
  std::vector<unsigned char> mask(bnorm_plan_mask_size(plan.get()));
  bnorm_infer_args i = BNORM_INFER_ARGS_INIT;
  i.x = x.data();
  i.residual = residual.data();
  i.y = y.data();
  i.running_mean = &mean;
  i.running_var = &var;
  if (from_mask) i.mask = mask.data();
  REQUIRE(bnorm_infer(plan.get(), &i) == BNORM_OK);
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.x = x.data();
  b.y = y.data();
  b.dy = dy.data();
  b.dx = dx.data();
  b.dshift = &dshift;
  b.running_mean = &mean;
  b.running_var = &var;
  if (from_mask) b.mask = mask.data();
  REQUIRE(bnorm_backward(plan.get(), &b) == BNORM_OK);
  CHECK(dx.values() == std::vector<double>{0, 1, 1, 1, 0});
  CHECK(dshift == 3);
}

}  // namespace

TEST_CASE("mask: behind a residual, what y was clipped to has no gradient, though its type rounds the limits") {
  for (const std::string& isa : isas()) {
    const IsaScope scope(isa);
    for (const bnorm_type type : {BNORM_F32, BNORM_BF16, BNORM_F16})
      for (const double limit : {0.7, 0.1, 6.0})
        for (const int from_mask : {0, 1}) {
          INFO(isa, ", type ", type, ", limit ", limit, ", from_mask ", from_mask);
          check_clipped(type, limit, from_mask);
        }
  }
}

TEST_CASE("mask: the strides of tensors that a plan does not have don't matter") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 2;
  d.channels = 64;
  d.spatial = 100;
  d.activation = BNORM_RELU;
  d.from_mask = 1;
  d.x = d.y = d.dx = d.dy = {12800, 6400, 1, 64};
  char text[2000];
  bnorm_plan_describe(make_plan(d).get(), text, sizeof text);
  CHECK(std::string(text).find("scattered") == std::string::npos);
  d.residual_added = 1;
  bnorm_plan_describe(make_plan(d).get(), text, sizeof text);
  CHECK(std::string(text).find("scattered") != std::string::npos);
}

TEST_CASE("mask: refused where it is missing, not taken, or lies in another array") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 2;
  d.channels = 2;
  d.spatial = 2;
  d.activation = BNORM_RELU;
  const PlanPointer without = make_plan(d);
  d.from_mask = 1;
  const PlanPointer with = make_plan(d);
  CHECK(bnorm_plan_mask_size(without.get()) == 0);
  CHECK(bnorm_plan_mask_size(nullptr) == 0);
  REQUIRE(bnorm_plan_mask_size(with.get()) == 4);  // two samples of 4 elements, 16 bits each
  const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float y[8] = {}, scale[2] = {1, 1};
  double mean[2], inv_std[2];
  unsigned char mask[4];
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.x = x;
  t.y = y;
  t.mean = mean;
  t.inv_std = inv_std;
  REQUIRE(bnorm_train(with.get(), &t) == BNORM_OK);  // not kept
  t.mask = mask;
  check_refusal(bnorm_train(without.get(), &t), BNORM_INVALID_ARGUMENT, nullptr, {"mask", "NULL"});
  t.mask = y;
  check_refusal(bnorm_train(with.get(), &t), BNORM_INVALID_ARGUMENT, nullptr, {"mask", "y", "overlap"});
  t.mask = mask;
  double moments[5];
  t.y = nullptr;
  t.mean = t.inv_std = nullptr;
  check_refusal(bnorm_moments(with.get(), &t, moments), BNORM_INVALID_ARGUMENT, nullptr, {"mask", "NULL"});
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.x = x;
  b.dy = x;
  b.dx = y;
  b.scale = scale;
  b.mean = mean;
  b.inv_std = inv_std;
  check_refusal(bnorm_backward(with.get(), &b), BNORM_INVALID_ARGUMENT, nullptr, {"mask", "NULL"});
  b.mask = reinterpret_cast<unsigned char*>(y);
  check_refusal(bnorm_backward(with.get(), &b), BNORM_INVALID_ARGUMENT, nullptr, {"dx", "mask", "overlap"});
  b.mask = mask;
  check_refusal(bnorm_backward(without.get(), &b), BNORM_INVALID_ARGUMENT, nullptr, {"mask", "NULL"});
}

}  // namespace bnorm_tests::test_mask
