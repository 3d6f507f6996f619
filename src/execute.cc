// SPDX-License-Identifier: Apache-2.0
#include "execute.hh"

#include <cstring>

#include "passes.hh"
#include "renorm.hh"
#include "run.hh"
#include "running.hh"
#include "weights.hh"

namespace bnorm {
namespace {

bnorm_status failed(Call& call) {
  return call.report.say(
      BNORM_EXECUTION_FAILED,
      "executor.parallel_for: must run each task exactly once and return 0; outputs are unspecified");
}

Affine affine_of(const Plan& plan, const Call& call, int64_t g, int64_t c) {
  const int64_t at = (plan.desc.params_per_group ? g * plan.desc.channels : 0) + c;
  const int64_t bytes = plan.param_bytes();
  return {advance(call.affine.scale, at, bytes), advance(call.affine.shift, at, bytes), plan.param_type};
}

/// A partials buffer: count[G], two arrays [G][C], and of reliability weights the sums of their squares, [G].
/// `Double`: const or not.
template <class Double>
struct PartialsBuffer {
  Double* count;
  Double* first;
  Double* second;
  Double* square;  // NULL: none

  PartialsBuffer(const Plan& plan, Double* buffer)
      : count(buffer),
        first(count + plan.desc.groups),
        second(first + plan.all_channels()),
        square(plan.has_squares() ? second + plan.all_channels() : nullptr) {}
  double square_of(int64_t g) const { return square ? square[g] : 0; }
  GroupMoments moments(int64_t channels) const { return {count, square, false, first, second, channels}; }
};

/// Copies block 0 of the partials into the caller's partials buffer.
void export_partials(const Run& run, double* buffer) {
  const PartialsBuffer<double> to(run.plan, buffer);
  const int64_t channels = run.channels();
  for (int64_t g = 0; g < run.desc().groups; ++g) {
    to.count[g] = run.count(g);
    if (to.square) to.square[g] = run.weights ? run.w.group_square[run.weight_group(g)] : 0;
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t from = g * run.group_stride() + c;
      to.first[g * channels + c] = run.blocks() > 0 ? run.w.first[from] : 0;
      to.second[g * channels + c] = run.blocks() > 0 ? run.w.second[from] : 0;
    }
  }
}

/// Merges n partials buffers; part(i) is the i-th, `merged` may be part(0).
template <class Part>
void merge_parts(const Plan& plan, PartialKind kind, int64_t n, const Part& part, double* merged) {
  const PartialsBuffer<double> to(plan, merged);
  const auto from = [&](int64_t i) { return PartialsBuffer<const double>(plan, part(i)); };
  for (int64_t g = 0; g < plan.desc.groups; ++g) {
    // Along the tree as well: weights are no whole numbers.
    Partial counts;
    merge_range(
        *plan.table, PartialKind::kSums, 1, 0, n,
        [&](int64_t i, Partial& p) {
          p = {from(i).count[g], {from(i).square_of(g)}, {}};
        },
        counts);
    const int64_t channels = plan.desc.channels;
    for (int64_t c = 0; c < channels; c += kMergeChannels) {
      const int64_t some = std::min(kMergeChannels, channels - c), at = g * channels + c;
      const auto bytes = static_cast<size_t>(some) * sizeof(double);
      Partial all;
      merge_range(
          *plan.table, kind, some, 0, n,
          [&](int64_t i, Partial& p) {
            p.count = from(i).count[g];
            std::memcpy(p.first, from(i).first + at, bytes);
            std::memcpy(p.second, from(i).second + at, bytes);
          },
          all);
      std::memcpy(to.first + at, all.first, bytes);
      std::memcpy(to.second + at, all.second, bytes);
    }
    to.count[g] = counts.count;  // last: merged may be the first part
    if (to.square) to.square[g] = counts.first[0];
  }
}

// ---------------------------------------------------------------------------------------- coefficients --

/// From running statistics: channels of group g into `coefficient`.
void prepare_from_running(const Plan& plan, const Call& call, int64_t g, void* const* coefficient) {
  const int64_t at = plan.desc.running_mode == BNORM_RUNNING_PER_GROUP ? g * plan.desc.channels : 0;
  const int64_t bytes = plan.param_bytes();
  plan.table->prepare_running[plan.param][plan.arithmetic](
      advance(call.running_mean, at, bytes), advance(call.running_var, at, bytes), plan.desc.epsilon,
      affine_of(plan, call, g, 0), coefficient, plan.desc.channels);
}

void prepare_from_saved(const Run& run, int64_t g, int64_t c0, int64_t c1) {
  void* coefficient[kCoefficients];
  run.coefficients_at(g, c0, coefficient);
  const int64_t at = g * run.channels() + c0;
  Affine affine = affine_of(run.plan, run.call, g, c0);
  if (run.desc().renorm) {
    load_affine(run.plan, run.call, g, c0, c1 - c0, run.w.renorm_r + at, run.w.renorm_d + at, run.w.scale + at,
                run.w.shift + at);
    affine = {run.w.scale + at, run.w.shift + at, kF64};
  }
  run.table().prepare_saved[affine.type == kF64][run.plan.arithmetic](run.w.saved_mean + at, run.w.saved_inv_std + at,
                                                                      affine, coefficient, c1 - c0);
}

/// What the forward call saved, as f64: corrections, and statistics, those given or for frozen ones made from the
/// running statistics.
void load_statistics(const Run& run) {
  const bnorm_desc& d = run.desc();
  const int64_t all = d.groups * d.channels;
  const bool f64 = d.stats_type == BNORM_F64;
  if (d.renorm) {
    load_values(run.call.renorm_r, 0, all, f64, run.w.renorm_r);
    load_values(run.call.renorm_d, 0, all, f64, run.w.renorm_d);
  }
  if (!d.frozen) {
    if (run.statistics_in_place()) return;
    load_values(run.call.mean, 0, all, f64, run.w.saved_mean);
    load_values(run.call.inv_std, 0, all, f64, run.w.saved_inv_std);
    return;
  }
  for (int64_t g = 0; g < d.groups; ++g) {
    const int64_t from = d.running_mode == BNORM_RUNNING_PER_GROUP ? g * d.channels : 0, to = g * d.channels;
    run.table().load_params[run.plan.param](run.call.running_mean, run.plan.param_type, from, run.w.saved_mean + to,
                                            d.channels);
    run.table().load_params[run.plan.param](run.call.running_var, run.plan.param_type, from, run.w.saved_inv_std + to,
                                            d.channels);
    // The variance as moments of one value, so that inv_std comes from the same formula.
    run.table().finalize(1, d.epsilon, false, run.w.saved_mean + to, run.w.saved_inv_std + to, run.w.saved_mean + to,
                         run.w.saved_inv_std + to, d.channels);
  }
}

/// Puts the saved statistics where the caller wants them, if they are not there already.
void store_statistics(const Run& run) {
  const int64_t all = run.desc().groups * run.channels();
  const bool f64 = run.desc().stats_type == BNORM_F64;
  if (run.call.renorm_r) {
    store_values(run.call.renorm_r, 0, all, f64, run.w.renorm_r);
    store_values(run.call.renorm_d, 0, all, f64, run.w.renorm_d);
  }
  if (!run.call.mean || run.statistics_in_place()) return;
  store_values(run.call.mean, 0, all, f64, run.w.saved_mean);
  store_values(run.call.inv_std, 0, all, f64, run.w.saved_inv_std);
}

/// Puts shift and 1 / scale in place of mean and inv_std of a group: z is to them what x is to those. The gain stays.
void take_output_for_input(const Run& run, int64_t g) {
  const int64_t at = g * run.channels();
  if (!run.desc().renorm)  // else they are there already, with their corrections
    load_affine(run.plan, run.call, g, 0, run.channels(), nullptr, nullptr, run.w.scale + at, run.w.shift + at);
  for (int64_t i = at; i < at + run.channels(); ++i) {
    run.w.saved_mean[i] = run.w.shift[i];
    run.w.saved_inv_std[i] = 1 / run.w.scale[i];
  }
  store_values(run.w.coefficient[kCenter], at, run.channels(), run.plan.arithmetic == 1, run.w.saved_mean + at);
}

/// The coefficients of the forward call, for all groups, and the saved statistics that backward needs.
void prepare_backward(const Run& run) {
  load_statistics(run);
  for (int64_t g = 0; g < run.desc().groups; ++g) {
    if (run.desc().frozen) {
      void* coefficient[kCoefficients];
      run.coefficients_at(g, 0, coefficient);
      prepare_from_running(run.plan, run.call, g, coefficient);
    } else {
      prepare_from_saved(run, g, 0, run.channels());
    }
    if (run.desc().from_output) take_output_for_input(run, g);
  }
}

void prepare_gradient(const Run& run, int64_t g, int64_t c0, int64_t c1, double count, const double* sum_dz,
                      const double* sum_dz_x) {
  if (run.desc().frozen) return;
  void* coefficient[kCoefficients];
  run.coefficients_at(g, c0, coefficient);
  if (count == 0) {  // nothing was counted: dx = dz * gain
    for (const Coefficient k : {kSlope, kBias})
      std::memset(coefficient[k], 0, static_cast<size_t>((c1 - c0) * run.plan.arithmetic_bytes()));
    return;
  }
  const int64_t at = g * run.channels() + c0;
  run.table().prepare_gradient[run.plan.arithmetic](count, run.w.saved_mean + at, run.w.saved_inv_std + at, sum_dz,
                                                    sum_dz_x, coefficient, c1 - c0);
}

/// dscale and dshift, for each group its own or summed over all, from sums with [group * stride + channel]; sum_dz is
/// NULL where there were no values.
void store_param_gradients(const Run& run, const double* sum_dz, const double* sum_dz_x, int64_t stride) {
  if (!run.call.dscale && !run.call.dshift) return;
  const bnorm_desc& d = run.desc();
  const int64_t sets = d.params_per_group ? d.groups : 1, groups = d.params_per_group ? 1 : d.groups;
  const auto output = [&](void* array, int64_t set) {
    return const_cast<void*>(advance(array, set * d.channels, run.plan.param_bytes()));
  };
  for (int64_t set = 0; set < sets; ++set) {
    const int64_t at = sum_dz ? set * stride : 0;
    const int64_t of_set = set * d.channels;
    run.table().param_gradients[run.plan.param](
        sum_dz ? groups : 0, stride, sum_dz + at, sum_dz_x + at, run.w.saved_inv_std + of_set,
        d.renorm ? run.w.renorm_r + of_set : nullptr, run.w.renorm_d + of_set, output(run.call.dscale, set),
        output(run.call.dshift, set), run.plan.param_type, d.channels);
  }
}

// -------------------------------------------------------------------------------------- kernel choices --

TwoPasses forward_passes(const Plan& plan, bool reduce, bool map) {
  const Passes& f = plan.forward;
  const auto& moments = plan.desc.weighting ? plan.table->weighted_moments : plan.table->moments;
  return {f, plan.forward_form, reduce ? moments[plan.data][f.reduce] : nullptr,
          map ? plan.table->normalize[plan.data][plan.forward_style][f.map] : nullptr};
}

TwoPasses backward_passes(const Plan& plan, bool reduce, bool map) {
  const Passes& f = plan.backward;
  return {f, plan.backward_form, reduce ? plan.table->gradient_sums[plan.data][plan.backward_style][f.reduce] : nullptr,
          map ? plan.table->gradient[plan.data][plan.backward_style][f.map] : nullptr};
}

bool wants_map(const Call& call) { return call.tensor[kDx] || call.tensor[kDresidual]; }

constexpr auto kNothingBetween = [](int64_t, int64_t, int64_t) {};

/// Reduces all blocks and puts the merged partials of every group and channel into a partials buffer.
bnorm_status reduce_to(const Run& run, const TwoPasses& passes, PartialKind kind, double* partials) {
  const auto merge = [&](int64_t g, int64_t c0, int64_t c1) { merge_blocks(run, kind, g, c0, c1); };
  if (!sum_weights(run)) return failed(run.call);
  if (run.positions() > 0 && !run_passes(run, passes, merge)) return failed(run.call);
  export_partials(run, partials);
  return BNORM_OK;
}

/// Saved statistics and coefficients of channels from the moments of `count` values.
void finish_statistics(const Run& run, int64_t g, int64_t c0, int64_t c1, double count, const double* mean,
                       const double* m2) {
  const int64_t at = g * run.channels() + c0;
  run.table().finalize(count, run.desc().epsilon, run.desc().stats_type != BNORM_F64, mean, m2, run.w.saved_mean + at,
                       run.w.saved_inv_std + at, c1 - c0);
  if (run.desc().renorm)
    renorm_corrections(run.plan, run.call, count, g, c0, c1 - c0, run.w.saved_mean + at, run.w.saved_inv_std + at,
                       run.w.renorm_r + at, run.w.renorm_d + at);
  prepare_from_saved(run, g, c0, c1);
}

// ------------------------------------------------------------------------------------------------ exchange --

/// What this rank sends behind its status; what all sent, once merged.
double* partials_to_send(const Call& call) { return call.exchange->buffer + 1; }

/// Sends this rank's status and partials and merges those of all in place of them. Not OK if any rank's status was not.
bnorm_status exchange_partials(const Plan& plan, Call& call, PartialKind kind, bnorm_status own) {
  const bnorm_exchange& e = *call.exchange;
  const int64_t count = 1 + plan.partials_doubles();
  double* const received = e.buffer + count;
  e.buffer[0] = own;
  if (own != BNORM_OK) std::fill_n(partials_to_send(call), count - 1, 0.0);
  const int32_t result = e.allgather(e.context, e.buffer, received, count);
  if (own != BNORM_OK) return own;
  if (result != 0)
    return call.report.say(BNORM_EXECUTION_FAILED, "exchange.allgather = %d: must return 0; nothing was written",
                           static_cast<int>(result));
  for (int64_t r = 0; r < e.ranks; ++r)
    if (received[r * count] != 0)
      return call.report.say(BNORM_EXECUTION_FAILED,
                             "exchange: rank %lld could not make its call (status %g); nothing was written",
                             static_cast<long long>(r), received[r * count]);
  merge_parts(
      plan, kind, e.ranks, [&](int64_t r) { return received + r * count + 1; }, partials_to_send(call));
  return BNORM_OK;
}

bnorm_status train_together(const Run& run) {
  const Plan& plan = run.plan;
  constexpr auto kind = PartialKind::kMoments;
  const bnorm_status own = reduce_to(run, forward_passes(plan, true, false), kind, partials_to_send(run.call));
  const bnorm_status status = exchange_partials(plan, run.call, kind, own);
  if (status != BNORM_OK) return status;
  const PartialsBuffer<const double> all(plan, partials_to_send(run.call));
  for (int64_t g = 0; g < plan.desc.groups; ++g) {
    const int64_t at = g * run.channels();
    finish_statistics(run, g, 0, run.channels(), all.count[g], all.first + at, all.second + at);
  }
  if (run.positions() > 0 && !run_passes(run, forward_passes(plan, false, true), kNothingBetween))
    return failed(run.call);
  store_statistics(run);
  return update_running(plan, run.call, all.moments(run.channels()));
}

/// Gradients from the sums of a partials buffer; the coefficients are prepared.
bnorm_status apply_sums(const Run& run, const double* sums) {
  const PartialsBuffer<const double> all(run.plan, sums);
  for (int64_t g = 0; g < run.desc().groups; ++g) {
    const int64_t at = g * run.channels();
    prepare_gradient(run, g, 0, run.channels(), all.count[g], all.first + at, all.second + at);
  }
  if (run.positions() > 0 && wants_map(run.call) &&
      !run_passes(run, backward_passes(run.plan, false, true), kNothingBetween))
    return failed(run.call);
  store_param_gradients(run, all.first, all.second, run.channels());
  return BNORM_OK;
}

bnorm_status backward_together(const Run& run) {
  const Plan& plan = run.plan;
  constexpr auto kind = PartialKind::kSums;
  prepare_backward(run);
  const bnorm_status own = reduce_to(run, backward_passes(plan, true, false), kind, partials_to_send(run.call));
  const bnorm_status status = exchange_partials(plan, run.call, kind, own);
  return status == BNORM_OK ? apply_sums(run, partials_to_send(run.call)) : status;
}

/// Coefficient arrays inside the buffer of bnorm_prepare.
void map_coefficients(const Plan& plan, const void* buffer, void** coefficient) {
  for (int k = 0; k < kCoefficients; ++k)
    coefficient[k] =
        k > kOffset ? nullptr : const_cast<void*>(advance(buffer, k * plan.all_channels(), plan.arithmetic_bytes()));
}

}  // namespace

// ---------------------------------------------------------------------------------------------- full calls --

bnorm_status withdraw(const bnorm_plan* handle, Call& call, bnorm_status status) {
  return call.exchange ? exchange_partials(handle->plan, call, PartialKind::kSums, status) : status;
}

bnorm_status run_infer(const bnorm_plan& handle, Call& call) {
  const Scratch scratch(handle, call);
  if (!scratch.memory()) return scratch.refuse(call);
  const Run run(handle.plan, call, scratch.memory());
  if (run.positions() == 0) return BNORM_OK;
  for (int64_t g = 0; g < run.desc().groups; ++g) {
    void* coefficient[kCoefficients];
    run.coefficients_at(g, 0, coefficient);
    prepare_from_running(run.plan, call, g, coefficient);
  }
  return run_passes(run, forward_passes(run.plan, false, true), kNothingBetween) ? BNORM_OK : failed(call);
}

bnorm_status run_train(const bnorm_plan& handle, Call& call) {
  const Scratch scratch(handle, call);
  if (!scratch.memory()) return withdraw(&handle, call, scratch.refuse(call));
  const Run run(handle.plan, call, scratch.memory());
  if (call.exchange) return train_together(run);
  if (!sum_weights(run)) return failed(call);
  const auto finish = [&](int64_t g, int64_t c0, int64_t c1) {
    merge_blocks(run, PartialKind::kMoments, g, c0, c1);
    const int64_t at = g * run.group_stride() + c0;
    finish_statistics(run, g, c0, c1, run.count(g), run.w.first + at, run.w.second + at);
  };
  if (run.positions() == 0)
    for (int64_t g = 0; g < run.desc().groups; ++g) finish(g, 0, run.channels());
  else if (!run_passes(run, forward_passes(run.plan, true, true), finish))
    return failed(call);
  store_statistics(run);
  const double positions = run.positions();
  GroupMoments moments = {&positions, nullptr, true, run.w.first, run.w.second, run.group_stride()};
  if (run.weights) {
    moments.count = run.w.group_weight;
    moments.square = run.w.group_square;
    moments.one_count = run.plan.weight_groups() != run.desc().groups;
  }
  return update_running(run.plan, call, moments);
}

bnorm_status run_backward(const bnorm_plan& handle, Call& call) {
  const Scratch scratch(handle, call);
  if (!scratch.memory()) return withdraw(&handle, call, scratch.refuse(call));
  const Run run(handle.plan, call, scratch.memory());
  if (call.exchange) return backward_together(run);
  if (!sum_weights(run)) return failed(call);
  const bool any = run.positions() > 0;
  const bool needs_sums = call.dscale || call.dshift || (!run.desc().frozen && call.tensor[kDx]);
  prepare_backward(run);
  const auto finish = [&](int64_t g, int64_t c0, int64_t c1) {
    if (!needs_sums) return;
    merge_blocks(run, PartialKind::kSums, g, c0, c1);
    const int64_t at = g * run.group_stride() + c0;
    prepare_gradient(run, g, c0, c1, run.count(g), run.w.first + at, run.w.second + at);
  };
  if (any && !run_passes(run, backward_passes(run.plan, needs_sums, wants_map(call)), finish)) return failed(call);
  store_param_gradients(run, any ? run.w.first : nullptr, run.w.second, run.group_stride());
  return BNORM_OK;
}

// -------------------------------------------------------------------------------------- prepared inference --

void run_prepare(const Plan& plan, const Call& call, void* coefficients) {
  const bnorm_desc& d = plan.desc;
  void* base[kCoefficients];
  map_coefficients(plan, coefficients, base);
  const auto at = [&](int64_t i, void** to) {
    for (int k = 0; k <= kOffset; ++k) to[k] = static_cast<char*>(base[k]) + i * plan.arithmetic_bytes();
  };
  void* coefficient[kCoefficients];
  for (int64_t g = 0; g < d.groups; ++g) {
    if (!call.mean) {
      at(g * d.channels, coefficient);
      prepare_from_running(plan, call, g, coefficient);
      continue;
    }
    const bool f64 = d.stats_type == BNORM_F64;
    double mean[kChannelRun], inv_std[kChannelRun], r[kChannelRun], correction[kChannelRun], scale[kChannelRun],
        shift[kChannelRun];
    for (int64_t c = 0; c < d.channels; c += kChannelRun) {
      const int64_t i = g * d.channels + c, count = std::min(kChannelRun, d.channels - c);
      load_values(call.mean, i, count, f64, mean);
      load_values(call.inv_std, i, count, f64, inv_std);
      at(i, coefficient);
      Affine affine = affine_of(plan, call, g, c);
      if (call.renorm_r) {
        load_values(call.renorm_r, i, count, f64, r);
        load_values(call.renorm_d, i, count, f64, correction);
        load_affine(plan, call, g, c, count, r, correction, scale, shift);
        affine = {scale, shift, kF64};
      }
      plan.table->prepare_saved[affine.type == kF64][plan.arithmetic](mean, inv_std, affine, coefficient, count);
    }
  }
}

bnorm_status run_normalize(const Plan& plan, Call& call, const void* coefficients) {
  Run run(plan, call, nullptr);
  if (run.positions() == 0) return BNORM_OK;
  map_coefficients(plan, coefficients, run.w.coefficient);
  return run_passes(run, forward_passes(plan, false, true), kNothingBetween) ? BNORM_OK : failed(call);
}

// -------------------------------------------------------------------------------------------------- parts --

bnorm_status run_moments(const bnorm_plan& handle, Call& call, double* moments) {
  const Scratch scratch(handle, call);
  if (!scratch.memory()) return scratch.refuse(call);
  const Run run(handle.plan, call, scratch.memory());
  return reduce_to(run, forward_passes(run.plan, true, false), PartialKind::kMoments, moments);
}

bnorm_status run_finalize(const bnorm_plan& handle, Call& call, const double* moments) {
  const Plan& plan = handle.plan;
  const int64_t groups = plan.desc.groups, channels = plan.desc.channels;
  const bool f64 = plan.desc.stats_type == BNORM_F64;
  const PartialsBuffer<const double> all(plan, moments);
  double saved_mean[kChannelRun], saved_inv_std[kChannelRun], r[kChannelRun], d[kChannelRun];
  for (int64_t g = 0; (call.mean || call.renorm_r) && g < groups; ++g)
    for (int64_t c = 0; c < channels; c += kChannelRun) {
      const int64_t at = g * channels + c, count = std::min(kChannelRun, channels - c);
      plan.table->finalize(all.count[g], plan.desc.epsilon, !f64, all.first + at, all.second + at, saved_mean,
                           saved_inv_std, count);
      if (call.renorm_r) {
        renorm_corrections(plan, call, all.count[g], g, c, count, saved_mean, saved_inv_std, r, d);
        store_values(call.renorm_r, at, count, f64, r);
        store_values(call.renorm_d, at, count, f64, d);
      }
      if (!call.mean) continue;
      store_values(call.mean, at, count, f64, saved_mean);
      store_values(call.inv_std, at, count, f64, saved_inv_std);
    }
  return update_running(plan, call, all.moments(channels));
}

bnorm_status run_sums(const bnorm_plan& handle, Call& call, double* sums) {
  const Scratch scratch(handle, call);
  if (!scratch.memory()) return scratch.refuse(call);
  const Run run(handle.plan, call, scratch.memory());
  prepare_backward(run);
  return reduce_to(run, backward_passes(run.plan, true, false), PartialKind::kSums, sums);
}

bnorm_status run_apply(const bnorm_plan& handle, Call& call, const double* sums) {
  const Scratch scratch(handle, call);
  if (!scratch.memory()) return scratch.refuse(call);
  const Run run(handle.plan, call, scratch.memory());
  make_weights(run);
  prepare_backward(run);
  return apply_sums(run, sums);
}

void run_merge(const Plan& plan, PartialKind kind, int64_t n, const double* const* parts, double* merged) {
  merge_parts(
      plan, kind, n, [&](int64_t i) { return parts[i]; }, merged);
}

}  // namespace bnorm
