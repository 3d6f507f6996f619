// SPDX-License-Identifier: Apache-2.0
// A reduction, a step for each channel, and a map, over all tiles of a call and on whatever workers it has.
#pragma once
#include "partials.hh"
#include "run.hh"
#include "workers.hh"

namespace bnorm {

/// Merges the blocks of channels [c0, c1) into block 0 of the partials.
void merge_blocks(const Run& run, PartialKind kind, int64_t g, int64_t c0, int64_t c1);

/// A reduction and a map with a step between them for each channel. Either kernel may be NULL.
struct TwoPasses {
  Passes family;
  const Form& form;
  TileKernel reduce, map;
};

/// Reduces the blocks of a piece.
void reduce_piece(const Run& run, const TwoPasses& passes, const Piece& p);
/// Maps the strips of a piece. After a reduction in channels-last, or planar of channels that L2 does not hold, the
/// last ones come first: they are still in cache.
void map_piece(const Run& run, const TwoPasses& passes, const Piece& p);

/// A piece in blocks as one in strips.
inline Piece in_strips(const Run& run, const Piece& p) {
  return {p.g, p.c0, p.c1, p.u0 * kBlockStrips, std::min(p.u1 * kBlockStrips, strip_count(run.order))};
}

/// Runs body(piece) for all pieces of a cut in at most kMostTasks tasks: many groups share one.
template <class Body>
bool run_pieces(const Workers& workers, const Cut& cut, const Body& body) {
  if (workers.concurrency() == 1) {  // uncut, and without divisions: a call at batch 1 costs some hundred instructions
    for (int64_t g = 0; g < cut.groups; ++g) body(Piece{g, 0, cut.channels, 0, cut.units});
    return true;
  }
  const int64_t n = cut.count(), tasks = std::min(n, kMostTasks);
  return workers.run(tasks, [&](int64_t task) {
    for (int64_t i = n * task / tasks; i < n * (task + 1) / tasks; ++i) body(cut.piece(i));
  });
}

/// What each loop of a call brings its workers, in bytes that a map moves: a reduction takes as long again. As a
/// rule planar passes share one loop, where channels-last ones have two (owns_channels).
inline int64_t work_of_loop(const Run& run, const TwoPasses& passes) {
  const int64_t work = passes.reduce ? 2 * run.bytes : run.bytes;
  return passes.reduce && passes.map && is_channels_last(passes.family.reduce) ? work / 2 : work;
}

/// finish(g, c0, c1) runs once for all channels of each group, after their reduction and before their map.
template <class Finish>
bool run_passes(const Run& run, const TwoPasses& passes, const Finish& finish) {
  const Workers workers(run.call.executor, work_of_loop(run, passes));
  if (passes.reduce) {
    const Cut cut = make_cut(run.plan, passes.family, run.blocks(), workers);
    if (owns_channels(run.plan, passes.family, cut)) {
      // A tile after the other, as a rule in cache between the two passes.
      const int64_t step = tile_channels(run.plan, passes.family, run.channels(), run.bytes_per_channel);
      return run_pieces(workers, cut, [&](Piece p) {
        for (const int64_t end = p.c1; p.c0 < end; p.c0 = p.c1) {
          p.c1 = std::min(end, p.c0 + step);
          reduce_piece(run, passes, p);
          finish(p.g, p.c0, p.c1);
          if (passes.map) map_piece(run, passes, in_strips(run, p));
        }
      });
    }
    if (!run_pieces(workers, cut, [&](const Piece& p) { reduce_piece(run, passes, p); })) return false;
  }
  for (int64_t g = 0; g < run.desc().groups; ++g) finish(g, 0, run.channels());
  if (!passes.map) return true;
  const Cut cut = make_cut(run.plan, passes.family, strip_count(run.order), workers);
  return run_pieces(workers, cut, [&](const Piece& p) { map_piece(run, passes, p); });
}

}  // namespace bnorm
