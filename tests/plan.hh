// SPDX-License-Identifier: Apache-2.0
// Plans with an owner.
#pragma once
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <memory>

namespace bnorm_tests {

struct PlanDestroyer {
  void operator()(bnorm_plan* plan) const { bnorm_plan_destroy(plan); }
};
using PlanPointer = std::unique_ptr<bnorm_plan, PlanDestroyer>;

/// A plan that must be possible.
inline PlanPointer make_plan(const bnorm_desc& desc) {
  bnorm_plan* plan = nullptr;
  bnorm_error error = BNORM_ERROR_INIT;
  const bnorm_status status = bnorm_plan_create(&plan, &desc, &error);
  INFO(error.message);
  REQUIRE(status == BNORM_OK);
  return PlanPointer(plan);
}

}  // namespace bnorm_tests
