// SPDX-License-Identifier: Apache-2.0
// A reduction, a step for each channel, and a map, over all tiles of a call and on whatever workers it has.
#pragma once
#include "partials.hh"
#include "run.hh"
#include "workers.hh"

namespace bnorm {

/// Runs a kernel block by block where a block is a run of memory, backwards if the blocks were just read forwards: the
/// last ones are still in cache.
void run_tile(TileKernel kernel, Family family, Tile t, bool backwards);

/// Merges the blocks of channels [c0, c1) into block 0 of the partials.
void merge_blocks(const Run& run, PartialKind kind, int64_t g, int64_t c0, int64_t c1);

/// A reduction and a map with a step between them for each channel. Either kernel may be NULL.
struct TwoPasses {
  Passes family;
  TileKernel reduce, map;
};

/// finish(g, c0, c1) runs once for all channels of each group, after their reduction and before their map.
template <class Finish>
bool run_passes(const Run& run, const TwoPasses& passes, const Finish& finish) {
  const Workers workers(run.call.executor, run.bytes());
  const Cut cut = make_cut(run.plan, passes.family, run.order, workers);
  const auto reduce = [&](const Piece& p) {
    if (passes.reduce) run_tile(passes.reduce, passes.family.reduce, run.tile(p), false);
  };
  const auto map = [&](const Piece& p) {
    if (passes.map) run_tile(passes.map, passes.family.map, run.tile(p), passes.reduce != nullptr);
  };
  if (cut.count() > kMostTasks || (cut.block_parts() == 1 && passes.reduce)) {
    // Pieces own their channels: everything is done while a tile is in cache. Many groups share a task.
    const int64_t tasks = std::min(cut.count(), kMostTasks);
    const int64_t step = tile_channels(run.plan, passes.family, run.channels(), 2 * run.bytes_per_channel());
    return workers.run(tasks, [&](int64_t task) {
      for (int64_t i = cut.count() * task / tasks; i < cut.count() * (task + 1) / tasks; ++i) {
        Piece p = cut.piece(i);
        for (const int64_t end = p.c1; p.c0 < end; p.c0 = p.c1) {
          p.c1 = std::min(end, p.c0 + step);
          reduce(p);
          finish(p.g, p.c0, p.c1);
          map(p);
        }
      }
    });
  }
  if (passes.reduce && !workers.run(cut.count(), [&](int64_t i) { reduce(cut.piece(i)); })) return false;
  for (int64_t g = 0; g < run.desc().groups; ++g) finish(g, 0, run.channels());
  return !passes.map || workers.run(cut.count(), [&](int64_t i) { map(cut.piece(cut.count() - 1 - i)); });
}

}  // namespace bnorm
