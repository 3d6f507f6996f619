// SPDX-License-Identifier: Apache-2.0
// The instruction sets this machine can be told to use.
#pragma once
#include <string>
#include <vector>

namespace bnorm_tests {

/// Names that BNORM_ISA accepts here, best first; those it refuses are printed once.
const std::vector<std::string>& isas();

/// Plans made in the lifetime of this object use the named ISA.
class IsaScope {
 public:
  explicit IsaScope(const std::string& name);
  ~IsaScope();
  IsaScope(const IsaScope&) = delete;
  IsaScope& operator=(const IsaScope&) = delete;

 private:
  bool was_set_;
  std::string before_;
};

}  // namespace bnorm_tests
