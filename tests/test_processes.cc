// SPDX-License-Identifier: Apache-2.0
// Statistics over several processes: partial moments and sums of runs of whole blocks, merged, give the bits of one
// process that holds the whole batch.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "plan.hh"
#include "problem.hh"
#include "random.hh"

namespace bnorm_tests::test_processes {
namespace {

/// A batch of 2 groups that `processes` plans share; every one but the last holds `share` samples.
class Shared {
 public:
  Shared(const Shape& shape, int64_t share) : shape_(shape) {
    Random random(static_cast<uint64_t>(shape.n * 31 + shape.s));
    const auto make = [&](int64_t n) { return normals<float>(random, n, 100); };
    x_ = make(shape.elements());
    dy_ = make(shape.elements());
    scale_ = make(shape.c);
    running_mean_ = make(shape.c);
    running_var_ = make(shape.c);
    for (int64_t n = 0; n < shape.n; n += share) {
      first_.push_back(n);
      plans_.push_back(make_plan(desc(std::min(share, shape.n - n))));
    }
    whole_ = make_plan(desc(shape.n));
    moments_.assign(plans_.size(), std::vector<double>(bnorm_plan_partials_count(whole_.get())));
    sums_ = moments_;
  }

  struct Results {
    std::vector<float> y, dx, dscale, dshift, running_mean, running_var;
    std::vector<double> mean, inv_std;
    bool operator==(const Results&) const = default;
  };

  Results one_process() {
    Results r = empty();
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.x = x_.data();
    a.y = r.y.data();
    a.scale = scale_.data();
    fill(a, r);
    REQUIRE(bnorm_train(whole_.get(), &a) == BNORM_OK);
    bnorm_backward_args b = backward_args(0, r);
    b.dx = r.dx.data();
    b.dscale = r.dscale.data();
    b.dshift = r.dshift.data();
    REQUIRE(bnorm_backward(whole_.get(), &b) == BNORM_OK);
    return r;
  }

  Results many_processes() {
    Results r = empty();
    for (size_t i = 0; i < plans_.size(); ++i) {
      bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
      a.x = x_.data() + offset(i);
      REQUIRE(bnorm_moments(plans_[i].get(), &a, moments_[i].data()) == BNORM_OK);
    }
    std::vector<double> merged = merge(bnorm_moments_merge, moments_);
    bnorm_train_args f = BNORM_TRAIN_ARGS_INIT;
    fill(f, r);
    REQUIRE(bnorm_moments_finalize(whole_.get(), merged.data(), &f) == BNORM_OK);
    for (size_t i = 0; i < plans_.size(); ++i) normalize(i, r);
    for (size_t i = 0; i < plans_.size(); ++i) {
      const bnorm_backward_args b = backward_args(i, r);
      REQUIRE(bnorm_backward_sums(plans_[i].get(), &b, sums_[i].data()) == BNORM_OK);
    }
    merged = merge(bnorm_sums_merge, sums_);
    for (size_t i = 0; i < plans_.size(); ++i) {
      bnorm_backward_args b = backward_args(i, r);
      b.dx = r.dx.data() + offset(i);
      b.dscale = r.dscale.data();
      b.dshift = r.dshift.data();
      REQUIRE(bnorm_backward_apply(plans_[i].get(), &b, merged.data()) == BNORM_OK);
    }
    return r;
  }

 private:
  bnorm_desc desc(int64_t batch) const {
    bnorm_desc d = BNORM_DESC_INIT;
    d.groups = shape_.g;
    d.batch = batch;
    d.channels = shape_.c;
    d.spatial = shape_.s;
    d.running_mode = BNORM_RUNNING_SEQUENTIAL;
    d.x = d.y = d.dx = d.dy = resolve({0, 0, 0, 0}, shape_);
    return d;
  }
  int64_t offset(size_t i) const { return first_[i] * shape_.c * shape_.s; }
  Results empty() const {
    Results r;
    r.y.resize(x_.size());
    r.dx.resize(x_.size());
    r.dscale.resize(scale_.size());
    r.dshift.resize(scale_.size());
    r.running_mean = running_mean_;
    r.running_var = running_var_;
    r.mean.resize(static_cast<size_t>(shape_.g * shape_.c));
    r.inv_std.resize(r.mean.size());
    return r;
  }
  static void fill(bnorm_train_args& a, Results& r) {
    a.mean = r.mean.data();
    a.inv_std = r.inv_std.data();
    a.running_mean = r.running_mean.data();
    a.running_var = r.running_var.data();
  }
  bnorm_backward_args backward_args(size_t i, const Results& r) const {
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    b.x = x_.data() + offset(i);
    b.dy = dy_.data() + offset(i);
    b.scale = scale_.data();
    b.mean = r.mean.data();
    b.inv_std = r.inv_std.data();
    return b;
  }
  void normalize(size_t i, Results& r) const {
    std::vector<double> coefficients(bnorm_plan_coefficients_size(plans_[i].get()) / sizeof(double));
    bnorm_prepare_args p = BNORM_PREPARE_ARGS_INIT;
    p.mean = r.mean.data();
    p.inv_std = r.inv_std.data();
    p.scale = scale_.data();
    REQUIRE(bnorm_prepare(plans_[i].get(), &p, coefficients.data()) == BNORM_OK);
    bnorm_normalize_args n = BNORM_NORMALIZE_ARGS_INIT;
    n.x = x_.data() + offset(i);
    n.y = r.y.data() + offset(i);
    n.coefficients = coefficients.data();
    REQUIRE(bnorm_normalize(plans_[i].get(), &n) == BNORM_OK);
  }
  template <class Merge>
  std::vector<double> merge(Merge function, std::vector<std::vector<double>>& parts) const {
    std::vector<const double*> pointers;
    for (const auto& part : parts) pointers.push_back(part.data());
    std::vector<double> merged(parts[0].size());
    REQUIRE(function(whole_.get(), static_cast<int64_t>(parts.size()), pointers.data(), merged.data(), nullptr) ==
            BNORM_OK);
    // merged may be parts[0].
    REQUIRE(function(whole_.get(), static_cast<int64_t>(parts.size()), pointers.data(), parts[0].data(), nullptr) ==
            BNORM_OK);
    CHECK(std::memcmp(merged.data(), parts[0].data(), merged.size() * sizeof(double)) == 0);
    return merged;
  }

  Shape shape_;
  std::vector<float> x_, dy_, scale_, running_mean_, running_var_;
  std::vector<int64_t> first_;
  std::vector<PlanPointer> plans_;
  PlanPointer whole_;
  std::vector<std::vector<double>> moments_, sums_;
};

}  // namespace

TEST_CASE("bits: several processes whose parts are equal powers of two of whole blocks") {
  // Samples of a block: 1024 at S = 1, 256 at S = 4, 64 at S = 16, 1 at S = 1024.
  struct Block {
    int64_t samples, spatial;
  };
  for (const Block block : {Block{1024, 1}, Block{256, 4}, Block{64, 16}, Block{1, 1024}})
    for (const int64_t blocks : {1, 2, 4})
      for (const int64_t processes : {2, 3, 4})
        for (const bool full : {false, true}) {
          const int64_t share = block.samples * blocks;
          const int64_t n = share * processes - (full || share == 1 ? 0 : share / 2);
          INFO("S ", block.spatial, " N ", n, " processes ", processes, " blocks of each ", blocks);
          Shared shared({2, n, 17, block.spatial}, share);
          CHECK(shared.one_process() == shared.many_processes());
        }
}

TEST_CASE("merge: parts of count 0 change nothing") {
  const PlanPointer plan = make_plan([] {
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = 4;
    d.channels = 2;
    return d;
  }());
  // count, mean[2], M2[2]
  const double some[] = {4, 1.5, -2.25, 3, 0.5}, nothing[] = {0, 0, 0, 0, 0};
  const double* const orders[][3] = {{some, nothing, nothing}, {nothing, some, nothing}, {nothing, nothing, some}};
  for (const auto& parts : orders) {
    double merged[5] = {};
    REQUIRE(bnorm_moments_merge(plan.get(), 3, parts, merged, nullptr) == BNORM_OK);
    CHECK(std::memcmp(merged, some, sizeof some) == 0);
    REQUIRE(bnorm_sums_merge(plan.get(), 3, parts, merged, nullptr) == BNORM_OK);
    CHECK(std::memcmp(merged, some, sizeof some) == 0);
  }
}

TEST_CASE("merge: Chan's formula on exact numbers") {
  const PlanPointer plan = make_plan([] {
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = 8;
    d.channels = 1;
    return d;
  }());
  // {1, 3} and {5, 7}: means 2 and 6, M2 2 and 2; together mean 4, M2 20.
  const double a[] = {2, 2, 2}, b[] = {2, 6, 2};
  const double* const parts[] = {a, b};
  double merged[3] = {};
  REQUIRE(bnorm_moments_merge(plan.get(), 2, parts, merged, nullptr) == BNORM_OK);
  CHECK(merged[0] == 4);
  CHECK(merged[1] == 4);
  CHECK(merged[2] == 20);
  REQUIRE(bnorm_sums_merge(plan.get(), 2, parts, merged, nullptr) == BNORM_OK);
  CHECK(merged[0] == 4);
  CHECK(merged[1] == 8);
  CHECK(merged[2] == 4);
}

}  // namespace bnorm_tests::test_processes
