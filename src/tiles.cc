// SPDX-License-Identifier: Apache-2.0
#include "tiles.hh"

namespace bnorm {
namespace {

// Pieces for each worker of an executor that balances: with one, the slower worker decides; with 4, uneven speed evens
// out to a quarter. oneTBB gives each worker a fixed run of them.
constexpr int64_t kPiecesPerWorker = 4;

/// The step that makes at most `parts` parts, a multiple of `grain`.
int64_t step_for(int64_t size, int64_t parts, int64_t grain) {
  const int64_t units = std::max<int64_t>((size + grain - 1) / grain, 1);
  return (units + parts - 1) / parts * grain;
}

int64_t grain_of(const Plan& plan, const Passes& passes) {
  return std::max(plan.channel_grain(passes.reduce), plan.channel_grain(passes.map));
}

}  // namespace

Cut make_cut(const Plan& plan, const Passes& passes, int64_t units, const Workers& workers) {
  const int64_t groups = plan.desc.groups, channels = plan.desc.channels;
  const int64_t grain = grain_of(plan, passes);
  Cut cut = {groups, channels, units, std::max<int64_t>(channels, 1), std::max<int64_t>(units, 1)};
  if (workers.concurrency() == 1) return cut;
  const int64_t wanted = std::min(workers.concurrency() * kPiecesPerWorker, kMostTasks);
  // Rounded down, so that there are never more pieces than tasks unless groups alone are.
  const auto missing = [&] { return std::max<int64_t>(wanted / std::max<int64_t>(cut.count(), 1), 1); };
  if (is_channels_last(passes.reduce)) {
    cut.unit_step = step_for(units, missing(), 1);
    // Halves of a row on two cores fetch each other's lines ahead: 2 threads were no faster than 1.
    if (cut.count() < workers.concurrency()) cut.channel_step = step_for(channels, missing(), grain);
  } else {
    cut.channel_step = step_for(channels, missing(), grain);
    cut.unit_step = step_for(units, missing(), 1);
  }
  return cut;
}

int64_t tile_channels(const Plan& plan, const Passes& passes, int64_t channels, int64_t bytes_per_channel) {
  const int64_t grain = grain_of(plan, passes);
  const int64_t fitting = plan.tile_bytes / std::max<int64_t>(bytes_per_channel, 1) / grain * grain;
  // Channels-last reads a tile of channels in short pieces of every row: only worth it if they then stay in cache.
  if (fitting == 0) return is_channels_last(passes.map) ? std::max<int64_t>(channels, 1) : grain;
  return fitting;
}

}  // namespace bnorm
