// SPDX-License-Identifier: Apache-2.0
// With a workspace no call allocates. malloc, on which operator new stands, is counted by a definition of our own,
// which a sanitizer would not like.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include "sanitizers.hh"
#if !BNORM_TESTS_SANITIZED

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <vector>

#include "plan.hh"

namespace {
std::atomic<int64_t> allocations{0};
}

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): glibc's own names of what is replaced here
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* pointer, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
// NOLINTEND(bugprone-reserved-identifier)

void* malloc(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, bytes);
}
void* realloc(void* pointer, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(pointer, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** pointer, size_t alignment, size_t bytes) {
  *pointer = memalign(alignment, bytes);
  return *pointer ? 0 : ENOMEM;
}
}

namespace bnorm_tests::test_allocation {
namespace {

/// Allocations of one call.
template <class Call>
int64_t count(Call call) {
  const int64_t before = allocations.load();
  const bnorm_status status = call();
  const int64_t after = allocations.load();
  CHECK(status == BNORM_OK);
  return after - before;
}

constexpr int64_t kGroups = 2, kChannels = 40, kSpatial = 20;
constexpr size_t kAllChannels = kGroups * kChannels;

/// A plan and the buffers of all its calls. Two groups that share running statistics take the longest way.
class Calls {
 public:
  Calls(bnorm_layout layout, int64_t batch, const bnorm_executor* executor) : executor_(executor) {
    bnorm_desc d = BNORM_DESC_INIT;
    d.groups = kGroups;
    d.batch = batch;
    d.channels = kChannels;
    d.spatial = kSpatial;
    d.running_mode = BNORM_RUNNING_MEAN;
    REQUIRE(bnorm_desc_set_layout(&d, layout) == BNORM_OK);
    plan_ = make_plan(d);
    x_.resize(static_cast<size_t>(kGroups * batch * kChannels * kSpatial), 1.5f);
    y_ = x_;
    partials_.resize(bnorm_plan_partials_count(plan_.get()));
    coefficients_.resize(bnorm_plan_coefficients_size(plan_.get()) / sizeof(double));
    workspace_.resize(bnorm_plan_workspace_size(plan_.get()));
  }

  /// Makes every call. One that takes a workspace and is given none allocates it; there is no other allocation.
  void check(bool give_workspace) {
    workspace_given_ = give_workspace;
    const int64_t expected = give_workspace ? 0 : 1;
    CHECK(count([&] { return infer(); }) == expected);
    CHECK(count([&] { return train(); }) == expected);
    CHECK(count([&] { return backward(); }) == expected);
    CHECK(count([&] { return moments(); }) == expected);
    CHECK(count([&] { return merge(bnorm_moments_merge); }) == 0);
    CHECK(count([&] { return finalize(); }) == 0);
    CHECK(count([&] { return prepare(); }) == 0);
    CHECK(count([&] { return normalize(); }) == 0);
    CHECK(count([&] { return sums(); }) == expected);
    CHECK(count([&] { return merge(bnorm_sums_merge); }) == 0);
    CHECK(count([&] { return apply(); }) == expected);
  }

 private:
  bnorm_status infer() {
    bnorm_infer_args a = BNORM_INFER_ARGS_INIT;
    fill(a);
    a.y = y_.data();
    a.running_mean = running_mean_.data();
    a.running_var = running_var_.data();
    return bnorm_infer(plan_.get(), &a);
  }
  bnorm_status train() {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    fill(a);
    a.y = y_.data();
    fill_statistics(a);
    return bnorm_train(plan_.get(), &a);
  }
  bnorm_status moments() {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    fill(a);
    return bnorm_moments(plan_.get(), &a, partials_.data());
  }
  template <class Merge>
  bnorm_status merge(Merge merge_parts) {
    const double* const parts[] = {partials_.data()};
    return merge_parts(plan_.get(), 1, parts, partials_.data(), nullptr);
  }
  bnorm_status finalize() {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    fill_statistics(a);
    return bnorm_moments_finalize(plan_.get(), partials_.data(), &a);
  }
  bnorm_status prepare() {
    bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
    a.mean = mean_.data();
    a.inv_std = inv_std_.data();
    return bnorm_prepare(plan_.get(), &a, coefficients_.data());
  }
  bnorm_status normalize() {
    bnorm_normalize_args a = BNORM_NORMALIZE_ARGS_INIT;
    a.x = x_.data();
    a.y = y_.data();
    a.coefficients = coefficients_.data();
    a.executor = executor_;
    return bnorm_normalize(plan_.get(), &a);
  }
  bnorm_status backward() {
    const bnorm_backward_args a = backward_args(true);
    return bnorm_backward(plan_.get(), &a);
  }
  bnorm_status sums() {
    const bnorm_backward_args a = backward_args(false);
    return bnorm_backward_sums(plan_.get(), &a, partials_.data());
  }
  bnorm_status apply() {
    const bnorm_backward_args a = backward_args(true);
    return bnorm_backward_apply(plan_.get(), &a, partials_.data());
  }
  bnorm_backward_args backward_args(bool outputs) {
    bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
    fill(a);
    a.dy = x_.data();
    a.mean = mean_.data();
    a.inv_std = inv_std_.data();
    if (!outputs) return a;
    a.dx = y_.data();
    a.dscale = dscale_.data();
    a.dshift = dshift_.data();
    return a;
  }
  template <class Args>
  void fill(Args& a) {
    a.x = x_.data();
    a.executor = executor_;
    if (!workspace_given_) return;
    a.workspace = workspace_.data();
    a.workspace_bytes = workspace_.size();
  }
  void fill_statistics(bnorm_train_args& a) {
    a.mean = mean_.data();
    a.inv_std = inv_std_.data();
    a.running_mean = running_mean_.data();
    a.running_var = running_var_.data();
  }

  const bnorm_executor* executor_;
  PlanPointer plan_;
  bool workspace_given_ = true;
  std::vector<float> x_, y_;
  std::vector<double> mean_ = std::vector<double>(kAllChannels), inv_std_ = mean_;
  std::vector<float> running_mean_ = std::vector<float>(kChannels, 1.0f), running_var_ = running_mean_;
  std::vector<float> dscale_ = running_mean_, dshift_ = running_mean_;
  std::vector<double> partials_, coefficients_;
  std::vector<unsigned char> workspace_;
};

/// Tasks for four threads, run by one.
bnorm_executor divided_executor() {
  bnorm_executor e = BNORM_EXECUTOR_INIT;
  e.concurrency = 4;
  e.parallel_for = [](void*, int64_t n, bnorm_task task, void* argument) -> int32_t {
    for (int64_t i = 0; i < n; ++i) task(argument, i);
    return 0;
  };
  return e;
}

}  // namespace

TEST_CASE("allocation: none in a call that has a workspace, one in a call that has none") {
  const bnorm_executor divided = divided_executor();
  for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST})
    for (const int64_t batch : {3, 300})
      for (const bnorm_executor* const executor : {BNORM_SERIAL, &divided}) {
        CAPTURE(layout);
        CAPTURE(batch);
        CAPTURE(executor->concurrency);
        Calls calls(layout, batch, executor);
        calls.check(true);
        calls.check(false);
      }
}

TEST_CASE("allocation: none in a simple call of few channels, one of many") {
  constexpr size_t few = 256, many = 2048;
  const std::vector<float> x(many, 1.5f), running_mean(many), running_var(many, 1.0f);
  std::vector<float> y(many), dx(many);
  std::vector<double> mean(many), inv_std(many);
  for (const size_t channels : {few, many}) {
    const auto c = static_cast<int64_t>(channels);
    const int64_t expected = channels == few ? 0 : 1;
    CHECK(count([&] {
            return bnorm_infer_f32(1, c, 1, x.data(), y.data(), nullptr, nullptr, running_mean.data(),
                                   running_var.data(), 1e-5);
          }) == expected);
    CHECK(count([&] {
            return bnorm_train_f32(1, c, 1, x.data(), y.data(), nullptr, nullptr, mean.data(), inv_std.data(), nullptr,
                                   nullptr, 1e-5, 0.1);
          }) == expected);
    CHECK(count([&] {
            return bnorm_backward_f32(1, c, 1, x.data(), x.data(), nullptr, mean.data(), inv_std.data(), dx.data(),
                                      nullptr, nullptr);
          }) == expected);
  }
}

TEST_CASE("allocation: none in a fold") {
  constexpr size_t outputs = 40, inputs = 30;
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = outputs;
  const PlanPointer plan = make_plan(d);
  const std::vector<float> weight(outputs * inputs, 0.5f), mean(outputs, 1.0f), var(outputs, 2.0f);
  std::vector<float> folded_weight(weight.size()), folded_bias(outputs);
  bnorm_fold_args a = BNORM_FOLD_ARGS_INIT;
  a.outputs = outputs;
  a.inputs = inputs;
  a.weight = weight.data();
  a.folded_weight = folded_weight.data();
  a.folded_bias = folded_bias.data();
  a.running_mean = mean.data();
  a.running_var = var.data();
  CHECK(count([&] { return bnorm_fold(plan.get(), &a); }) == 0);
  CHECK(folded_bias[0] != 0);
}

TEST_CASE("allocation: the counter sees malloc and operator new of every kind") {
  const auto counts_one = [](auto allocate, auto release) {
    void* p = nullptr;
    CHECK(count([&] { return (p = allocate()) ? BNORM_OK : BNORM_OUT_OF_MEMORY; }) == 1);
    release(p);
  };
  const auto wide = std::align_val_t(64);
  counts_one([] { return std::malloc(8); }, [](void* p) { std::free(p); });
  counts_one([] { return std::calloc(1, 8); }, [](void* p) { std::free(p); });
  counts_one([] { return std::aligned_alloc(64, 64); }, [](void* p) { std::free(p); });
  counts_one([] { return ::operator new(8); }, [](void* p) { ::operator delete(p); });
  counts_one([] { return ::operator new[](8); }, [](void* p) { ::operator delete[](p); });
  counts_one([=] { return ::operator new(64, wide); }, [=](void* p) { ::operator delete(p, wide); });
}

}  // namespace bnorm_tests::test_allocation

#endif
