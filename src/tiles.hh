// SPDX-License-Identifier: Apache-2.0
// How a call is cut: into pieces for workers, and those into tiles for caches. Neither touches a bit of the result.
#pragma once
#include <algorithm>

#include "plan.hh"
#include "workers.hh"

namespace bnorm {

/// Channels [c0, c1) and blocks [b0, b1) of group g.
struct Piece {
  int64_t g, c0, c1, b0, b1;
};

/// A grid of pieces: groups x channel parts x block parts.
struct Cut {
  int64_t groups, channels, blocks;
  int64_t channel_step, block_step;

  int64_t channel_parts() const { return parts(channels, channel_step); }
  int64_t block_parts() const { return parts(blocks, block_step); }
  int64_t count() const { return groups * channel_parts() * block_parts(); }
  Piece piece(int64_t i) const {
    const int64_t b = i % block_parts(), c = i / block_parts() % channel_parts();
    return {i / block_parts() / channel_parts(), c * channel_step, std::min(channels, (c + 1) * channel_step),
            b * block_step, std::min(blocks, (b + 1) * block_step)};
  }
  static int64_t parts(int64_t size, int64_t step) { return std::max<int64_t>((size + step - 1) / step, 1); }
};

/// Cuts groups x channels x blocks for the workers. Channels-last is cut by blocks first, which are runs of memory
/// there; else by channels, which need no second loop after the statistics.
Cut make_cut(const Plan& plan, const Passes& passes, const Order& order, const Workers& workers);

/// Channels whose data, `bytes_per_channel` each, stay in cache between the two passes of a piece.
int64_t tile_channels(const Plan& plan, const Passes& passes, int64_t channels, int64_t bytes_per_channel);

}  // namespace bnorm
