// SPDX-License-Identifier: Apache-2.0
// Published faults: statistics over several parts of a batch.
#include "faults.hh"

namespace bnorm_tests::test_faults_parts {
namespace {

using Moments = std::vector<double>;  // of one channel: count, mean, M2

/// Merges partial moments (or gradient sums) of one channel.
Moments merged(const std::vector<Moments>& parts, bool sums = false) {
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 1;
  const PlanPointer plan = make_plan(d);
  std::vector<const double*> pointers;
  for (const Moments& part : parts) pointers.push_back(part.data());
  Moments all(3, -1);
  REQUIRE((sums ? bnorm_sums_merge : bnorm_moments_merge)(plan.get(), static_cast<int64_t>(parts.size()),
                                                          pointers.data(), all.data(), nullptr) == BNORM_OK);
  return all;
}

/// Both orders of two parts; what is checked must not depend on it.
void check_merge(const Moments& a, const Moments& b, const Moments& expected) {
  CHECK(merged({a, b}) == expected);
  CHECK(merged({b, a}) == expected);
}

/// One training step of a problem whose samples are shared out among parts, each with buffers of its own: what every
/// part computes on its own, then what it computes from the merged results of all.
class SharedStep {
 public:
  SharedStep(const Problem& p, const std::vector<int64_t>& batches) : p_(p), batches_(batches) {
    bnorm_desc d = p.desc();
    if (p.config().layout == Layout::kPlanar) REQUIRE(bnorm_desc_set_layout(&d, BNORM_PLANAR) == BNORM_OK);
    plan_ = make_plan(d);
    x_ = laid_out(p.inputs().x);
    dy_ = laid_out(p.inputs().dy);
    y_.resize(x_.size());
    dx_.resize(x_.size());
    scale_.assign(p.inputs().scale.begin(), p.inputs().scale.end());
    shift_.assign(p.inputs().shift.begin(), p.inputs().shift.end());
    coefficients_.resize((bnorm_plan_coefficients_size(plan_.get()) + 7) / 8);
  }

  Outputs train() {
    const Moments moments = merge(bnorm_moments_merge, [&](int64_t batch, size_t at, double* part) {
      bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
      a.batch = batch;
      a.x = x_.data() + at;
      return bnorm_moments(plan_.get(), &a, part);
    });
    Outputs out = finalize(moments);
    each_part([&](int64_t batch, size_t at) {
      bnorm_normalize_args a = BNORM_NORMALIZE_ARGS_INIT;
      a.batch = batch;
      a.x = x_.data() + at;
      a.y = y_.data() + at;
      a.coefficients = coefficients_.data();
      REQUIRE(bnorm_normalize(plan_.get(), &a) == BNORM_OK);
    });
    out.y = logical(y_);
    return out;
  }

  /// Gradients of a part's own batch: dx in its place, dscale and dshift the same for all parts.
  Outputs backward(const Outputs& forward) {
    Outputs out;
    const auto args = [&](int64_t batch, size_t at) {
      bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
      a.batch = batch;
      a.x = x_.data() + at;
      a.dy = dy_.data() + at;
      a.scale = scale_.data();
      a.shift = shift_.data();
      a.mean = forward.mean.data();
      a.inv_std = forward.inv_std.data();
      return a;
    };
    const Moments sums = merge(bnorm_sums_merge, [&](int64_t batch, size_t at, double* part) {
      const bnorm_backward_args a = args(batch, at);
      return bnorm_backward_sums(plan_.get(), &a, part);
    });
    each_part([&](int64_t batch, size_t at) {
      std::vector<float> dscale(scale_.size(), kUntouched), dshift = dscale;
      bnorm_backward_args a = args(batch, at);
      a.dx = dx_.data() + at;
      a.dscale = dscale.data();
      a.dshift = dshift.data();
      REQUIRE(bnorm_backward_apply(plan_.get(), &a, sums.data()) == BNORM_OK);
      out.dscale.assign(dscale.begin(), dscale.end());
      out.dshift.assign(dshift.begin(), dshift.end());
    });
    out.dx = logical(dx_);
    return out;
  }

 private:
  template <class F>
  void each_part(F f) {
    size_t at = 0;
    for (const int64_t batch : batches_) {
      f(batch, at);
      at += static_cast<size_t>(batch * p_.shape().c * p_.shape().s);
    }
  }

  template <class Merge, class F>
  Moments merge(Merge merge_parts, F part_of) {
    std::vector<Moments> parts;
    std::vector<const double*> pointers;
    each_part([&](int64_t batch, size_t at) {
      parts.emplace_back(bnorm_plan_partials_count(plan_.get()), -1);
      REQUIRE(part_of(batch, at, parts.back().data()) == BNORM_OK);
    });
    for (const Moments& part : parts) pointers.push_back(part.data());
    Moments all(parts[0].size(), -1);
    REQUIRE(merge_parts(plan_.get(), static_cast<int64_t>(parts.size()), pointers.data(), all.data(), nullptr) ==
            BNORM_OK);
    return all;
  }

  Outputs finalize(const Moments& moments) {
    Outputs out;
    out.mean.resize(scale_.size());
    out.inv_std.resize(scale_.size());
    std::vector<float> mean(p_.inputs().running_mean.begin(), p_.inputs().running_mean.end());
    std::vector<float> var(p_.inputs().running_var.begin(), p_.inputs().running_var.end());
    bnorm_train_args f = BNORM_TRAIN_ARGS_INIT;
    f.mean = out.mean.data();
    f.inv_std = out.inv_std.data();
    f.running_mean = mean.data();
    f.running_var = var.data();
    REQUIRE(bnorm_moments_finalize(plan_.get(), moments.data(), &f) == BNORM_OK);
    out.running_mean.assign(mean.begin(), mean.end());
    out.running_var.assign(var.begin(), var.end());
    bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
    a.mean = f.mean;
    a.inv_std = f.inv_std;
    a.scale = scale_.data();
    a.shift = shift_.data();
    REQUIRE(bnorm_prepare(plan_.get(), &a, coefficients_.data()) == BNORM_OK);
    return out;
  }

  /// Where the logical element i lies.
  size_t place(size_t i) const {
    if (p_.config().layout == Layout::kPlanar) return i;
    const auto c = static_cast<size_t>(p_.shape().c), s = static_cast<size_t>(p_.shape().s);
    return (i / (c * s) * s + i % s) * c + i / s % c;
  }
  std::vector<float> laid_out(const std::vector<double>& values) const {
    std::vector<float> r(values.size());
    for (size_t i = 0; i < r.size(); ++i) r[place(i)] = static_cast<float>(values[i]);
    return r;
  }
  std::vector<double> logical(const std::vector<float>& values) const {
    std::vector<double> r(values.size());
    for (size_t i = 0; i < r.size(); ++i) r[i] = values[place(i)];
    return r;
  }

  const Problem& p_;
  std::vector<int64_t> batches_;
  PlanPointer plan_;
  std::vector<float> x_, dy_, y_, dx_, scale_, shift_;
  std::vector<double> coefficients_;
};

/// A step in parts gives the results that the formulas have for the whole batch.
void check_parts(Layout layout, const std::vector<int64_t>& batches) {
  Case c = case_of({1, 0, 5, 9}, layout);
  for (const int64_t batch : batches) c.shape.n += batch;
  c.activation = BNORM_RELU;
  Problem p(c);
  // Samples differ in their mean, so that those of the parts do.
  for (size_t i = 0; i < p.inputs().x.size(); ++i) {
    const size_t sample = i / 45;
    p.inputs().x[i] = rounded(BNORM_F32, p.inputs().x[i] + static_cast<double>(sample * sample));
  }
  SharedStep step(p, batches);
  const Outputs forward = step.train();
  CHECK(violation(expect(Operation::kTrain, p, forward), forward) == "");
  p.inputs().mean = forward.mean;
  p.inputs().inv_std = forward.inv_std;
  const Outputs gradients = step.backward(forward);
  CHECK(violation(expect(Operation::kBackward, p, gradients), gradients) == "");
}

}  // namespace

// pytorch/pytorch#22192, PaddlePaddle/Paddle#32464, oracle/tribuo#215: one part's count serves for all, or the means
// are averaged without weights.
TEST_CASE("fault: parts of unequal size are merged with equal weight") {
  each_isa([] {
    check_merge({2, 0, 1}, {6, 4, 3}, {8, 3, 28});    // 1 + 3 + 4^2 * 2 * 6 / 8
    check_merge({1, 10, 0}, {3, 2, 5}, {4, 4, 53});   // 0 + 5 + 8^2 * 1 * 3 / 4
    check_merge({7, -8, 2}, {1, 0, 0}, {8, -7, 58});  // 2 + 0 + 8^2 * 7 / 8
    check_merge({1e9, 1, 0}, {1e9, 3, 0}, {2e9, 2, 2e9});
  });
}

// boostorg/histogram#308, leggedrobotics/rsl_rl#226: invisible to a test that merges equal means.
TEST_CASE("fault: a merge leaves out the variance between the parts") {
  each_isa([] {
    check_merge({4, 1, 0}, {4, 5, 0}, {8, 3, 32});
    check_merge({4, 1, 8}, {4, 1, 8}, {8, 1, 16});
    CHECK(merged({{2, 0, 0}, {2, 4, 0}, {3, 10, 0}, {9, 14, 0}}) == Moments{16, 10.25, 415});
  });
}

// pytorch/pytorch#22192, pytorch/pytorch#36382: forward in unequal parts went wrong first, then its backward.
TEST_CASE("fault: training in unequal parts differs from training on the whole batch") {
  each_way([](Layout layout) {
    check_parts(layout, {2, 6});
    check_parts(layout, {1, 1, 9, 4, 2});
    check_parts(layout, {130, 3});
  });
}

// pytorch/pytorch#36530: a part without samples fails.
TEST_CASE("fault: a part without samples fails") {
  each_way([](Layout layout) {
    check_parts(layout, {0, 4});
    check_parts(layout, {3, 0, 0, 2});
    check_parts(layout, {0, 0});
  });
}

// apache/datafusion#13248, mathnet/mathnet-numerics#482, NVIDIA/cudf#22393: NaN for nothing merged with nothing or with
// something, even with large finite means.
TEST_CASE("fault: merging with an empty part gives NaN") {
  each_isa([] {
    const Moments empty = {0, 0, 0}, empty_far = {0, 1e300, 0};
    check_merge(empty, empty, empty);
    check_merge(empty, {3, 2, 2}, {3, 2, 2});
    check_merge(empty, {3, 1e300, 5}, {3, 1e300, 5});
    check_merge(empty_far, {3, -1e300, 5}, {3, -1e300, 5});
    CHECK(merged({empty, empty, {3, 2, 2}, empty, {3, 2, 2}, empty}) == Moments{6, 2, 4});
  });
}

// NVIDIA/apex#262: a single value in one part was refused although the whole has several.
TEST_CASE("fault: a part of one value is refused") {
  each_way([](Layout layout) {
    check_parts(layout, {1, 1});
    check_merge({1, 1, 0}, {1, 3, 0}, {2, 2, 2});
  });
}

// pytorch/pytorch#70901: 150 counts of 500 in a 16-bit type add up to Inf.
TEST_CASE("fault: counts of parts add up to Inf in a 16-bit type") {
  each_isa([] {
    std::vector<Moments> parts;
    for (int i = 0; i < 150; ++i) parts.push_back({500, i % 2 == 0 ? 0.25 : 0.75, 0});
    // 75000 values, 1/4 from their mean.
    CHECK(merged(parts) == Moments{75000, 0.5, 75000 / 16.0});
  });
}

// scikit-learn/scikit-learn#5602: the mean rebuilt from mean * count overflows.
TEST_CASE("fault: a merge overflows where mean times count does") {
  each_isa([] {
    const double mean = std::numeric_limits<double>::max() / 1e7;
    CHECK(merged(std::vector<Moments>(100, {500000, mean, 0})) == Moments{5e7, mean, 0});
  });
}

// sony/nnabla#1120: gradients of scale and shift counted once more for each worker.
TEST_CASE("fault: gradient sums of parts are counted once for each part") {
  each_isa([] {
    CHECK(merged({{2, 1, 10}, {6, 3, -4}, {0, 0, 0}, {1, 5, 1}}, true) == Moments{9, 9, 7});
    CHECK(merged({{2, 1, 10}}, true) == Moments{2, 1, 10});
  });
}

}  // namespace bnorm_tests::test_faults_parts
