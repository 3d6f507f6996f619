// SPDX-License-Identifier: Apache-2.0
// Callers with threads of their own: shared plans, nested parallelism, fork, and the floating-point environment.
#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
#if BNORM_WITH_TBB
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#endif

#include "executors.hh"
#include "isas.hh"
#include "plan.hh"
#include "problem.hh"
#include "sanitizers.hh"

namespace bnorm_tests::test_threads {
namespace {

Case large_case() {
  Case c;
  c.shape = {1, 64, 33, 100};
  c.layout = Layout::kChannelsLast;
  c.activation = BNORM_RELU;
  return c;
}

/// One plan and its inputs, called by many threads, each with buffers of its own.
struct SharedPlan {
  static constexpr size_t kChannels = 48, kElements = 100 * kChannels * 30;
  PlanPointer plan;
  std::vector<float> x = std::vector<float>(kElements);

  SharedPlan() {
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = 100;
    d.channels = kChannels;
    d.spatial = 30;
    plan = make_plan(d);
    for (size_t i = 0; i < kElements; ++i) x[i] = static_cast<float>(i * 37 % 1009) / 512;
  }
  std::vector<float> train(const bnorm_executor* executor, bnorm_status* status) const {
    std::vector<float> y(kElements + kChannels, 0.0f);
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.x = x.data();
    a.y = y.data();
    a.running_var = y.data() + kElements;
    a.executor = executor;
    *status = bnorm_train(plan.get(), &a);
    return y;
  }
};

struct Rounding {
  explicit Rounding(int mode) : before(std::fegetround()) { std::fesetround(mode); }
  ~Rounding() { std::fesetround(before); }
  int before;
};

#if !BNORM_TESTS_SANITIZED
/// Bytes of its stack that a thread has written to the end of `body`.
template <class Body>
size_t stack_of(Body body) {
  constexpr size_t kSize = size_t{1} << 20, kPage = 4096;
  constexpr unsigned char kUntouched = 0xa5;
  const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(kPage, kSize), &std::free);
  auto* const bytes = static_cast<unsigned char*>(memory.get());
  std::memset(bytes, kUntouched, kSize);
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstack(&attributes, bytes, kSize) == 0);
  pthread_t thread = {};
  const auto run = [](void* p) -> void* { return (*static_cast<Body*>(p))(), nullptr; };
  REQUIRE(pthread_create(&thread, &attributes, run, &body) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
  size_t untouched = 0;
  while (untouched < kSize && bytes[untouched] == kUntouched) ++untouched;
  return kSize - untouched;
}
#endif

}  // namespace

#if !BNORM_TESTS_SANITIZED
TEST_CASE("threads: calls take less than 256 KB of stack") {
  Case of_f64, of_bf16;
  of_f64.data = of_f64.param = of_f64.stats = BNORM_F64;
  of_bf16.data = BNORM_BF16;
  for (const std::string& isa : isas()) {
    const IsaScope scope(isa);
    for (Case c : {of_f64, of_bf16})
      for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast})
        for (const Shape& shape : {Shape{1, 3, 2100, 20}, Shape{1, 15, 2100, 4}, Shape{1, 7, 5000, 1}}) {
          c.layout = layout;
          c.shape = shape;
          const Problem problem(c);
          INFO("isa ", isa, ' ', describe(c));
          CHECK(stack_of([&] { problem.run(Operation::kTrain, BNORM_SERIAL); }) < 256 * 1024);
          CHECK(stack_of([&] { problem.run(Operation::kBackward, BNORM_SERIAL); }) < 256 * 1024);
        }
  }
}
#endif

TEST_CASE("threads: many threads share one plan") {
  const SharedPlan shared;
  bnorm_status status = BNORM_OK;
  const std::vector<float> expected = shared.train(BNORM_SERIAL, &status);
  REQUIRE(status == BNORM_OK);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        bnorm_status own = BNORM_OK;
        if (shared.train(t % 2 == 0 ? nullptr : BNORM_SERIAL, &own) != expected || own != BNORM_OK) ++wrong;
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("threads: the last error belongs to its thread") {
  bnorm_plan* plan = nullptr;
  bnorm_desc d = BNORM_DESC_INIT;
  d.guard = 7;
  CHECK(bnorm_plan_create(&plan, &d, nullptr) == BNORM_INVALID_ARGUMENT);
  std::string elsewhere = "?";
  std::thread([&] { elsewhere = bnorm_last_error(); }).join();
  CHECK(elsewhere.empty());
  CHECK(std::string(bnorm_last_error()).find("guard") != std::string::npos);
}

#if BNORM_WITH_TBB
TEST_CASE("threads: nested inside oneTBB loops") {
  const SharedPlan shared;
  bnorm_status status = BNORM_OK;
  const std::vector<float> expected = shared.train(BNORM_SERIAL, &status);
  std::atomic<int> wrong{0};
  tbb::parallel_for(0, 12, [&](int) {
    bnorm_status own = BNORM_OK;
    if (shared.train(nullptr, &own) != expected || own != BNORM_OK) ++wrong;
  });
  CHECK(wrong == 0);
}

// Only seldom has a waiting caller anything to take: without isolation one run in five fails.
TEST_CASE("threads: a caller that waits for its workers takes up none of its program's other tasks") {
  static thread_local bool inside_call = false;
  const SharedPlan shared;
  std::atomic<int> entered{0};
  tbb::global_control more_than_cores(tbb::global_control::max_allowed_parallelism, 16);
  tbb::task_arena(16).execute([&] {
    tbb::parallel_for(
        0, 2000,
        [&](int) {
          if (inside_call) ++entered;
          inside_call = true;
          bnorm_status own = BNORM_OK;
          shared.train(nullptr, &own);
          inside_call = false;
        },
        tbb::simple_partitioner());
  });
  CHECK(entered.load() == 0);
}
#endif

TEST_CASE("threads: a forked child runs, whatever its parent did") {
  const SharedPlan shared;
  bnorm_status status = BNORM_OK;
  const std::vector<float> expected = shared.train(nullptr, &status);
  REQUIRE(status == BNORM_OK);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a child that waits for threads it does not have dies
    bnorm_status own = BNORM_OK;
    const bool same = shared.train(nullptr, &own) == expected;
    _exit(same && own == BNORM_OK ? 0 : 1);
  }
  REQUIRE(child > 0);
  int result = -1;
  REQUIRE(waitpid(child, &result, 0) == child);
  CHECK(result == 0);
}

TEST_CASE("threads: tasks run in the caller's rounding mode") {
  const Problem problem(large_case());
  const Outputs nearest = problem.run(Operation::kTrain, BNORM_SERIAL);
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    const Rounding rounding(mode);
    const Outputs serial = problem.run(Operation::kTrain, BNORM_SERIAL);
    CHECK(difference(serial, nearest) != "");
    for (const Executor& executor : executors()) {
      if (executor.name.find("oneTBB") == std::string::npos) continue;
      Outputs out;
      executor.with([&](const bnorm_executor* e) {
        const Rounding inner(mode);
        out = problem.run(Operation::kTrain, e);
      });
      INFO(executor.name);
      CHECK(difference(serial, out) == "");
    }
  }
  const Outputs after = problem.run(Operation::kTrain, nullptr);
  CHECK(difference(after, nearest) == "");
}

#if defined(__x86_64__)
TEST_CASE("threads: calls leave the floating-point control word as it is") {
  Case small_case;
  small_case.shape = {1, 5, 7, 9};
  const unsigned before = _mm_getcsr();
  constexpr unsigned kFlags = 0x3f, kFlushToZero = 0x8000, kDenormalsAreZero = 0x40;
  for (const unsigned mode : {0u, kFlushToZero, kDenormalsAreZero, kFlushToZero | kDenormalsAreZero, 0x2000u}) {
    _mm_setcsr((before & ~0x6000u) | mode);
    for (const Case& c : {small_case, large_case()}) {
      const Problem problem(c);
      for (int operation = 0; operation < kOperations; ++operation) {
        const unsigned set = _mm_getcsr() & ~kFlags;
        problem.run(static_cast<Operation>(operation), nullptr);
        CHECK((_mm_getcsr() & ~kFlags) == set);
      }
    }
  }
  _mm_setcsr(before);
}
#endif

}  // namespace bnorm_tests::test_threads
