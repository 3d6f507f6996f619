// SPDX-License-Identifier: Apache-2.0
// Shared by tests and bench: a choice of instruction set for a while.
#pragma once
#include <cstdlib>
#include <optional>
#include <string>

namespace bnorm_support {

/// Plans made in the lifetime of this object use the ISA that BNORM_ISA calls by this name. Not for several threads.
class IsaScope {
 public:
  explicit IsaScope(const std::string& name) {
    if (const char* const before = std::getenv("BNORM_ISA")) before_ = before;
    setenv("BNORM_ISA", name.c_str(), 1);
  }
  ~IsaScope() {
    if (before_)
      setenv("BNORM_ISA", before_->c_str(), 1);
    else
      unsetenv("BNORM_ISA");
  }
  IsaScope(const IsaScope&) = delete;
  IsaScope& operator=(const IsaScope&) = delete;

 private:
  std::optional<std::string> before_;
};

}  // namespace bnorm_support
