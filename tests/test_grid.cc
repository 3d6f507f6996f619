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

namespace bnorm_tests {
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
  }
}

}  // namespace bnorm_tests
