// SPDX-License-Identifier: Apache-2.0
#include "tiles.hh"

namespace bnorm {
namespace {

// Neighbouring parts of rows shorter than this, two pages, are not written by two workers: each would fetch lines ahead
// that the other is writing. Mapping whole rows in a second loop instead, 1x256x784 channels-last trains in 0.76 of the
// time on 2 threads, 4x1024x196 in 0.69, and with parts of 4 KB, 8x2048x49 in 0.65 and 256x2048 in 0.67; of 8 KB,
// 256x4096 in 0.98.
constexpr int64_t kRowPartBytes = 8192;

// Channels-last reads and writes a tile of channels in parts of rows, planar in parts of samples: shorter ones lose
// more than the cache then brings. In whole rows, 1x512x784, whose parts would have 512 bytes, trains in 0.77 of the
// time, 8x2048x49 with 1280 bytes in 0.71, 256x2048 with 2 KB in 0.81; but 128x4096 with 4 KB in 1.14. Planar with
// parts of 4 KB in place of 200 to 800 bytes, 512x256x49 trains in 0.57, 256x64x196 in 0.77 (L2 of 512 KB); of 8 KB in
// 0.54, 0.93.
constexpr int64_t kTilePartBytes = 4096;

// Workers take whole planar samples in place of parts shorter than this, though statistics then need a second loop: of
// 256x64x49, in parts of 6 KB, inference, training and backward take 0.23, 0.46 and 0.50 of the time so on 2 threads,
// of 32x512x49, of 50 KB, 0.75, 0.78 and 0.78, of 64x16x784 0.47, 0.58 and 0.61; but 128x64x784, of 100 KB, would take
// 0.99, 1.05 and 1.29, 2x64x784 0.97, 1.09 and 1.28 (AVX2, EPYC).
constexpr int64_t kSamplePartBytes = 64 * 1024;

int64_t grain_of(const Plan& plan, const Passes& passes) {
  return std::max(plan.channel_grain(passes.reduce), plan.channel_grain(passes.map));
}

}  // namespace

Cut make_cut(const Plan& plan, const Passes& passes, int64_t units, const Workers& workers) {
  Cut cut = {plan.desc.groups, plan.desc.channels, units, 1, 1, 1};
  if (workers.concurrency() == 1) return cut;
  cut.channel_grain = grain_of(plan, passes);
  // Rounded down, so that there are never more pieces than tasks unless groups alone are.
  const auto missing = [&](int64_t wanted) { return std::max<int64_t>(wanted / std::max<int64_t>(cut.count(), 1), 1); };
  const auto cut_units = [&] { cut.unit_parts = std::min(missing(workers.pieces()), std::max<int64_t>(units, 1)); };
  const auto cut_channels = [&](int64_t wanted) {
    cut.channel_parts = std::min(missing(wanted), std::max<int64_t>(cut.channel_grains(), 1));
  };
  if (is_channels_last(passes.reduce)) {
    cut_units();
    // One wide part of the rows for each worker.
    if (cut.count() < workers.concurrency()) cut_channels(workers.concurrency());
  } else {
    // Not by few channels that don't come out even: of 3 on 2 workers, one would take twice as long.
    const int64_t grains = cut.channel_grains(), concurrency = workers.concurrency();
    const int64_t sample_bytes = cut.channels * plan.desc.spatial * plan.element_bytes(kX);
    const bool even = grains >= 8 * concurrency || grains % concurrency == 0;
    const bool by_channels = even && sample_bytes >= kSamplePartBytes * concurrency;
    if (by_channels) cut_channels(workers.pieces());
    cut_units();
    if (!by_channels) cut_channels(workers.pieces());
  }
  return cut;
}

bool owns_channels(const Plan& plan, const Passes& passes, const Cut& cut) {
  if (cut.unit_parts > 1) return false;
  return cut.channel_parts == 1 || !is_channels_last(passes.map) ||
         cut.channels / cut.channel_parts * plan.element_bytes(kX) >= kRowPartBytes;
}

int64_t tile_channels(const Plan& plan, const Passes& passes, int64_t channels, int64_t bytes_per_channel) {
  const int64_t grain = grain_of(plan, passes);
  const int64_t fitting = plan.tile_bytes / std::max<int64_t>(bytes_per_channel, 1) / grain * grain;
  if (is_channels_last(passes.map))
    return fitting * plan.element_bytes(kX) < kTilePartBytes ? std::max<int64_t>(channels, 1) : fitting;
  const int64_t run_bytes = std::max<int64_t>(plan.desc.spatial * plan.element_bytes(kX), 1);
  const int64_t least = (kTilePartBytes + run_bytes - 1) / run_bytes;
  return std::max(fitting, (least + grain - 1) / grain * grain);
}

}  // namespace bnorm
