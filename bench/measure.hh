// From rows to their results.
#pragma once

#include <string>
#include <vector>

#include "options.hh"
#include "peer.hh"
#include "row.hh"

namespace bnorm_bench {

/// Verifies the calls of a group's rows, then times them with their floors and peers in paired rounds. A peer that
/// cannot be set up or computes something else is left out, with the reason appended to `notes`. Throws
/// std::runtime_error if bnorm refuses a row or computes something else.
std::vector<Result> measure(const RowGroup& group, const Options& options, PeerPool& pool,
                            std::vector<std::string>& notes);

}  // namespace bnorm_bench
