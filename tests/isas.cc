// SPDX-License-Identifier: Apache-2.0
#include "isas.hh"

#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bnorm_tests {

const std::vector<std::string>& isas() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> usable;
    std::string skipped;
    const char* const only = std::getenv("BNORM_EXPECT_ISA");
#define BNORM_ISA_X(name, has) #name,
    for (const char* const name : {
#include "src/isa_list.inc"
         }) {
#undef BNORM_ISA_X
      if (only && std::strcmp(name, only) != 0) {
        skipped += std::string(" ") + name;
        continue;
      }
      const IsaScope scope(name);
      bnorm_desc desc = BNORM_DESC_INIT;
      desc.channels = 1;
      bnorm_plan* plan = nullptr;
      const bnorm_status status = bnorm_plan_create(&plan, &desc, nullptr);
      bnorm_plan_destroy(plan);
      if (status == BNORM_OK) {
        usable.emplace_back(name);
      } else {
        CHECK(status == BNORM_UNSUPPORTED);
        skipped += std::string(" ") + name;
      }
    }
    std::printf("ISAs skipped, not on this machine or not of this run:%s\n",
                skipped.empty() ? " none" : skipped.c_str());
    return usable;
  }();
  return names;
}

}  // namespace bnorm_tests
