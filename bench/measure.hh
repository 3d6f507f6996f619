// From a row to its result.
#pragma once

#include <string>
#include <vector>

#include "options.hh"
#include "row.hh"

namespace bnorm_bench {

/// Verifies the row's call, then times it with its floor and its peers in paired rounds. A peer that cannot be set up
/// or computes something else is left out, with the reason appended to `notes`. Throws std::runtime_error if bnorm
/// refuses the row or computes something else.
Result measure(const Row& row, const Options& options, std::vector<std::string>& notes);

}  // namespace bnorm_bench
