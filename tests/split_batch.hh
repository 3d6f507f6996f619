// SPDX-License-Identifier: Apache-2.0
// A batch that is normalized and differentiated in one call, and in parts whose moments and sums are merged: by the
// recipes of docs/statistics.md.
#pragma once
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "plan.hh"
#include "random.hh"
#include "tensor.hh"

namespace bnorm_tests {

struct Split {
  Shape shape;                 // of the whole batch
  std::vector<int64_t> parts;  // samples of each, of every group
  bool own_plans = false;      // a plan for each part, as processes have, not one for all
  bool fused = false;          // a residual and ReLU
  bool scaled = true;
  bnorm_weighting weighting = BNORM_UNWEIGHTED;
  bnorm_running_mode mode = BNORM_RUNNING_SEQUENTIAL;
  double mean = 0;  // of x
};

class SplitBatch {
 public:
  struct Results {
    std::vector<double> mean, inv_std;
    std::vector<float> y, dx, dscale, dshift, running_mean, running_var;
    bool operator==(const Results&) const = default;
  };

  explicit SplitBatch(const Split& split) : split_(split) {
    const Shape& shape = split.shape;
    Random random(static_cast<uint64_t>(shape.n * 31 + shape.s));
    x_ = normals<float>(random, shape.elements(), split.mean);
    dy_ = normals<float>(random, shape.elements());
    residual_ = normals<float>(random, shape.elements());
    for (int64_t c = 0; split.scaled && c < shape.c; ++c) scale_.push_back(0.125F * static_cast<float>(1 + c % 7));
    for (int64_t i = 0; split.weighting && i < shape.g * shape.count(); ++i)
      weights_.push_back(static_cast<float>(random.below(4)));
    // The weights of several groups are as far apart as the plan's batch says.
    const bool needs_whole = split.weighting && shape.g > 1;
    REQUIRE(!(needs_whole && split.own_plans));
    const int64_t most = *std::max_element(split.parts.begin(), split.parts.end());
    int64_t n = 0;
    for (const int64_t batch : split.parts) {
      first_.push_back(n);
      n += batch;
      if (split.own_plans) plans_.push_back(plan(batch));
    }
    REQUIRE(n == shape.n);
    if (!split.own_plans) plans_.push_back(plan(needs_whole ? shape.n : most));
    whole_ = plan(shape.n);
  }

  Results in_one_call() const {
    Results r = empty();
    bnorm_train_args t = train_args(0, split_.shape.n);
    t.y = r.y.data();
    t.scale = scale();
    if (split_.fused) t.residual = residual_.data();
    write_statistics(t, r);
    REQUIRE(bnorm_train(whole_.get(), &t) == BNORM_OK);
    bnorm_backward_args b = backward_args(r, 0, split_.shape.n);
    write_gradients(b, r, 0);
    REQUIRE(bnorm_backward(whole_.get(), &b) == BNORM_OK);
    return r;
  }

  Results in_parts() const {
    Results r = empty();
    const std::vector<double> moments = merged(bnorm_moments_merge, [&](size_t i, double* to) {
      const bnorm_train_args a = train_args(first_[i], split_.parts[i]);
      return bnorm_moments(plan_of(i), &a, to);
    });
    bnorm_train_args f = BNORM_TRAIN_ARGS_INIT;
    write_statistics(f, r);
    REQUIRE(bnorm_moments_finalize(plan_of(0), moments.data(), &f) == BNORM_OK);
    for (size_t i = 0; i < parts(); ++i) normalize(i, r);
    const std::vector<double> sums = merged(bnorm_sums_merge, [&](size_t i, double* to) {
      const bnorm_backward_args b = backward_args(r, first_[i], split_.parts[i]);
      return bnorm_backward_sums(plan_of(i), &b, to);
    });
    for (size_t i = 0; i < parts(); ++i) {
      bnorm_backward_args b = backward_args(r, first_[i], split_.parts[i]);
      write_gradients(b, r, first_[i]);
      REQUIRE(bnorm_backward_apply(plan_of(i), &b, sums.data()) == BNORM_OK);
    }
    return r;
  }

 private:
  size_t parts() const { return split_.parts.size(); }
  const bnorm_plan* plan_of(size_t part) const { return plans_[split_.own_plans ? part : 0].get(); }
  int64_t offset(int64_t n) const { return n * split_.shape.c * split_.shape.s; }

  PlanPointer plan(int64_t batch) const {
    const Shape& shape = split_.shape;
    bnorm_desc d = BNORM_DESC_INIT;
    d.groups = shape.g;
    d.batch = batch;
    d.channels = shape.c;
    d.spatial = shape.s;
    d.x = d.y = d.residual = d.dx = d.dy = d.dresidual = resolve({0, 0, 0, 0}, shape);
    d.residual_added = split_.fused;
    d.activation = split_.fused ? BNORM_RELU : BNORM_IDENTITY;
    d.weighting = split_.weighting;
    d.running_mode = split_.mode;
    return make_plan(d);
  }
  Results empty() const {
    const auto channels = static_cast<size_t>(split_.shape.c);
    Results r;
    r.mean.resize(static_cast<size_t>(split_.shape.g) * channels);
    r.inv_std = r.mean;
    r.y.resize(x_.size());
    r.dx = r.y;
    r.dscale.resize(channels);
    r.dshift = r.dscale;
    for (size_t c = 0; c < channels; ++c) r.running_mean.push_back(1 - 0.0625F * static_cast<float>(c % 5));
    r.running_var = r.running_mean;
    return r;
  }
  const float* scale() const { return scale_.empty() ? nullptr : scale_.data(); }
  const float* weights(int64_t n) const { return weights_.empty() ? nullptr : weights_.data() + n * split_.shape.s; }
  bnorm_train_args train_args(int64_t n, int64_t batch) const {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.batch = batch;
    a.x = x_.data() + offset(n);
    a.weights = weights(n);
    return a;
  }
  static void write_statistics(bnorm_train_args& a, Results& r) {
    a.mean = r.mean.data();
    a.inv_std = r.inv_std.data();
    a.running_mean = r.running_mean.data();
    a.running_var = r.running_var.data();
  }
  bnorm_backward_args backward_args(const Results& r, int64_t n, int64_t batch) const {
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    b.batch = batch;
    b.x = x_.data() + offset(n);
    b.dy = dy_.data() + offset(n);
    if (split_.fused) b.y = r.y.data() + offset(n);
    b.scale = scale();
    b.mean = r.mean.data();
    b.inv_std = r.inv_std.data();
    b.weights = weights(n);
    return b;
  }
  void write_gradients(bnorm_backward_args& b, Results& r, int64_t n) const {
    b.dx = r.dx.data() + offset(n);
    b.dscale = r.dscale.data();
    b.dshift = r.dshift.data();
  }
  void normalize(size_t part, Results& r) const {
    std::vector<double> coefficients(bnorm_plan_coefficients_size(plan_of(part)) / sizeof(double));
    bnorm_prepare_args p = BNORM_PREPARE_ARGS_INIT;
    p.mean = r.mean.data();
    p.inv_std = r.inv_std.data();
    p.scale = scale();
    REQUIRE(bnorm_prepare(plan_of(part), &p, coefficients.data()) == BNORM_OK);
    const int64_t at = offset(first_[part]);
    bnorm_normalize_args a = BNORM_NORMALIZE_ARGS_INIT;
    a.batch = split_.parts[part];
    a.x = x_.data() + at;
    a.y = r.y.data() + at;
    if (split_.fused) a.residual = residual_.data() + at;
    a.coefficients = coefficients.data();
    REQUIRE(bnorm_normalize(plan_of(part), &a) == BNORM_OK);
  }
  /// The merged partials of part(i, partials), in memory of their own as in that of the first.
  template <class Merge, class Part>
  std::vector<double> merged(Merge merge, Part part) const {
    std::vector<std::vector<double>> partials(parts(), std::vector<double>(bnorm_plan_partials_count(whole_.get())));
    std::vector<const double*> pointers;
    for (size_t i = 0; i < parts(); ++i) {
      REQUIRE(part(i, partials[i].data()) == BNORM_OK);
      pointers.push_back(partials[i].data());
    }
    std::vector<double> all(partials[0].size());
    for (double* const to : {all.data(), partials[0].data()})
      REQUIRE(merge(plan_of(0), static_cast<int64_t>(parts()), pointers.data(), to, nullptr) == BNORM_OK);
    CHECK(std::memcmp(all.data(), partials[0].data(), all.size() * sizeof(double)) == 0);
    return all;
  }

  Split split_;
  std::vector<int64_t> first_;
  std::vector<float> x_, dy_, residual_, scale_, weights_;
  std::vector<PlanPointer> plans_;
  PlanPointer whole_;
};

}  // namespace bnorm_tests
