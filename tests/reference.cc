// SPDX-License-Identifier: Apache-2.0
// Comparison of results with what was expected of them.
#include "reference.hh"

#include <cmath>
#include <sstream>

namespace bnorm_tests {
namespace {

std::string check(const char* name, const Bounded& expected, const std::vector<double>& actual) {
  std::ostringstream text;
  text.precision(20);
  if (expected.value.size() != actual.size()) {
    text << name << ": " << actual.size() << " elements, expected " << expected.value.size();
    return text.str();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    const long double error = std::fabs(static_cast<long double>(actual[i]) - expected.value[i]);
    if (error <= expected.bound[i]) continue;
    text << name << '[' << i << "]: " << actual[i] << ", expected " << expected.value[i] << ", off by " << error
         << ", allowed " << expected.bound[i];
    return text.str();
  }
  return "";
}

}  // namespace

Expected expect(Operation operation, const Problem& problem, const Outputs& actual) {
  switch (operation) {
    case Operation::kInfer:
    case Operation::kPrepared:
      return expect_infer(problem);
    case Operation::kTrain:
    case Operation::kParts:
      return expect_train(problem, actual);
    default:
      return expect_backward(problem);
  }
}

std::string violation(const Expected& e, const Outputs& a) {
  const std::string all[] = {check("y", e.y, a.y),
                             check("mean", e.mean, a.mean),
                             check("inv_std", e.inv_std, a.inv_std),
                             check("running_mean", e.running_mean, a.running_mean),
                             check("running_var", e.running_var, a.running_var),
                             check("dx", e.dx, a.dx),
                             check("dresidual", e.dresidual, a.dresidual),
                             check("dscale", e.dscale, a.dscale),
                             check("dshift", e.dshift, a.dshift)};
  for (const std::string& text : all)
    if (!text.empty()) return text;
  return "";
}

}  // namespace bnorm_tests
