// SPDX-License-Identifier: Apache-2.0
// Every operation over the grid of shapes, layouts, types, groups, options and executors: within the bounds of the
// long double reference on the best ISA, and the same bits on every other one.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "executors.hh"
#include "grid.hh"
#include "isas.hh"
#include "options.hh"
#include "reference.hh"

namespace bnorm_tests::test_grid {
namespace {

void check_case(const GridCase& k) {
  const Executor& executor = executors()[k.executor];
  INFO("operation ", static_cast<int>(k.operation), " executor ", executor.name, ' ', describe(k.config));
  const Problem problem(k.config);
  Outputs best;
  for (const std::string& isa : isas()) {
    INFO("ISA ", isa);
    const IsaScope scope(isa);
    Outputs out;
    executor.with([&](const bnorm_executor* e) { out = problem.run(k.operation, e); });
    if (isa == isas().front()) {
      best = out;
      CHECK(violation(expect(k.operation, problem, out), out) == "");
    } else {
      CHECK(difference(best, out) == "");
    }
  }
}

}  // namespace

TEST_CASE("grid: within the bounds of the reference") {
  if (options().full) {
    full_grid([](const GridCase& k) { check_case(k); });
  } else {
    for (const GridCase& k : pairwise_grid()) check_case(k);
  }
}

TEST_CASE("grid: more channels than per-channel steps take at a time") {
  size_t number = 0;
  for (GridCase k : pairwise_grid()) {
    if (++number % 4 != 0) continue;
    Case& c = k.config;
    if (c.batch >= 0) c.batch = 3;
    c.shape = {c.shape.g, c.batch >= 0 ? 5 : 3, 300, 1 + static_cast<int64_t>(number / 4 % 3)};
    check_case(k);
  }
}

TEST_SUITE("isa") {
  TEST_CASE("small grid: within the bounds of the reference") {
    size_t number = 0;
    for (const GridCase& k : pairwise_grid())
      if (k.config.shape.elements() <= 20000 && ++number % 4 == 0) check_case(k);
  }

  TEST_CASE("the ISA that this machine should have is the one chosen") {
    const char* const expected = std::getenv("BNORM_EXPECT_ISA");
    if (expected != nullptr) CHECK(std::string(bnorm_isa()) == expected);
    CHECK(isas().front() == bnorm_isa());
#if defined(__x86_64__) && defined(BNORM_EVERY_ISA)
    if (std::getenv("BNORM_ISA") != nullptr) return;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    CHECK(std::string(bnorm_isa()) ==
          (avx512 ? "avx512" : (avx2 ? "avx2" : (__builtin_cpu_supports("sse4.2") ? "sse42" : "generic"))));
#endif
  }
}

}  // namespace bnorm_tests::test_grid
