// SPDX-License-Identifier: Apache-2.0
// The library's dealings with its caller: allocator, executor, struct sizes, merges, the simple calls.
#include <cstdlib>
#include <map>

#include "executors.hh"
#include "plan.hh"
#include "problem.hh"
#include "refusal.hh"

namespace bnorm_tests::test_contracts {
namespace {

/// An allocator that counts, checks what comes back, and can run out.
struct CountingAllocator {
  bnorm_allocator hook = BNORM_ALLOCATOR_INIT;
  int64_t allocations = 0, releases = 0, wrong_releases = 0;
  int64_t left = INT64_MAX;  // allocations before NULL
  std::map<void*, size_t> live;

  CountingAllocator() {
    hook.context = this;
    hook.allocate = [](void* context, size_t bytes) {
      return static_cast<CountingAllocator*>(context)->allocate(bytes);
    };
    hook.release = [](void* context, void* p, size_t bytes) {
      static_cast<CountingAllocator*>(context)->release(p, bytes);
    };
  }
  void* allocate(size_t bytes) {
    if (left-- <= 0) return nullptr;
    ++allocations;
    void* const p = std::malloc(bytes);
    live[p] = bytes;
    return p;
  }
  void release(void* p, size_t bytes) {
    ++releases;
    const auto found = live.find(p);
    if (found == live.end() || found->second != bytes) {
      ++wrong_releases;
      return;
    }
    live.erase(found);
    std::free(p);
  }
};

/// A problem of several hundred KB, so that work is shared out, with buffers for every call.
struct Large {
  static constexpr int64_t kBatch = 64, kChannels = 32, kSpatial = 64;
  static constexpr size_t kElements = kBatch * kChannels * kSpatial;
  std::vector<float> x = std::vector<float>(kElements), y = std::vector<float>(kElements, 7.0f), dx = y, dy = x;
  std::vector<float> running_mean = std::vector<float>(kChannels, 3.0f), running_var = running_mean;
  std::vector<float> dscale = std::vector<float>(kChannels, 7.0f), dshift = dscale;
  std::vector<double> mean = std::vector<double>(kChannels, 5.0), inv_std = mean, partials;
  std::vector<double> coefficients;
  PlanPointer plan;
  bnorm_error error = BNORM_ERROR_INIT;

  explicit Large(const bnorm_allocator* allocator = nullptr) {
    for (size_t i = 0; i < kElements; ++i) x[i] = static_cast<float>(i * 7 % 1001) / 256, dy[i] = x[i] - 1;
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = kBatch;
    d.channels = kChannels;
    d.spatial = kSpatial;
    d.allocator = allocator;
    plan = make_plan(d);
    partials.resize(bnorm_plan_partials_count(plan.get()), 7.0);
    coefficients.resize(bnorm_plan_coefficients_size(plan.get()) / sizeof(double), 0.5);
  }
  bnorm_train_args train_args(const bnorm_executor* executor) {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.x = x.data();
    a.y = y.data();
    a.mean = mean.data();
    a.inv_std = inv_std.data();
    a.running_mean = running_mean.data();
    a.running_var = running_var.data();
    a.executor = executor;
    a.error = &error;
    return a;
  }
  bnorm_backward_args backward_args(const bnorm_executor* executor) {
    bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
    a.x = x.data();
    a.dy = dy.data();
    a.mean = mean.data();
    a.inv_std = inv_std.data();
    a.dx = dx.data();
    a.dscale = dscale.data();
    a.dshift = dshift.data();
    a.executor = executor;
    a.error = &error;
    return a;
  }
  bnorm_infer_args infer_args(const bnorm_executor* executor) {
    bnorm_infer_args a = BNORM_INFER_ARGS_INIT;
    a.x = x.data();
    a.y = y.data();
    a.running_mean = running_mean.data();
    a.running_var = running_var.data();
    a.executor = executor;
    a.error = &error;
    return a;
  }
  bool outputs_untouched() const {
    const auto all = [](const auto& values, auto value) {
      for (const auto v : values)
        if (v != value) return false;
      return true;
    };
    return all(y, 7.0f) && all(dx, 7.0f) && all(running_mean, 3.0f) && all(running_var, 3.0f) && all(dscale, 7.0f) &&
           all(dshift, 7.0f) && all(mean, 5.0) && all(inv_std, 5.0) && all(partials, 7.0);
  }
};

}  // namespace

TEST_CASE("contract: the allocator is asked once per call without workspace, and gets everything back") {
  CountingAllocator allocator;
  {
    Large p(&allocator.hook);
    CHECK(allocator.allocations == 1);
    const bnorm_train_args a = p.train_args(BNORM_SERIAL);
    REQUIRE(bnorm_train(p.plan.get(), &a) == BNORM_OK);
    CHECK(allocator.allocations == 2);
    CHECK(allocator.releases == 1);
    const bnorm_backward_args b = p.backward_args(nullptr);
    REQUIRE(bnorm_backward(p.plan.get(), &b) == BNORM_OK);
    CHECK(allocator.allocations == 3);
    std::vector<unsigned char> workspace(bnorm_plan_workspace_size(p.plan.get()));
    bnorm_train_args given = p.train_args(nullptr);
    given.workspace = workspace.data();
    given.workspace_bytes = workspace.size();
    REQUIRE(bnorm_train(p.plan.get(), &given) == BNORM_OK);
    CHECK(allocator.allocations == 3);
  }
  CHECK(allocator.allocations == allocator.releases);
  CHECK(allocator.wrong_releases == 0);
  CHECK(allocator.live.empty());
}

TEST_CASE("contract: an allocator that returns NULL makes the call OUT_OF_MEMORY with nothing written") {
  CountingAllocator allocator;
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = d.channels = 4;
  d.allocator = &allocator.hook;
  allocator.left = 0;
  bnorm_plan* plan = nullptr;
  bnorm_error error = BNORM_ERROR_INIT;
  check_refusal(bnorm_plan_create(&plan, &d, &error), BNORM_OUT_OF_MEMORY, &error, {"plan"});
  CHECK(plan == nullptr);
  allocator.left = 1;
  Large p(&allocator.hook);
  const bnorm_train_args train = p.train_args(nullptr);
  check_refusal(bnorm_train(p.plan.get(), &train), BNORM_OUT_OF_MEMORY, &p.error, {"workspace"});
  CHECK(p.outputs_untouched());
  const bnorm_backward_args backward = p.backward_args(nullptr);
  check_refusal(bnorm_backward(p.plan.get(), &backward), BNORM_OUT_OF_MEMORY, &p.error, {"workspace"});
  check_refusal(bnorm_backward_apply(p.plan.get(), &backward, p.partials.data()), BNORM_OUT_OF_MEMORY, &p.error, {});
  CHECK(p.outputs_untouched());
  const bnorm_infer_args infer = p.infer_args(nullptr);
  check_refusal(bnorm_infer(p.plan.get(), &infer), BNORM_OUT_OF_MEMORY, &p.error, {"workspace"});
  CHECK(p.outputs_untouched());
  bnorm_train_args moments = BNORM_TRAIN_ARGS_INIT;
  moments.x = p.x.data();
  check_refusal(bnorm_moments(p.plan.get(), &moments, p.partials.data()), BNORM_OUT_OF_MEMORY, nullptr, {});
  CHECK(p.outputs_untouched());
}

TEST_CASE("contract: an executor that breaks its contract fails the call and leaves running statistics alone") {
  for (const Manner manner : {Manner::kSkipsOne, Manner::kRepeatsOne, Manner::kOutOfRange, Manner::kFails}) {
    INFO("manner ", static_cast<int>(manner));
    CustomExecutor executor(manner, 4);
    Large p;
    const auto failed = [&](bnorm_status status) {
      check_refusal(status, BNORM_EXECUTION_FAILED, &p.error, {"executor"});
      CHECK(p.running_mean == std::vector<float>(Large::kChannels, 3.0f));
      CHECK(p.running_var == p.running_mean);
      p.error = BNORM_ERROR_INIT;
    };
    const bnorm_train_args train = p.train_args(executor.get());
    failed(bnorm_train(p.plan.get(), &train));
    CHECK(executor.most_tasks() > 1);
    const bnorm_infer_args infer = p.infer_args(executor.get());
    failed(bnorm_infer(p.plan.get(), &infer));
    const bnorm_backward_args backward = p.backward_args(executor.get());
    failed(bnorm_backward(p.plan.get(), &backward));
    bnorm_train_args moments = BNORM_TRAIN_ARGS_INIT;
    moments.x = p.x.data();
    moments.executor = executor.get();
    moments.error = &p.error;
    failed(bnorm_moments(p.plan.get(), &moments, p.partials.data()));
    failed(bnorm_backward_apply(p.plan.get(), &backward, p.partials.data()));
    bnorm_backward_args sums = p.backward_args(executor.get());
    sums.dx = nullptr;
    sums.dscale = sums.dshift = nullptr;
    failed(bnorm_backward_sums(p.plan.get(), &sums, p.partials.data()));
    bnorm_normalize_args normalize = BNORM_NORMALIZE_ARGS_INIT;
    normalize.x = p.x.data();
    normalize.y = p.y.data();
    normalize.coefficients = p.coefficients.data();
    normalize.executor = executor.get();
    normalize.error = &p.error;
    failed(bnorm_normalize(p.plan.get(), &normalize));
  }
}

TEST_CASE("contract: tensors without elements cost nothing, however long their other axes") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = int64_t{1} << 40;
  d.channels = 0;
  d.spatial = 16;
  const PlanPointer plan = make_plan(d);
  bnorm_infer_args i = BNORM_INFER_ARGS_INIT;
  CHECK(bnorm_infer(plan.get(), &i) == BNORM_OK);
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  CHECK(bnorm_train(plan.get(), &t) == BNORM_OK);
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  CHECK(bnorm_backward(plan.get(), &b) == BNORM_OK);
  double counts[1] = {7};
  CHECK(bnorm_moments(plan.get(), &t, counts) == BNORM_OK);
  CHECK(counts[0] == 0x1p44);
  CHECK(bnorm_backward_sums(plan.get(), &b, counts) == BNORM_OK);
  CHECK(bnorm_backward_apply(plan.get(), &b, counts) == BNORM_OK);
  const std::vector<double> coefficients(1);
  bnorm_normalize_args n = BNORM_NORMALIZE_ARGS_INIT;
  n.coefficients = coefficients.data();
  CHECK(bnorm_normalize(plan.get(), &n) == BNORM_OK);
}

TEST_CASE("contract: groups without channels cost nothing, however many they are") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.groups = int64_t{1} << 50;
  d.channels = 0;
  const PlanPointer plan = make_plan(d);
  bnorm_prepare_args p = BNORM_PREPARE_ARGS_INIT;
  CHECK(bnorm_prepare(plan.get(), &p, nullptr) == BNORM_OK);

  // With weights each group has a sum in the workspace: refused, but at once.
  bnorm_allocator small = BNORM_ALLOCATOR_INIT;
  small.allocate = [](void*, size_t bytes) { return bytes < 4096 ? std::malloc(bytes) : nullptr; };
  small.release = [](void*, void* pointer, size_t) { std::free(pointer); };
  d.batch = 0;
  d.weighting = BNORM_FREQUENCY_WEIGHTS;
  d.allocator = &small;
  const PlanPointer weighted = make_plan(d);
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  CHECK(bnorm_train(weighted.get(), &t) == BNORM_OUT_OF_MEMORY);
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  CHECK(bnorm_backward(weighted.get(), &b) == BNORM_OUT_OF_MEMORY);
}

TEST_CASE("contract: gradients of shared parameters over no groups are 0") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.groups = 0;
  d.batch = 2;
  d.channels = 3;
  d.running_mode = BNORM_RUNNING_SEQUENTIAL;
  const PlanPointer plan = make_plan(d);
  std::vector<float> dscale(3, 7), dshift(3, 7), running(3, 7);
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  b.dscale = dscale.data();
  b.dshift = dshift.data();
  CHECK(bnorm_backward(plan.get(), &b) == BNORM_OK);
  CHECK(dscale == std::vector<float>(3, 0));
  CHECK(dshift == std::vector<float>(3, 0));
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.running_mean = running.data();
  CHECK(bnorm_train(plan.get(), &t) == BNORM_OK);
  CHECK(running == std::vector<float>(3, 7));
}

TEST_CASE("contract: a longer argument struct is fine with a zero tail, else UNSUPPORTED") {
  struct Longer {
    bnorm_train_args args;
    unsigned char tail[24];
  };
  Large p;
  Longer longer = {p.train_args(BNORM_SERIAL), {}};
  longer.args.struct_size = sizeof longer;
  longer.tail[7] = 1;
  check_refusal(bnorm_train(p.plan.get(), &longer.args), BNORM_UNSUPPORTED, &p.error, {"struct_size"});
  CHECK(p.outputs_untouched());
  longer.tail[7] = 0;
  CHECK(bnorm_train(p.plan.get(), &longer.args) == BNORM_OK);
}

TEST_CASE("contract: NULL arguments") {
  Large p;
  check_refusal(bnorm_infer(p.plan.get(), nullptr), BNORM_INVALID_ARGUMENT, nullptr, {"args", "NULL"});
  check_refusal(bnorm_train(p.plan.get(), nullptr), BNORM_INVALID_ARGUMENT, nullptr, {"args", "NULL"});
  check_refusal(bnorm_backward(p.plan.get(), nullptr), BNORM_INVALID_ARGUMENT, nullptr, {"args", "NULL"});
  check_refusal(bnorm_prepare(p.plan.get(), nullptr, p.coefficients.data()), BNORM_INVALID_ARGUMENT, nullptr, {"args"});
  check_refusal(bnorm_normalize(p.plan.get(), nullptr), BNORM_INVALID_ARGUMENT, nullptr, {"args", "NULL"});
  check_refusal(bnorm_moments(p.plan.get(), nullptr, p.partials.data()), BNORM_INVALID_ARGUMENT, nullptr, {"args"});
  CHECK(p.outputs_untouched());
}

TEST_CASE("contract: rules of prepare, normalize and merge") {
  Large p;
  bnorm_error error = BNORM_ERROR_INIT;
  bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
  a.error = &error;
  const std::vector<double> before = p.coefficients;
  const auto refused = [&](void* coefficients, std::initializer_list<const char*> words) {
    check_refusal(bnorm_prepare(p.plan.get(), &a, coefficients), BNORM_INVALID_ARGUMENT, &error, words);
    CHECK(p.coefficients == before);
  };
  refused(p.coefficients.data(), {"mean", "exactly one"});
  a.mean = p.mean.data();
  refused(p.coefficients.data(), {"inv_std", "NULL"});
  a.inv_std = p.inv_std.data();
  refused(nullptr, {"coefficients", "NULL"});
  refused(reinterpret_cast<char*>(p.coefficients.data()) + 4, {"coefficients", "aligned"});
  a.running_mean = p.running_mean.data();
  a.running_var = p.running_var.data();
  refused(p.coefficients.data(), {"running_mean", "exactly one"});
  a.mean = a.inv_std = a.running_var = nullptr;
  refused(p.coefficients.data(), {"running_var", "NULL"});
  a.running_var = p.running_var.data();
  a.reserved = 3;
  refused(p.coefficients.data(), {"reserved", "3"});

  bnorm_normalize_args n = BNORM_NORMALIZE_ARGS_INIT;
  n.x = p.x.data();
  n.y = p.y.data();
  n.error = &error;
  check_refusal(bnorm_normalize(p.plan.get(), &n), BNORM_INVALID_ARGUMENT, &error, {"coefficients", "NULL"});
  n.coefficients = p.coefficients.data();
  n.batch = 65;
  check_refusal(bnorm_normalize(p.plan.get(), &n), BNORM_INVALID_ARGUMENT, &error, {"batch", "65"});
  CHECK(p.outputs_untouched());

  for (const auto merge : {bnorm_moments_merge, bnorm_sums_merge}) {
    std::vector<double> one(p.partials.size(), 1.0), two = one;
    const double* const parts[] = {one.data(), two.data()};
    const double* const holes[] = {one.data(), nullptr};
    double* const out = p.partials.data();
    const auto no = BNORM_INVALID_ARGUMENT;
    check_refusal(merge(nullptr, 2, parts, out, &error), no, &error, {"plan", "NULL"});
    check_refusal(merge(p.plan.get(), 0, parts, out, &error), no, &error, {"n", "0"});
    check_refusal(merge(p.plan.get(), -1, parts, out, &error), no, &error, {"n", "-1"});
    check_refusal(merge(p.plan.get(), 2, nullptr, out, &error), no, &error, {"parts", "NULL"});
    check_refusal(merge(p.plan.get(), 2, holes, out, &error), no, &error, {"parts", "1", "NULL"});
    check_refusal(merge(p.plan.get(), 2, parts, nullptr, &error), no, &error, {"merged", "NULL"});
    check_refusal(merge(p.plan.get(), 2, parts, two.data(), &error), no, &error, {"merged", "1"});
    CHECK(p.outputs_untouched());
    CHECK(two == one);
  }
}

TEST_CASE("contract: coefficients are whole cache lines, and overlap is refused up to their last byte") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = d.channels = 1;  // three values of f32, a line each
  const PlanPointer plan = make_plan(d);
  alignas(double) float coefficients[3 * 16] = {};
  CHECK(bnorm_plan_coefficients_size(plan.get()) == sizeof coefficients);
  float* const last = coefficients + 3 * 16 - 1;
  *last = 3;
  const float one = 1;
  bnorm_prepare_args prepare = BNORM_PREPARE_ARGS_INIT;
  prepare.running_mean = prepare.running_var = &one;
  prepare.scale = last;
  check_refusal(bnorm_prepare(plan.get(), &prepare, coefficients), BNORM_INVALID_ARGUMENT, nullptr,
                {"coefficients", "overlaps scale"});
  bnorm_normalize_args normalize = BNORM_NORMALIZE_ARGS_INIT;
  normalize.x = &one;
  normalize.y = last;
  normalize.coefficients = coefficients;
  check_refusal(bnorm_normalize(plan.get(), &normalize), BNORM_INVALID_ARGUMENT, nullptr,
                {"y", "overlaps coefficients"});
  CHECK(*last == 3);
}

TEST_CASE("contract: the simple calls give the bits of the full ones") {
  Large full, simple;
  bnorm_train_args a = full.train_args(nullptr);
  REQUIRE(bnorm_train(full.plan.get(), &a) == BNORM_OK);
  const int64_t n = Large::kBatch, c = Large::kChannels, s = Large::kSpatial;
  REQUIRE(bnorm_train_f32(n, c, s, simple.x.data(), simple.y.data(), nullptr, nullptr, simple.mean.data(),
                          simple.inv_std.data(), simple.running_mean.data(), simple.running_var.data(), 1e-5,
                          0.1) == BNORM_OK);
  CHECK(full.y == simple.y);
  CHECK(full.mean == simple.mean);
  CHECK(full.inv_std == simple.inv_std);
  CHECK(full.running_mean == simple.running_mean);
  CHECK(full.running_var == simple.running_var);
  std::vector<float> scale(Large::kChannels);
  for (size_t i = 0; i < scale.size(); ++i) scale[i] = 0.5F + static_cast<float>(i) / 8;
  bnorm_backward_args b = full.backward_args(nullptr);
  b.scale = scale.data();
  REQUIRE(bnorm_backward(full.plan.get(), &b) == BNORM_OK);
  REQUIRE(bnorm_backward_f32(n, c, s, simple.x.data(), simple.dy.data(), scale.data(), simple.mean.data(),
                             simple.inv_std.data(), simple.dx.data(), simple.dscale.data(),
                             simple.dshift.data()) == BNORM_OK);
  CHECK(full.dx == simple.dx);
  CHECK(full.dscale == simple.dscale);
  CHECK(full.dshift == simple.dshift);
  const bnorm_infer_args i = full.infer_args(nullptr);
  REQUIRE(bnorm_infer(full.plan.get(), &i) == BNORM_OK);
  REQUIRE(bnorm_infer_f32(n, c, s, simple.x.data(), simple.y.data(), nullptr, nullptr, simple.running_mean.data(),
                          simple.running_var.data(), 1e-5) == BNORM_OK);
  CHECK(full.y == simple.y);
}

TEST_CASE("contract: the simple calls refuse what the full ones do") {
  Large p;
  float* const y = p.y.data();
  const float* const x = p.x.data();
  const float* const r = p.running_mean.data();
  const auto no = BNORM_INVALID_ARGUMENT;
  check_refusal(bnorm_infer_f32(-1, 2, 3, x, y, nullptr, nullptr, r, r, 0), no, nullptr, {"batch", "-1"});
  check_refusal(bnorm_infer_f32(1, -2, 3, x, y, nullptr, nullptr, r, r, 0), no, nullptr, {"channels", "-2"});
  check_refusal(bnorm_infer_f32(1, 2, -3, x, y, nullptr, nullptr, r, r, 0), no, nullptr, {"spatial", "-3"});
  check_refusal(bnorm_infer_f32(1, 2, 3, nullptr, y, nullptr, nullptr, r, r, 0), no, nullptr, {"x", "NULL"});
  check_refusal(bnorm_infer_f32(1, 2, 3, x, y, nullptr, nullptr, nullptr, r, 0), no, nullptr, {"running_mean", "NULL"});
  check_refusal(bnorm_infer_f32(1, 2, 3, x, y, nullptr, nullptr, r, r, -1), no, nullptr, {"epsilon", "-1"});
  check_refusal(bnorm_train_f32(1, 2, 3, x, y, nullptr, nullptr, p.mean.data(), nullptr, nullptr, nullptr, 0, 0), no,
                nullptr, {"inv_std", "NULL"});
  check_refusal(bnorm_train_f32(1, 2, 3, x, y, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 2), no, nullptr,
                {"average_factor", "2"});
  check_refusal(bnorm_backward_f32(1, 2, 3, x, x, nullptr, nullptr, p.inv_std.data(), p.dx.data(), nullptr, nullptr),
                no, nullptr, {"mean", "NULL"});
  CHECK(p.outputs_untouched());
}

}  // namespace bnorm_tests::test_contracts
