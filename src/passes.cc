// SPDX-License-Identifier: Apache-2.0
#include "passes.hh"

#include <cstring>

namespace bnorm {

void run_tile(TileKernel kernel, Family family, Tile t, bool backwards) {
  if (family != kColumns && family != kColumnsNarrow) return kernel(t);
  const int64_t b0 = t.b0, b1 = t.b1;
  for (int64_t i = b0; i < b1; ++i) {
    t.b0 = backwards ? b1 - 1 - (i - b0) : i;
    t.b1 = t.b0 + 1;
    kernel(t);
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
          part.count = static_cast<double>(block_begin(run.order, b + 1) - block_begin(run.order, b));
          std::memcpy(part.first, first + b * run.channels() + c, bytes);
          std::memcpy(part.second, second + b * run.channels() + c, bytes);
        },
        all);
    std::memcpy(first + c, all.first, bytes);
    std::memcpy(second + c, all.second, bytes);
  }
}

}  // namespace bnorm
