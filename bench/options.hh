// The command line.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "row.hh"

namespace bnorm_bench {

struct Options {
  std::vector<RowGroup> groups;
  std::vector<std::string> skipped;  ///< combinations that do not exist, and why
  std::string json, details;         ///< empty: none
  std::vector<std::string> peers;    ///< names of libraries
  bool selftest = false;
  int rounds = 9;
  double sample_seconds = 0.01;
};

/// What to print instead of measuring: the help, or a message naming option, value and rule.
struct UsageError : std::runtime_error {
  UsageError(const std::string& message, int code) : std::runtime_error(message), exit_code(code) {}
  int exit_code;  ///< 0 for help, else 2
};

/// Throws UsageError. Sets the environment's BNORM_ISA only to see whether this machine has a given ISA.
Options parse_options(int argc, const char* const* argv);

}  // namespace bnorm_bench
