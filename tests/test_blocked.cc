// SPDX-License-Identifier: Apache-2.0
// Blocked layouts (nChw8c, nChw16c): every call gives the bits of the planar layout.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "executors.hh"
#include "isas.hh"
#include "plan.hh"
#include "random.hh"
#include "refusal.hh"

namespace bnorm_tests::test_blocked {
namespace {

struct Sizes {
  int64_t n, c, s;
  size_t elements() const { return static_cast<size_t>(n * c * s); }
};

using Values = std::vector<float>;

/// Logical [n][c][s] into memory of a block, 0: planar, with `gap` elements behind each block's image; and back.
class Blocks {
 public:
  Blocks(const Sizes& sizes, int32_t block, int64_t gap) : sizes_(sizes), block_(block), gap_(gap) {}

  bnorm_strides strides() const {
    if (block_ == 0) return BNORM_STRIDES_PACKED;
    const int64_t image = sizes_.s * block_ + gap_;
    return {0, sizes_.c / block_ * image, image, block_};
  }
  Values pack(const Values& logical) const {
    Values memory(sizes_.elements() + static_cast<size_t>(sizes_.n * sizes_.c * gap_), -77);
    each([&](size_t i, size_t at) { memory[at] = logical[i]; });
    return memory;
  }
  Values unpack(const Values& memory) const {
    Values logical(sizes_.elements());
    each([&](size_t i, size_t at) { logical[i] = memory[at]; });
    return logical;
  }

 private:
  template <class Visit>
  void each(Visit visit) const {
    const bnorm_strides t = strides();
    size_t i = 0;
    for (int64_t n = 0; n < sizes_.n; ++n)
      for (int64_t c = 0; c < sizes_.c; ++c)
        for (int64_t s = 0; s < sizes_.s; ++s, ++i)
          visit(i, block_ == 0 ? i : static_cast<size_t>(n * t.n + c / block_ * t.c + s * t.s + c % block_));
  }

  Sizes sizes_;
  int32_t block_;
  int64_t gap_;
};

struct Results {
  Values trained, inferred, dx, dresidual, dscale, dshift, running_mean, running_var;
  std::vector<double> mean, inv_std;
  bool operator==(const Results&) const = default;
};

/// Training, inference and backward with ReLU and a residual; backward reads y, or a mask that training kept.
class Step {
 public:
  Step(const Sizes& sizes, bool from_mask) : sizes_(sizes), from_mask_(from_mask) {
    Random random(static_cast<uint64_t>(sizes.c * 100 + sizes.s));
    const int64_t elements = sizes.n * sizes.c * sizes.s;
    x_ = normals<float>(random, elements, 3);
    residual_ = normals<float>(random, elements);
    dy_ = normals<float>(random, elements);
    scale_ = normals<float>(random, sizes.c, 1);
    shift_ = normals<float>(random, sizes.c);
  }

  Results run(int32_t block, int64_t gap, const bnorm_executor* executor) const {
    const Blocks blocks(sizes_, block, gap);
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = sizes_.n;
    d.channels = sizes_.c;
    d.spatial = sizes_.s;
    d.channel_block = block;
    d.activation = BNORM_RELU;
    d.residual_added = 1;
    d.from_mask = from_mask_;
    if (gap > 0) d.x = d.y = d.residual = d.dx = d.dy = d.dresidual = blocks.strides();
    const PlanPointer plan = make_plan(d);
    const Values x = blocks.pack(x_), residual = blocks.pack(residual_), dy = blocks.pack(dy_);
    Values trained(x.size()), inferred(x.size()), dx(x.size()), dresidual(x.size());
    std::vector<unsigned char> mask(bnorm_plan_mask_size(plan.get()));
    Results r;
    for (Values* const v : {&r.dscale, &r.dshift, &r.running_mean, &r.running_var}) v->assign(channels(), 1);
    r.mean.resize(channels());
    r.inv_std.resize(channels());

    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    t.x = x.data();
    t.residual = residual.data();
    t.y = trained.data();
    t.scale = scale_.data();
    t.shift = shift_.data();
    t.mean = r.mean.data();
    t.inv_std = r.inv_std.data();
    t.running_mean = r.running_mean.data();
    t.running_var = r.running_var.data();
    if (from_mask_) t.mask = mask.data();
    t.executor = executor;
    REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);

    bnorm_infer_args i = BNORM_INFER_ARGS_INIT;
    i.x = x.data();
    i.residual = residual.data();
    i.y = inferred.data();
    i.scale = scale_.data();
    i.running_mean = r.running_mean.data();
    i.running_var = r.running_var.data();
    i.executor = executor;
    REQUIRE(bnorm_infer(plan.get(), &i) == BNORM_OK);

    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    b.x = x.data();
    if (from_mask_)
      b.mask = mask.data();
    else
      b.y = trained.data();
    b.dy = dy.data();
    b.scale = scale_.data();
    b.mean = r.mean.data();
    b.inv_std = r.inv_std.data();
    b.dx = dx.data();
    b.dresidual = dresidual.data();
    b.dscale = r.dscale.data();
    b.dshift = r.dshift.data();
    b.executor = executor;
    REQUIRE(bnorm_backward(plan.get(), &b) == BNORM_OK);

    r.trained = blocks.unpack(trained);
    r.inferred = blocks.unpack(inferred);
    r.dx = blocks.unpack(dx);
    r.dresidual = blocks.unpack(dresidual);
    return r;
  }

 private:
  size_t channels() const { return static_cast<size_t>(sizes_.c); }

  Sizes sizes_;
  bool from_mask_;
  Values x_, residual_, dy_, scale_, shift_;
};

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("blocked: the bits of the planar layout") {
    for (const std::string& isa : isas()) {
      const IsaScope scope(isa);
      for (const Sizes& sizes :
           {Sizes{3, 16, 1}, Sizes{2, 48, 49}, Sizes{5, 32, 4}, Sizes{1, 16, 1}, Sizes{2, 32, 1100}, Sizes{40, 32, 20}})
        for (const int32_t block : {8, 16})
          for (const int64_t gap : {0, 3})
            for (const bool from_mask : {false, true}) {
              INFO(isa, ": ", sizes.n, " x ", sizes.c, " x ", sizes.s, ", blocks of ", block, ", gap ", gap, ", mask ",
                   from_mask);
              const Step step(sizes, from_mask);
              CHECK(step.run(block, gap, BNORM_SERIAL) == step.run(0, 0, BNORM_SERIAL));
            }
    }
  }
}

TEST_CASE("blocked: the bits of one thread") {
  for (const Sizes& sizes : {Sizes{4, 64, 900}, Sizes{300, 64, 20}}) {
    const Step step(sizes, false);
    const Results expected = step.run(0, 0, BNORM_SERIAL);
    for (const Executor& e : executors()) {
      INFO(e.name, ": S ", sizes.s);
      for (const int32_t block : {8, 16})
        e.with([&](const bnorm_executor* executor) { CHECK(step.run(block, 0, executor) == expected); });
    }
  }
}

TEST_CASE("blocked: its rules") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 32;
  d.channel_block = 16;
  const auto refused = [&](bnorm_status status, std::initializer_list<const char*> words) {
    bnorm_plan* plan = nullptr;
    check_refusal(bnorm_plan_create(&plan, &d, nullptr), status, nullptr, words);
    CHECK(plan == nullptr);
  };
  d.channels = 20;
  refused(BNORM_INVALID_ARGUMENT, {"channels = 20", "channel_block = 16"});
  d.channels = 32;
  d.groups = 2;
  refused(BNORM_UNSUPPORTED, {"groups = 2", "channel_block"});
  check_refusal(bnorm_desc_set_layout(&d, BNORM_PLANAR), BNORM_INVALID_ARGUMENT, nullptr, {"channel_block = 16"});
  d.groups = 1;
  CHECK(bnorm_plan_partials_count(make_plan(d).get()) == 2 + 2 * 32);
  d.channels = 0;
  make_plan(d);
  d.channels = 32;
  d.batch = 2;
  d.spatial = 4;
  d.y = {0, 128, 64, 8};  // of a sample, a block, a position of 16 channels
  refused(BNORM_INVALID_ARGUMENT, {"y strides = (0, 128, 64, 8)", "overlap"});
}

TEST_CASE("blocked: the guard names the channel") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 2;
  d.channels = 32;
  d.channel_block = 16;
  d.guard = 1;
  Values x(64), y(64);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  x[16 + 5] = 1e30F * 1e30F;  // channel 21: the second block of the first sample
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.x = x.data();
  t.y = y.data();
  check_refusal(bnorm_train(make_plan(d).get(), &t), BNORM_NONFINITE, nullptr, {"guard: 1 ", "group 0, channel 21"});
}

}  // namespace bnorm_tests::test_blocked
