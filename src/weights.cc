// SPDX-License-Identifier: Apache-2.0
#include "weights.hh"

#include "passes.hh"

namespace bnorm {
namespace {

template <class A>
void weights_of_lengths(const Run& run, A* weights) {
  const int64_t batch = run.desc().batch, spatial = run.order.spatial;
  for (int64_t g = 0; g < run.plan.weight_groups(); ++g)
    for (int64_t n = 0; n < run.order.batch; ++n) {
      A* const sample = weights + (g * batch + n) * spatial;
      const int64_t length = run.call.lengths[g * batch + n];
      std::fill_n(sample, length, A{1});
      std::fill_n(sample + length, spatial - length, A{0});
    }
}

/// The weights of a group as a tensor of one channel whose gradient sums, with dy = x and mean 0, are those of the
/// weights and of their squares.
Tile weights_tile(const Run& run, const Form& form, int64_t g) {
  static constexpr double zero = 0;  // of either type
  Tile t = {};
  t.order = run.order;
  t.channels = t.c1 = 1;
  t.family = run.order.spatial > kOctet ? kRows : kColumnsNarrow;
  for (View& v : t.tensor) v = run.weights_of(g);
  t.tensor[kMask] = {};
  t.mean = t.inv_std = &zero;
  for (const void*& k : t.coefficient) k = &zero;  // kernels of any style load those of z
  t.form = &form;
  t.first = run.w.block_weight + g * run.blocks();
  t.second = run.w.block_square + g * run.blocks();
  return t;
}

/// Sums of all blocks of a group, along the tree of the partials whose counts they are.
void sum_blocks(const Run& run, int64_t g) {
  Partial all;
  set_counts(all, 0, 0);
  if (run.blocks() > 0)
    merge_range(
        run.table(), PartialKind::kSums, 1, 0, run.blocks(),
        [&](int64_t b, Partial& part) {
          const int64_t at = g * run.blocks() + b;
          set_counts(part, run.w.block_weight[at], run.w.block_square[at]);
        },
        all);
  run.w.group_weight[g] = all.count;
  run.w.group_square[g] = all.first[0];
}

}  // namespace

void make_weights(const Run& run) {
  if (!run.call.lengths) return;
  if (run.plan.arithmetic == 1)
    weights_of_lengths(run, static_cast<double*>(run.w.weights));
  else
    weights_of_lengths(run, static_cast<float*>(run.w.weights));
}

bool sum_weights(const Run& run) {
  if (!run.weights) return true;
  make_weights(run);
  Form form = {};
  form.derivative = kOne;
  const int64_t groups = run.plan.weight_groups(), positions = groups * run.order.batch * run.order.spatial;
  const Workers workers(run.call.executor, positions * run.plan.arithmetic_bytes());
  Cut cut = {groups, 1, run.blocks(), 1, 1, 1};
  if (workers.concurrency() > 1)
    cut.unit_parts = std::max<int64_t>(std::min(workers.pieces() / std::max<int64_t>(groups, 1), cut.units), 1);
  const bool done = run_pieces(workers, cut, [&](const Piece& p) {
    Tile t = weights_tile(run, form, p.g);
    t.b0 = p.u0;
    t.b1 = p.u1;
    run.table().gradient_sums[run.plan.arithmetic == 1 ? kAllF64 : kAllF32][kBare][t.family](t);
  });
  for (int64_t g = 0; done && g < groups; ++g) sum_blocks(run, g);
  return done;
}

double variance_divisor(const bnorm_desc& desc, double count, double square) {
  if (desc.biased_running_var) return count;
  // The weight of one value, were all equal.
  const double one = desc.weighting == BNORM_RELIABILITY_WEIGHTS ? square / count : 1;
  return count >= 2 * one ? count - one : count;
}

}  // namespace bnorm
