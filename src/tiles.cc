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

// Neighbouring parts of rows shorter than this, a page, are not written by two workers: each would fetch lines ahead
// that the other is writing. Mapping whole rows in a second loop instead, 1x256x784 channels-last trains in 0.76 of the
// time on 2 threads, 4x1024x196 in 0.69.
constexpr int64_t kRowPartBytes = 4096;

int64_t grain_of(const Plan& plan, const Passes& passes) {
  return std::max(plan.channel_grain(passes.reduce), plan.channel_grain(passes.map));
}

}  // namespace

Cut make_cut(const Plan& plan, const Passes& passes, int64_t units, const Workers& workers) {
  const int64_t groups = plan.desc.groups, channels = plan.desc.channels;
  Cut cut = {groups, channels, units, std::max<int64_t>(channels, 1), std::max<int64_t>(units, 1)};
  if (workers.concurrency() == 1) return cut;
  const int64_t grain = grain_of(plan, passes);
  const int64_t wanted = std::min(workers.concurrency() * kPiecesPerWorker, kMostTasks);
  // Rounded down, so that there are never more pieces than tasks unless groups alone are.
  const auto missing = [&] { return std::max<int64_t>(wanted / std::max<int64_t>(cut.count(), 1), 1); };
  if (is_channels_last(passes.reduce)) {
    cut.unit_step = step_for(units, missing(), 1);
    // One wide part of the rows for each worker.
    const int64_t parts = std::max<int64_t>(workers.concurrency() / std::max<int64_t>(cut.count(), 1), 1);
    if (cut.count() < workers.concurrency()) cut.channel_step = step_for(channels, parts, grain);
  } else {
    cut.channel_step = step_for(channels, missing(), grain);
    cut.unit_step = step_for(units, missing(), 1);
  }
  return cut;
}

bool owns_channels(const Plan& plan, const Passes& passes, const Cut& cut) {
  if (cut.unit_parts() > 1) return false;
  return cut.channel_parts() == 1 || !is_channels_last(passes.map) ||
         cut.channel_step * plan.element_bytes() >= kRowPartBytes;
}

int64_t tile_channels(const Plan& plan, const Passes& passes, int64_t channels, int64_t bytes_per_channel) {
  const int64_t grain = grain_of(plan, passes);
  const int64_t fitting = plan.tile_bytes / std::max<int64_t>(bytes_per_channel, 1) / grain * grain;
  // Channels-last reads a tile of channels in short pieces of every row: only worth it if they then stay in cache.
  if (fitting == 0) return is_channels_last(passes.map) ? std::max<int64_t>(channels, 1) : grain;
  return fitting;
}

}  // namespace bnorm
