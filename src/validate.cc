// SPDX-License-Identifier: Apache-2.0
// The rules of calls.
#include "validate.hh"

#include <cmath>
#include <cstdio>

#include "arrays.hh"

namespace bnorm {
namespace {

bnorm_status check_batch(const Plan& plan, int64_t batch, Call* call) {
  call->batch = batch == BNORM_PLAN_BATCH ? plan.desc.batch : batch;
  if (call->batch >= 0 && call->batch <= plan.desc.batch) return BNORM_OK;
  return call->report.say(BNORM_INVALID_ARGUMENT,
                          "batch = %" PRId64 ": must be in [0, %" PRId64 "], the plan's, or BNORM_PLAN_BATCH", batch,
                          plan.desc.batch);
}

bnorm_status check_executor(const bnorm_executor* executor, Call* call) {
  call->executor = executor;
  if (!executor) return BNORM_OK;
  BNORM_CHECK(check_struct(executor, "executor", call->report));
  BNORM_CHECK(check_range("executor.concurrency", executor->concurrency, 1, INT32_MAX, call->report));
  if (!executor->parallel_for)
    return call->report.say(BNORM_INVALID_ARGUMENT, "executor.parallel_for = NULL: must be given");
  return BNORM_OK;
}

/// Only a whole call may have one.
bnorm_status check_exchange(const Plan& plan, const bnorm_exchange* exchange, bool whole, Call* call) {
  if (!exchange) return BNORM_OK;
  if (!whole)
    return call->report.say(BNORM_INVALID_ARGUMENT, "exchange = %p: must be NULL in the parts of a call",
                            static_cast<const void*>(exchange));
  BNORM_CHECK(check_struct(exchange, "exchange", call->report));
  BNORM_CHECK(check_range("exchange.ranks", exchange->ranks, 1, INT32_MAX, call->report));
  if (!exchange->allgather) return call->report.say(BNORM_INVALID_ARGUMENT, "exchange.allgather = NULL: must be given");
  if (!exchange->buffer || reinterpret_cast<uintptr_t>(exchange->buffer) % sizeof(double) != 0)
    return call->report.say(BNORM_INVALID_ARGUMENT, "exchange.buffer = %p: must be given, aligned for double",
                            static_cast<void*>(exchange->buffer));
  BNORM_CHECK(check_range("exchange.buffer_count", exchange->buffer_count, plan.exchange_doubles(exchange->ranks),
                          INT64_MAX, call->report));
  call->exchange = exchange;
  return BNORM_OK;
}

bnorm_status check_workspace(const Plan& plan, void* workspace, size_t bytes, Call* call, Arrays& arrays) {
  call->workspace = workspace;
  if (workspace ? bytes >= plan.workspace_bytes : bytes == 0)
    return arrays.values("workspace", workspace, static_cast<int64_t>(plan.workspace_bytes), 1, Arrays::kOptional,
                         true);
  return call->report.say(BNORM_INVALID_ARGUMENT,
                          workspace ? "workspace_bytes = %zu: must be at least %zu (bnorm_plan_workspace_size)"
                                    : "workspace_bytes = %zu: must be 0 without a workspace (%zu would do)",
                          bytes, plan.workspace_bytes);
}

/// The buffer of an exchange is written, so nothing else may lie there. Comes before every other array.
bnorm_status check_messages(const Plan& plan, const Call& call, Arrays& arrays) {
  if (!call.exchange) return BNORM_OK;
  return arrays.values(kMessages, call.exchange->buffer, plan.exchange_doubles(call.exchange->ranks), sizeof(double),
                       Arrays::kRequired, true);
}

/// What batch renormalization saved.
bnorm_status check_renorm(const Plan& plan, const void* r, const void* d, Arrays::Need need, bool writes, Call* call,
                          Arrays& arrays) {
  const int64_t count = plan.all_channels(), bytes = bytes_of(element_type(plan.desc.stats_type));
  if (!plan.desc.renorm && !r && !d) return BNORM_OK;
  call->renorm_r = const_cast<void*>(r);
  call->renorm_d = const_cast<void*>(d);
  if (!plan.desc.renorm) need = Arrays::kAbsent;
  BNORM_CHECK(arrays.values("renorm_r", r, count, bytes, need, writes));
  BNORM_CHECK(arrays.values("renorm_d", d, count, bytes, need, writes));
  if ((r == nullptr) != (d == nullptr) && count > 0)
    return call->report.say(BNORM_INVALID_ARGUMENT, "%s = NULL: renorm_r and renorm_d go together",
                            r ? "renorm_d" : "renorm_r");
  return BNORM_OK;
}

bnorm_status check_renorm_limits(const bnorm_train_args& args, Call* call) {
  call->renorm_r_max = args.renorm_r_max;
  call->renorm_d_max = args.renorm_d_max;
  if (!(args.renorm_r_max >= 1))
    return call->report.say(BNORM_INVALID_ARGUMENT, "renorm_r_max = %g: must be >= 1", args.renorm_r_max);
  if (!(args.renorm_d_max >= 0))
    return call->report.say(BNORM_INVALID_ARGUMENT, "renorm_d_max = %g: must be >= 0", args.renorm_d_max);
  return BNORM_OK;
}

/// Finds the first of `count` weights that is none. Within these limits no sum, square or inverse overflows.
template <class A>
bnorm_status check_weight_values(const void* values, int64_t from, int64_t count, Call* call) {
  const A* const weights = static_cast<const A*>(values) + from;
  const auto is_weight = [](A w) { return w == 0 || (w >= A{0x1p-64} && w <= A{0x1p64}); };
  int64_t wrong = 0;  // without a way out of the loop it is vectorized
  for (int64_t i = 0; i < count; ++i) wrong += !is_weight(weights[i]);
  for (int64_t i = 0; wrong > 0 && i < count; ++i)
    if (!is_weight(weights[i]))
      return call->report.say(BNORM_INVALID_ARGUMENT, "weights[%" PRId64 "] = %g: must be 0 or in [2^-64, 2^64]",
                              from + i, static_cast<double>(weights[i]));
  return BNORM_OK;
}

bnorm_status check_lengths(const int64_t* lengths, int64_t from, int64_t count, int64_t most, Call* call) {
  for (int64_t i = from; i < from + count; ++i)
    if (lengths[i] < 0 || lengths[i] > most)
      return call->report.say(BNORM_INVALID_ARGUMENT, "lengths[%" PRId64 "] = %" PRId64 ": must be in [0, %" PRId64 "]",
                              i, lengths[i], most);
  return BNORM_OK;
}

/// Either weights or lengths, of the call's batch; not yet their values.
bnorm_status check_weights(const Plan& plan, const void* weights, const int64_t* lengths, bool taken, Call* call,
                           Arrays& arrays) {
  const bnorm_desc& d = plan.desc;
  taken = taken && d.weighting;
  if (!taken && !weights && !lengths) return BNORM_OK;
  const int64_t groups = plan.weight_groups();
  const int64_t samples = groups == 0 || call->batch == 0 ? 0 : (groups - 1) * d.batch + call->batch;
  if (taken && weights && lengths)
    return call->report.say(BNORM_INVALID_ARGUMENT, "lengths = %p: must be NULL where weights are given",
                            static_cast<const void*>(lengths));
  const auto need = taken ? Arrays::kOptional : Arrays::kAbsent, of_weights = lengths ? need : required_if(taken);
  BNORM_CHECK(arrays.values("weights", weights, samples * d.spatial, plan.arithmetic_bytes(), of_weights, false));
  BNORM_CHECK(arrays.values("lengths", lengths, samples, sizeof(int64_t), need, false));
  call->weights = weights;
  call->lengths = lengths;
  return BNORM_OK;
}

/// The values of weights and lengths. Behind the check of overlaps, as all that is refused for a value: a rank then
/// tells the others.
bnorm_status check_counts(const Plan& plan, Call* call) {
  const bnorm_desc& d = plan.desc;
  if (!call->weights && !call->lengths) return BNORM_OK;  // however many groups
  const auto check_values = plan.arithmetic == 1 ? check_weight_values<double> : check_weight_values<float>;
  for (int64_t g = 0; g < plan.weight_groups(); ++g) {
    const int64_t sample = g * d.batch;
    if (call->weights) BNORM_CHECK(check_values(call->weights, sample * d.spatial, call->batch * d.spatial, call));
    if (call->lengths) BNORM_CHECK(check_lengths(call->lengths, sample, call->batch, d.spatial, call));
  }
  return BNORM_OK;
}

/// The mask of desc.from_mask.
bnorm_status check_mask(const Plan& plan, const void* mask, Arrays::Need need, bool writes, Call* call,
                        Arrays& arrays) {
  call->mask = const_cast<void*>(mask);
  return arrays.values("mask", mask, plan.mask_bytes(), 1, plan.desc.from_mask ? need : Arrays::kAbsent, writes);
}

/// A partials buffer; of one that is read the counts must make sense.
bnorm_status check_partials(const Plan& plan, const char* name, const double* partials, bool writes, Call* call,
                            Arrays& arrays) {
  const int64_t groups = plan.desc.groups, count = plan.partials_doubles();
  BNORM_CHECK(arrays.values(name, partials, count, sizeof(double), Arrays::kRequired, writes));
  const auto check_values = [&](int64_t from, const char* what) {
    for (int64_t i = from; !writes && i < from + groups; ++i)
      if (!std::isfinite(partials[i]) || partials[i] < 0)
        return call->report.say(BNORM_INVALID_ARGUMENT, "%s[%" PRId64 "] = %g: %s must be finite and >= 0", name, i,
                                partials[i], what);
    return bnorm_status{BNORM_OK};
  };
  BNORM_CHECK(check_values(0, "a count"));
  return plan.has_squares() ? check_values(count - groups, "a sum of squares") : BNORM_OK;
}

bnorm_status check_coefficients(const Plan& plan, const void* coefficients, bool writes, Arrays& arrays) {
  return arrays.values("coefficients", coefficients, plan.coefficients_doubles(), sizeof(double), Arrays::kRequired,
                       writes);
}

/// With from_output every scale must have an inverse.
bnorm_status check_inverses(const Plan& plan, const void* scale, Call* call) {
  const int64_t count = (plan.desc.params_per_group ? plan.desc.groups : 1) * plan.desc.channels;
  for (int64_t i = 0; plan.desc.from_output && scale && i < count; ++i) {
    double value;
    plan.table->load_params[plan.param](scale, plan.param_type, i, &value, 1);
    if (!std::isfinite(value) || !std::isfinite(1 / value))
      return call->report.say(BNORM_INVALID_ARGUMENT,
                              "scale[%" PRId64 "] = %g: must be finite and have a finite inverse (from_output = 1)", i,
                              value);
  }
  return BNORM_OK;
}

}  // namespace

bnorm_status check_infer(const bnorm_plan* handle, const bnorm_infer_args* args, Call* call) {
  BNORM_CHECK(begin(handle, args, call));
  const Plan& plan = handle->plan;
  BNORM_CHECK(check_batch(plan, args->batch, call));
  BNORM_CHECK(check_executor(args->executor, call));
  Arrays arrays(plan, *call);
  BNORM_CHECK(check_workspace(plan, args->workspace, args->workspace_bytes, call, arrays));
  BNORM_CHECK(arrays.tensor(kX, args->x, Arrays::kRequired, false));
  BNORM_CHECK(arrays.tensor(kResidual, args->residual, required_if(plan.desc.residual_added), false));
  BNORM_CHECK(arrays.tensor(kY, args->y, Arrays::kRequired, true));
  BNORM_CHECK(check_affine(plan, args->scale, args->shift, call, arrays));
  BNORM_CHECK(check_running(plan, args->running_mean, args->running_var, Arrays::kRequired, false, call, arrays));
  BNORM_CHECK(check_mask(plan, args->mask, Arrays::kOptional, true, call, arrays));
  return arrays.check_overlap();
}

bnorm_status check_train(const bnorm_plan* handle, const bnorm_train_args* args, TrainPart part, const double* moments,
                         Call* call) {
  const bool whole = part == TrainPart::kWhole, reads_x = part != TrainPart::kFinalize;
  BNORM_CHECK(begin(handle, args, call, [&] { return check_exchange(handle->plan, args->exchange, whole, call); }));
  const Plan& plan = handle->plan;
  const auto statistics = part == TrainPart::kMoments ? Arrays::kAbsent : Arrays::kOptional;
  if (reads_x) {
    BNORM_CHECK(check_batch(plan, args->batch, call));
    BNORM_CHECK(check_executor(args->executor, call));
  }
  Arrays arrays(plan, *call);
  BNORM_CHECK(check_messages(plan, *call, arrays));
  if (reads_x) BNORM_CHECK(check_workspace(plan, args->workspace, args->workspace_bytes, call, arrays));
  call->average_factor = args->average_factor == BNORM_PLAN_FACTOR ? plan.desc.average_factor : args->average_factor;
  BNORM_CHECK(check_factor(call->average_factor, call->report));
  BNORM_CHECK(arrays.tensor(kX, args->x, required_if(reads_x), false));
  BNORM_CHECK(arrays.tensor(kResidual, args->residual, required_if(whole && plan.desc.residual_added), false));
  BNORM_CHECK(arrays.tensor(kY, args->y, required_if(whole), true));
  if (whole) {
    BNORM_CHECK(check_affine(plan, args->scale, args->shift, call, arrays));
  } else {
    BNORM_CHECK(arrays.values("scale", args->scale, 1, 1, Arrays::kAbsent, false));
    BNORM_CHECK(arrays.values("shift", args->shift, 1, 1, Arrays::kAbsent, false));
  }
  BNORM_CHECK(check_saved(plan, args->mean, args->inv_std, statistics, true, call, arrays));
  BNORM_CHECK(check_renorm(plan, args->renorm_r, args->renorm_d, statistics, true, call, arrays));
  if (plan.desc.renorm) BNORM_CHECK(check_renorm_limits(*args, call));
  const auto running = plan.desc.renorm && part != TrainPart::kMoments ? Arrays::kRequired : statistics;
  BNORM_CHECK(check_running(plan, args->running_mean, args->running_var, running, true, call, arrays));
  BNORM_CHECK(check_weights(plan, args->weights, args->lengths, reads_x, call, arrays));
  BNORM_CHECK(check_mask(plan, args->mask, whole ? Arrays::kOptional : Arrays::kAbsent, true, call, arrays));
  if (!whole) BNORM_CHECK(check_partials(plan, "moments", moments, part == TrainPart::kMoments, call, arrays));
  BNORM_CHECK(arrays.check_overlap());
  BNORM_CHECK(check_counts(plan, call));
  return check_inverses(plan, args->scale, call);
}

bnorm_status check_backward(const bnorm_plan* handle, const bnorm_backward_args* args, BackwardPart part,
                            const double* sums, Call* call) {
  const bool whole = part == BackwardPart::kWhole;
  BNORM_CHECK(begin(handle, args, call, [&] { return check_exchange(handle->plan, args->exchange, whole, call); }));
  const Plan& plan = handle->plan;
  const bnorm_desc& d = plan.desc;
  BNORM_CHECK(check_batch(plan, args->batch, call));
  BNORM_CHECK(check_executor(args->executor, call));
  Arrays arrays(plan, *call);
  BNORM_CHECK(check_messages(plan, *call, arrays));
  BNORM_CHECK(check_workspace(plan, args->workspace, args->workspace_bytes, call, arrays));
  const bool sums_only = part == BackwardPart::kSums;
  const Derivative derivative = plan.backward_form.derivative;
  const bool x_tells = derivative == kOfX || derivative == kOfXPlus;
  // Other ranks may want dscale.
  const bool needs_x = x_tells || args->dscale || (args->dx && !d.frozen) || sums_only || args->exchange;
  const bool reads_x = needs_x && !d.from_output, reads_y = derivative == kOfY || (needs_x && d.from_output);
  const auto output = sums_only ? Arrays::kAbsent : Arrays::kOptional;
  // What is not read counts as not given. Kernels take dy for x then: no traffic, and sums nobody asked for.
  const auto input = [&](Tensor t, const void* given, bool reads) {
    return arrays.tensor(t, reads ? given : nullptr, reads ? Arrays::kRequired : Arrays::kOptional, false);
  };
  BNORM_CHECK(input(kX, args->x, reads_x));
  BNORM_CHECK(input(kY, args->y, reads_y));
  BNORM_CHECK(input(kResidual, args->residual, derivative == kOfXPlus));
  BNORM_CHECK(arrays.tensor(kDy, args->dy, Arrays::kRequired, false));
  BNORM_CHECK(arrays.tensor(kDx, args->dx, output, true));
  BNORM_CHECK(arrays.tensor(kDresidual, args->dresidual, d.residual_added ? output : Arrays::kAbsent, true));
  BNORM_CHECK(check_affine(plan, args->scale, args->shift, call, arrays));
  BNORM_CHECK(check_saved(plan, args->mean, args->inv_std, required_if(!d.frozen), false, call, arrays));
  BNORM_CHECK(check_renorm(plan, args->renorm_r, args->renorm_d, Arrays::kRequired, false, call, arrays));
  BNORM_CHECK(check_running(plan, args->running_mean, args->running_var, required_if(d.frozen), false, call, arrays));
  const int64_t count = (d.params_per_group ? d.groups : 1) * d.channels, bytes = plan.param_bytes();
  call->dscale = args->dscale;
  call->dshift = args->dshift;
  BNORM_CHECK(arrays.values("dscale", args->dscale, count, bytes, output, true));
  BNORM_CHECK(arrays.values("dshift", args->dshift, count, bytes, output, true));
  BNORM_CHECK(check_weights(plan, args->weights, args->lengths, true, call, arrays));
  BNORM_CHECK(check_mask(plan, args->mask, Arrays::kRequired, false, call, arrays));
  if (!whole) BNORM_CHECK(check_partials(plan, "sums", sums, sums_only, call, arrays));
  BNORM_CHECK(arrays.check_overlap());
  BNORM_CHECK(check_counts(plan, call));
  return check_inverses(plan, args->scale, call);
}

bnorm_status check_prepare(const bnorm_plan* handle, const bnorm_prepare_args* args, const void* coefficients,
                           Call* call) {
  BNORM_CHECK(begin(handle, args, call));
  const Plan& plan = handle->plan;
  Arrays arrays(plan, *call);
  BNORM_CHECK(check_statistics(plan, *args, call, arrays));
  BNORM_CHECK(
      check_renorm(plan, args->renorm_r, args->renorm_d, required_if(args->mean != nullptr), false, call, arrays));
  BNORM_CHECK(check_coefficients(plan, coefficients, true, arrays));
  return arrays.check_overlap();
}

bnorm_status check_normalize(const bnorm_plan* handle, const bnorm_normalize_args* args, Call* call,
                             const void** coefficients) {
  BNORM_CHECK(begin(handle, args, call));
  const Plan& plan = handle->plan;
  BNORM_CHECK(check_batch(plan, args->batch, call));
  BNORM_CHECK(check_executor(args->executor, call));
  Arrays arrays(plan, *call);
  BNORM_CHECK(arrays.tensor(kX, args->x, Arrays::kRequired, false));
  BNORM_CHECK(arrays.tensor(kResidual, args->residual, required_if(plan.desc.residual_added), false));
  BNORM_CHECK(arrays.tensor(kY, args->y, Arrays::kRequired, true));
  BNORM_CHECK(check_mask(plan, args->mask, Arrays::kOptional, true, call, arrays));
  *coefficients = args->coefficients;
  BNORM_CHECK(check_coefficients(plan, args->coefficients, false, arrays));
  return arrays.check_overlap();
}

bnorm_status check_merge(const bnorm_plan* handle, int64_t n, const double* const* parts, const double* merged,
                         bnorm_error* error, Report& report) {
  BNORM_CHECK(check_error(error, report));
  BNORM_CHECK(check_plan(handle, report));
  BNORM_CHECK(check_range("n", n, 1, INT64_MAX, report));
  if (!parts) return report.say(BNORM_INVALID_ARGUMENT, "parts = NULL: must be given");
  const Plan& plan = handle->plan;
  const int64_t count = plan.partials_doubles();
  for (int64_t i = 0; i < n; ++i) {
    Call call;
    call.report = report;
    Arrays arrays(plan, call);
    char name[32];
    std::snprintf(name, sizeof name, "parts[%" PRId64 "]", i);
    BNORM_CHECK(check_partials(plan, name, parts[i], false, &call, arrays));
    BNORM_CHECK(arrays.values("merged", merged, count, sizeof(double), Arrays::kRequired, true));
    if (i > 0 || parts[i] != merged) BNORM_CHECK(arrays.check_overlap());
  }
  return BNORM_OK;
}

}  // namespace bnorm
