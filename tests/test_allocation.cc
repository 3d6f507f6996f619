// SPDX-License-Identifier: Apache-2.0
// With a workspace no call allocates. malloc is counted by a definition of our own, which a sanitizer would not like.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BNORM_TESTS_SANITIZED 1
#endif
#endif
#if !defined(BNORM_TESTS_SANITIZED) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include <atomic>
#include <cstdlib>
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
}

namespace bnorm_tests {
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

void check_plan(int64_t batch) {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = batch;
  d.channels = 64;
  d.spatial = 20;
  const PlanPointer plan = make_plan(d);
  const size_t elements = static_cast<size_t>(batch) * 64 * 20;
  std::vector<float> x(elements, 1.5f), y(elements), dscale(64), dshift(64), running(64, 1.0f), running_var(64, 1.0f);
  std::vector<double> mean(64), inv_std(64), partials(bnorm_plan_partials_count(plan.get()));
  std::vector<double> coefficients(bnorm_plan_coefficients_size(plan.get()) / 8 + 1);
  std::vector<unsigned char> workspace(bnorm_plan_workspace_size(plan.get()));
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.x = x.data();
  t.workspace = workspace.data();
  t.workspace_bytes = workspace.size();
  t.executor = BNORM_SERIAL;
  CHECK(count([&] { return bnorm_moments(plan.get(), &t, partials.data()); }) == 0);
  t.y = y.data();
  t.mean = mean.data();
  t.inv_std = inv_std.data();
  t.running_mean = running.data();
  t.running_var = running_var.data();
  CHECK(count([&] { return bnorm_train(plan.get(), &t); }) == 0);
  t.workspace = nullptr;
  t.workspace_bytes = 0;
  CHECK(count([&] { return bnorm_train(plan.get(), &t); }) == 1);  // the counter does count
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.x = b.dy = x.data();
  b.dx = y.data();
  b.mean = mean.data();
  b.inv_std = inv_std.data();
  b.dscale = dscale.data();
  b.dshift = dshift.data();
  b.workspace = workspace.data();
  b.workspace_bytes = workspace.size();
  b.executor = BNORM_SERIAL;
  CHECK(count([&] { return bnorm_backward(plan.get(), &b); }) == 0);
  bnorm_prepare_args p = BNORM_PREPARE_ARGS_INIT;
  p.mean = mean.data();
  p.inv_std = inv_std.data();
  CHECK(count([&] { return bnorm_prepare(plan.get(), &p, coefficients.data()); }) == 0);
  bnorm_normalize_args n = BNORM_NORMALIZE_ARGS_INIT;
  n.x = x.data();
  n.y = y.data();
  n.coefficients = coefficients.data();
  n.executor = BNORM_SERIAL;
  CHECK(count([&] { return bnorm_normalize(plan.get(), &n); }) == 0);
}

}  // namespace

TEST_CASE("allocation: none in a call that has a workspace, one in a call that has none") {
  check_plan(3);
  check_plan(300);
}

}  // namespace bnorm_tests

#endif
