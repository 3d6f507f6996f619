// SPDX-License-Identifier: Apache-2.0
#include "passes.hh"

#include <cstring>

namespace bnorm {
namespace {

/// Strips mapped from first to last before those ahead of them: of x half of L2. Shorter steps leave less unread, but
/// each sets out anew: with an eighth of that, training and backward of 8x64x784, 50x64x3136 and 8x1024x196
/// channels-last take 1.03 to 1.1 of the time (AVX2, L2 of 512 KB).
int64_t strips_back(const Run& run, int64_t channels) {
  const int64_t strip_bytes = std::max<int64_t>(kStrip * channels * run.plan.element_bytes(kX), 1);
  return std::max<int64_t>(run.plan.tile_bytes / strip_bytes, 1);
}

}  // namespace

void reduce_piece(const Run& run, const TwoPasses& passes, const Piece& p) {
  Tile t = run.tile(p, passes.family.reduce, passes.form);
  // One block at a time where a block is a run of memory, else one channel at a time, which the kernel does.
  const int64_t step = is_channels_last(passes.family.reduce) ? 1 : std::max<int64_t>(p.u1 - p.u0, 1);
  for (t.b0 = p.u0; t.b0 < p.u1; t.b0 = t.b1) {
    t.b1 = t.b0 + step;
    passes.reduce(t);
  }
}

void map_piece(const Run& run, const TwoPasses& passes, const Piece& p) {
  Tile t = run.tile(p, passes.family.map, passes.form);
  const bool channels_last = is_channels_last(passes.family.map);
  // What a channel's reduction left in L2 is not fetched: backward of 50x64x3136 took 1.08 of the time. That all
  // channels of a tile may exceed L2 decides nothing here: 512x256x49, whose tiles do, gains nothing by it.
  t.from_memory = t.in_memory && (!passes.reduce || channels_last || run.bytes_per_channel > 2 * run.plan.tile_bytes);
  // Planar channels that L2 does not hold, too: backward of 128x64x784 takes 0.87 of the time.
  const bool exceeds = channels_last || run.bytes_per_channel > run.plan.tile_bytes;
  const int64_t step = passes.reduce && exceeds ? strips_back(run, p.c1 - p.c0) : p.u1 - p.u0;
  for (int64_t end = p.u1, begin; end > p.u0; end = begin) {
    begin = std::max(p.u0, end - step);
    t.begin = strip_begin(run.order, begin);
    t.end = strip_begin(run.order, end);
    passes.map(t);
  }
}

void merge_blocks(const Run& run, PartialKind kind, int64_t g, int64_t c0, int64_t c1) {
  double* const first = run.w.first + g * run.group_stride();
  double* const second = run.w.second + g * run.group_stride();
  if (run.blocks() < 2) return;
  for (int64_t c = c0; c < c1; c += kMergeChannels) {
    const int64_t channels = std::min(kMergeChannels, c1 - c);
    const auto bytes = static_cast<size_t>(channels) * sizeof(double);
    Partial all;
    merge_range(
        run.table(), kind, channels, 0, run.blocks(),
        [&](int64_t b, Partial& part) {
          part.count = run.block_count_of(g, b);
          std::memcpy(part.first, first + b * run.channels() + c, bytes);
          std::memcpy(part.second, second + b * run.channels() + c, bytes);
        },
        all);
    std::memcpy(first + c, all.first, bytes);
    std::memcpy(second + c, all.second, bytes);
  }
}

}  // namespace bnorm
