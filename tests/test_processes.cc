// SPDX-License-Identifier: Apache-2.0
// Statistics over several processes: partial moments and sums of runs of whole blocks, merged, give the bits of one
// process that holds the whole batch.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "plan.hh"
#include "split_batch.hh"

namespace bnorm_tests::test_processes {

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
          Split split;
          split.shape = {2, n, 17, block.spatial};
          for (int64_t first = 0; first < n; first += share) split.parts.push_back(std::min(share, n - first));
          split.own_plans = true;
          split.mean = 100;
          const SplitBatch batch(split);
          CHECK(batch.in_one_call() == batch.in_parts());
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
