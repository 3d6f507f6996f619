// SPDX-License-Identifier: Apache-2.0
#include "execute.hh"

#include <algorithm>

#include "coefficients.hh"
#include "exchange.hh"
#include "passes.hh"
#include "renorm.hh"
#include "running.hh"
#include "weights.hh"

namespace bnorm {
namespace {

bnorm_status failed(Call& call, const char* outputs = "outputs are unspecified") {
  return call.report.say(BNORM_EXECUTION_FAILED, "%s; %s",
                         call.executor ? "executor.parallel_for: must run each task exactly once and return 0"
                                       : "executor = NULL: oneTBB could not run the tasks",
                         outputs);
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
  if (!sum_weights(run) || (!run.empty() && !run_passes(run, passes, merge)))
    return failed(run.call, "nothing was written");
  export_partials(run, partials);
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
  if (!run.empty() && !run_passes(run, forward_passes(plan, false, true), kNothingBetween)) return failed(run.call);
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
  if (!run.empty() && wants_map(run.call) && !run_passes(run, backward_passes(run.plan, false, true), kNothingBetween))
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

}  // namespace

// ---------------------------------------------------------------------------------------------- full calls --

bnorm_status run_infer(const bnorm_plan& handle, Call& call) {
  const Plan& plan = handle.plan;
  if (is_empty(plan, call)) return BNORM_OK;
  const Scratch scratch(handle, call, plan.coefficients_bytes() + size_t{kCacheLine});
  if (!scratch.memory()) return scratch.refuse(call);
  void* const coefficients = first_line(scratch.memory());
  fill_coefficients(plan, call, coefficients);
  return run_normalize(plan, call, coefficients);
}

bnorm_status run_normalize(const Plan& plan, Call& call, const void* coefficients) {
  if (is_empty(plan, call)) return BNORM_OK;
  Run run(plan, call, nullptr);
  map_coefficients(plan, coefficients, run.w.coefficient);
  return run_passes(run, forward_passes(plan, false, true), kNothingBetween) ? BNORM_OK : failed(call);
}

bnorm_status run_train(const bnorm_plan& handle, Call& call) {
  const Scratch scratch(handle, call, handle.plan.workspace_bytes);
  if (!scratch.memory()) return withdraw(&handle, call, scratch.refuse(call));
  const Run run(handle.plan, call, scratch.memory());
  if (call.exchange) return train_together(run);
  if (run.channels() == 0) return BNORM_OK;
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
  const Scratch scratch(handle, call, handle.plan.workspace_bytes);
  if (!scratch.memory()) return withdraw(&handle, call, scratch.refuse(call));
  const Run run(handle.plan, call, scratch.memory());
  if (call.exchange) return backward_together(run);
  if (run.channels() == 0) return BNORM_OK;
  if (!sum_weights(run)) return failed(call);
  const bool any = !run.empty();
  const bool needs_sums = call.dscale || call.dshift || (!run.desc().frozen && call.tensor[kDx]);
  prepare_backward(run);
  const auto finish = [&](int64_t g, int64_t c0, int64_t c1) {
    if (!needs_sums) return prepare_gradient(run, g, c0, c1, 0, nullptr, nullptr);  // read even where dx is not wanted
    merge_blocks(run, PartialKind::kSums, g, c0, c1);
    const int64_t at = g * run.group_stride() + c0;
    prepare_gradient(run, g, c0, c1, run.count(g), run.w.first + at, run.w.second + at);
  };
  if (any && !run_passes(run, backward_passes(run.plan, needs_sums, wants_map(call)), finish)) return failed(call);
  store_param_gradients(run, any ? run.w.first : nullptr, run.w.second, run.group_stride());
  return BNORM_OK;
}

// -------------------------------------------------------------------------------------------------- parts --

bnorm_status run_moments(const bnorm_plan& handle, Call& call, double* moments) {
  const Scratch scratch(handle, call, handle.plan.workspace_bytes);
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
  const Scratch scratch(handle, call, handle.plan.workspace_bytes);
  if (!scratch.memory()) return scratch.refuse(call);
  const Run run(handle.plan, call, scratch.memory());
  prepare_backward(run);
  return reduce_to(run, backward_passes(run.plan, true, false), PartialKind::kSums, sums);
}

bnorm_status run_apply(const bnorm_plan& handle, Call& call, const double* sums) {
  const Scratch scratch(handle, call, handle.plan.workspace_bytes);
  if (!scratch.memory()) return scratch.refuse(call);
  const Run run(handle.plan, call, scratch.memory());
  make_weights(run);
  prepare_backward(run);
  return apply_sums(run, sums);
}

}  // namespace bnorm
