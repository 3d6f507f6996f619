// SPDX-License-Identifier: Apache-2.0
// How a call is cut: into pieces for workers, and those into tiles for caches. Neither touches a bit of the result.
#pragma once
#include <algorithm>

#include "plan.hh"
#include "workers.hh"

namespace bnorm {

/// Channels [c0, c1) and units [u0, u1) of group g: blocks of a reduction, strips of a map.
struct Piece {
  int64_t g, c0, c1, u0, u1;
};

/// A grid of pieces: groups x channel parts x unit parts.
struct Cut {
  int64_t groups, channels, units;
  int64_t channel_step, unit_step;

  int64_t channel_parts() const { return parts(channels, channel_step); }
  int64_t unit_parts() const { return parts(units, unit_step); }
  int64_t count() const { return groups * channel_parts() * unit_parts(); }
  Piece piece(int64_t i) const {
    const int64_t u = i % unit_parts(), c = i / unit_parts() % channel_parts();
    return {i / unit_parts() / channel_parts(), c * channel_step, std::min(channels, (c + 1) * channel_step),
            u * unit_step, std::min(units, (u + 1) * unit_step)};
  }
  static int64_t parts(int64_t size, int64_t step) { return size <= step ? 1 : (size + step - 1) / step; }
};

/// Cuts groups x channels x units for the workers. Channels-last is cut by units first, which are runs of memory there;
/// else by channels, which need no second loop after the statistics.
Cut make_cut(const Plan& plan, const Passes& passes, int64_t units, const Workers& workers);

/// Whether a piece of a reduction's cut should map what it reduced: all its channels' units, in wide enough parts of
/// rows.
bool owns_channels(const Plan& plan, const Passes& passes, const Cut& cut);

/// Channels whose data, `bytes_per_channel` each, stay in cache between the two passes of a piece.
int64_t tile_channels(const Plan& plan, const Passes& passes, int64_t channels, int64_t bytes_per_channel);

}  // namespace bnorm
