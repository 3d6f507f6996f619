// SPDX-License-Identifier: Apache-2.0
// No access outside the elements: every buffer against unmapped pages, its end or its start touching them, for every
// tail of the loops.
#include <doctest/doctest.h>

#include "grid.hh"
#include "isas.hh"
#include "options.hh"
#include "problem.hh"

namespace bnorm_tests::test_memory {
namespace {

constexpr int64_t kMostTail = 40;  // two and a half vectors of 16

/// Types, options and layouts take turns, so that each meets every tail within a few steps.
Case fenced(int64_t channels, int64_t spatial, Placement placement, size_t turn) {
  static constexpr bnorm_type kData[] = {BNORM_F32, BNORM_BF16, BNORM_F64, BNORM_F16};
  static constexpr Layout kTaken[] = {Layout::kPlanar, Layout::kChannelsLast, Layout::kSlices, Layout::kPermuted,
                                      Layout::kReversed};
  Case c;
  c.shape = {1, 3, channels, spatial};
  c.placement = placement;
  c.data = kData[turn % 4];
  c.param = turn % 7 < 2 ? BNORM_F64 : BNORM_F32;
  c.stats = turn % 2 == 0 ? BNORM_F64 : BNORM_F32;
  c.layout = kTaken[turn % 5];
  c.activation = relu_if(turn % 3 < 2);
  c.residual = turn % 3 == 1;
  c.frozen = turn % 11 == 0;
  c.in_place = turn % 13 == 0;
  c.values = Values::kIntegers;
  c.seed = turn + 1;
  return c;
}

/// `count` operations from the first on.
void run(const Problem& problem, int first, int count) {
  for (const std::string& isa : isas()) {
    INFO(isa, ' ', describe(problem.config()));
    const IsaScope scope(isa);
    for (int operation = first; operation < first + count; ++operation)
      problem.run(static_cast<Operation>(operation), BNORM_SERIAL);
  }
}

void run_all(const Case& c) { run(Problem(c), 0, kOperations); }

void run_tails(int64_t step, size_t turns) {
  for (const Placement placement : {Placement::kPageEnd, Placement::kPageStart})
    for (int64_t channels = 1; channels <= kMostTail; channels += step)
      for (int64_t spatial = 1; spatial <= kMostTail; ++spatial)
        for (size_t turn = 0; turn < turns; ++turn)
          run_all(
              fenced(channels, spatial, placement,
                     turn + static_cast<size_t>(channels * 7 + spatial * (placement == Placement::kPageEnd ? 1 : 3))));
}

}  // namespace

TEST_CASE("memory: every tail against unmapped pages") { run_tails(1, options().full ? 30 : 1); }

TEST_CASE("memory: every type and layout against unmapped pages") {
  for (const int64_t channels : {1, 3, 15, 16, 17, 33})
    for (const int64_t spatial : {1, 4, 7, 8, 9, 17, 33})
      for (const Placement placement : {Placement::kPageEnd, Placement::kPageStart})
        for (size_t turn = 0; turn < 20; ++turn) run_all(fenced(channels, spatial, placement, turn));
}

// Mixed types and layouts, curves, masks, weights, groups.
TEST_CASE("memory: the grid against unmapped pages") {
  for (const GridCase& k : pairwise_grid()) {
    const Problem problem(k.config);
    for (const Placement placement : {Placement::kPageEnd, Placement::kPageStart})
      run(problem.placed(placement), static_cast<int>(k.operation), 1);
  }
}

TEST_CASE("memory: block borders against unmapped pages") {
  for (const int64_t channels : {1, 3, 16, 17, 63, 101})
    for (const int64_t batch : {1023, 1024, 1025, 2049})
      for (const Placement placement : {Placement::kPageEnd, Placement::kPageStart})
        for (size_t turn = 0; turn < 5; ++turn) {
          Case c = fenced(channels, 1, placement, turn * 3);
          c.shape.n = batch;
          run_all(c);
        }
}

// As many as make maps take several at once.
TEST_CASE("memory: many small planar samples against unmapped pages") {
  for (const int64_t spatial : {2, 7})
    for (const Placement placement : {Placement::kPageEnd, Placement::kPageStart})
      for (size_t turn = 0; turn < 5; ++turn) {
        Case c = fenced(3, spatial, placement, turn * 3);
        c.shape.n = 1100;
        c.layout = Layout::kPlanar;
        run_all(c);
      }
}

TEST_SUITE("isa") {
  TEST_CASE("memory: tails against unmapped pages, a few") { run_tails(5, 1); }
}

}  // namespace bnorm_tests::test_memory
