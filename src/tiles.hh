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

/// A grid of pieces: groups x channel parts x unit parts. Parts are as equal as whole grains and units allow, the later
/// ones being longer, since the last unit may be short.
struct Cut {
  int64_t groups, channels, units;
  int64_t channel_grain;
  int64_t channel_parts, unit_parts;

  int64_t count() const { return groups * channel_parts * unit_parts; }
  Piece piece(int64_t i) const {
    const int64_t u = i % unit_parts, c = i / unit_parts % channel_parts;
    return {i / unit_parts / channel_parts, channel_border(c), channel_border(c + 1), units * u / unit_parts,
            units * (u + 1) / unit_parts};
  }
  int64_t channel_grains() const { return (channels + channel_grain - 1) / channel_grain; }

 private:
  int64_t channel_border(int64_t part) const {
    return std::min(channels, channel_grains() * part / channel_parts * channel_grain);
  }
};

/// Cuts groups x channels x units for the workers: by units first, which are runs of memory in channels-last; planar by
/// channels, which need no second loop after the statistics, where they come out even and are long parts of samples.
Cut make_cut(const Plan& plan, const Passes& passes, int64_t units, const Workers& workers);

/// Whether a piece of a reduction's cut should map what it reduced: all its channels' units, in wide enough parts of
/// rows.
bool owns_channels(const Plan& plan, const Passes& passes, const Cut& cut);

/// Channels whose data, `bytes_per_channel` each, stay in cache between the two passes of a piece; more where their
/// parts of samples, or of channels-last rows, would be short.
int64_t tile_channels(const Plan& plan, const Passes& passes, int64_t channels, int64_t bytes_per_channel);

}  // namespace bnorm
