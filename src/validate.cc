// SPDX-License-Identifier: Apache-2.0
// The rules of calls.
#include "validate.hh"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "overlap.hh"
#include "rules.hh"

namespace bnorm {
namespace {

constexpr const char* kMessages = "exchange.buffer";

/// Collects the arrays of a call, refusing what is missing, misaligned or overlapping.
class Arrays {
 public:
  /// The call's batch must be known.
  Arrays(const Plan& plan, Call& call)
      : Arrays(plan, call, {plan.desc.groups, call.batch, plan.desc.channels, plan.desc.spatial}) {}
  /// `sizes`: those of the call's strided arrays.
  Arrays(const Plan& plan, Call& call, const std::array<int64_t, 4>& sizes)
      : plan_(plan), call_(call), sizes_(sizes), empty_(std::find(sizes_.begin(), sizes_.end(), 0) != sizes_.end()) {}

  enum Need { kOptional, kRequired, kAbsent };

  bnorm_status tensor(Tensor t, const void* pointer, Need need, bool writes) {
    call_.tensor[t] = const_cast<void*>(pointer);
    BNORM_CHECK(presence(kTensorNames[t], pointer, need, empty_));
    if (!pointer || empty_) return BNORM_OK;
    const bnorm_strides& strides = strides_of(plan_.desc, t);
    const Extent e = call_.batch == plan_.desc.batch ? plan_.extent[t] : extent_of(strides, sizes_);
    return add(kTensorNames[t], pointer, plan_.element_bytes(t), e, &strides, writes);
  }

  /// An array of `count` values for each channel, or for each output of a layer.
  bnorm_status values(const char* name, const void* pointer, int64_t count, int64_t bytes, Need need, bool writes) {
    BNORM_CHECK(presence(name, pointer, need, count == 0));
    if (!pointer || count == 0) return BNORM_OK;
    return add(name, pointer, bytes, {0, count - 1, true, true, true}, nullptr, writes);
  }

  /// One of other strides than the plan's tensors, which an output may be as well.
  /// `strides` must live as long.
  bnorm_status strided(const char* name, const void* pointer, int64_t bytes, const bnorm_strides& strides,
                       const std::array<int64_t, 4>& sizes, Need need, bool writes) {
    const bool empty = std::find(sizes.begin(), sizes.end(), 0) != sizes.end();
    BNORM_CHECK(presence(name, pointer, need, empty));
    if (!pointer || empty) return BNORM_OK;
    return add(name, pointer, bytes, extent_of(strides, sizes), &strides, writes);
  }

  /// Each output against all inputs and the other outputs, in the order in which they came.
  bnorm_status check_overlap() const {
    for (const Region* a = outputs_.region; a != outputs_.end; ++a) {
      for (const Region* b = inputs_.region; b != inputs_.end; ++b)
        if (overlaps(*a, *b) && !same_tensor(*a, *b, sizes_)) return refuse_overlap(*a, *b);
      for (const Region* b = a + 1; b != outputs_.end; ++b)
        if (overlaps(*a, *b)) return refuse_overlap(*a, *b);
    }
    return BNORM_OK;
  }

 private:
  bnorm_status presence(const char* name, const void* pointer, Need need, bool empty) {
    if (need == kAbsent && pointer)
      return call_.report.say(BNORM_INVALID_ARGUMENT, "%s = %p: must be NULL in this call with this plan", name,
                              pointer);
    if (need == kRequired && !pointer && !empty)
      return call_.report.say(BNORM_INVALID_ARGUMENT, "%s = NULL: must be given", name);
    return BNORM_OK;
  }
  /// `bytes` of an element is a power of two.
  bnorm_status add(const char* name, const void* data, int64_t bytes, const Extent& e, const bnorm_strides* strides,
                   bool writes) {
    if ((reinterpret_cast<uintptr_t>(data) & static_cast<uintptr_t>(bytes - 1)) != 0)
      return call_.report.say(BNORM_INVALID_ARGUMENT, "%s = %p: must be aligned to its element of %" PRId64 " bytes",
                              name, data, bytes);
    *(writes ? outputs_ : inputs_).end++ = make_region(name, data, bytes, e, strides);
    return BNORM_OK;
  }
  bnorm_status refuse_overlap(const Region& a, const Region& b) const {
    // A rank withdraws by a message in that buffer, which is not its own then.
    if (a.name == kMessages) call_.exchange = nullptr;
    return call_.report.say(BNORM_INVALID_ARGUMENT,
                            "%s = %p overlaps %s = %p: an output may only be the very same tensor as an input", a.name,
                            a.data, b.name, b.data);
  }

  struct List {
    Region region[13];  // backward has thirteen inputs, no call more outputs
    Region* end = region;
  };

  const Plan& plan_;
  Call& call_;
  std::array<int64_t, 4> sizes_;
  bool empty_;  // no tensor has an element
  List outputs_, inputs_;
};

bnorm_status check_plan(const bnorm_plan* plan, Report& report) {
  return plan ? BNORM_OK : report.say(BNORM_INVALID_ARGUMENT, "plan = NULL: must be given");
}

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

/// What all argument structs share.
template <class Args>
bnorm_status begin(const bnorm_plan* plan, const Args* args, Call* call) {
  BNORM_CHECK(check_size(args, "args", call->report));
  BNORM_CHECK(check_error(args->error, call->report));
  BNORM_CHECK(check_tail(args, "args", call->report));
  BNORM_CHECK(check_plan(plan, call->report));
  if constexpr (requires { args->reserved; })
    return check_range("args.reserved", args->reserved, 0, 0, call->report);
  else
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

/// The buffer of an exchange is written, so nothing else may lie there. Comes before every other array: whatever else
/// is wrong with a call, this must be known.
bnorm_status check_messages(const Plan& plan, const Call& call, Arrays& arrays) {
  if (!call.exchange) return BNORM_OK;
  return arrays.values(kMessages, call.exchange->buffer, plan.exchange_doubles(call.exchange->ranks), sizeof(double),
                       Arrays::kRequired, true);
}

bnorm_status check_affine(const Plan& plan, const void* scale, const void* shift, Call* call, Arrays& arrays) {
  const int64_t count = (plan.desc.params_per_group ? plan.desc.groups : 1) * plan.desc.channels;
  const int64_t bytes = plan.param_bytes();
  call->affine = {scale, shift, plan.param_type};
  BNORM_CHECK(arrays.values("scale", scale, count, bytes, Arrays::kOptional, false));
  return arrays.values("shift", shift, count, bytes, Arrays::kOptional, false);
}

bnorm_status check_running(const Plan& plan, const void* mean, const void* var, Arrays::Need need, bool writes,
                           Call* call, Arrays& arrays) {
  const bnorm_desc& d = plan.desc;
  const int64_t count = (d.running_mode == BNORM_RUNNING_PER_GROUP ? d.groups : 1) * d.channels;
  const int64_t bytes = plan.param_bytes();
  call->running_mean = const_cast<void*>(mean);
  call->running_var = const_cast<void*>(var);
  if ((mean || var) && need != Arrays::kAbsent && d.groups > 1 && d.running_mode == BNORM_RUNNING_UNSET)
    return call->report.say(BNORM_INVALID_ARGUMENT,
                            "running_mode = 0: running statistics of %" PRId64 " groups need a mode", d.groups);
  BNORM_CHECK(arrays.values("running_mean", mean, count, bytes, need, writes));
  return arrays.values("running_var", var, count, bytes, need, writes);
}

bnorm_status check_saved(const Plan& plan, const void* mean, const void* inv_std, Arrays::Need need, bool writes,
                         Call* call, Arrays& arrays) {
  const int64_t count = plan.desc.groups * plan.desc.channels, bytes = bytes_of(element_type(plan.desc.stats_type));
  call->mean = const_cast<void*>(mean);
  call->inv_std = const_cast<void*>(inv_std);
  BNORM_CHECK(arrays.values("mean", mean, count, bytes, need, writes));
  BNORM_CHECK(arrays.values("inv_std", inv_std, count, bytes, need, writes));
  if ((mean == nullptr) != (inv_std == nullptr) && count > 0)
    return call->report.say(BNORM_INVALID_ARGUMENT, "%s = NULL: mean and inv_std go together",
                            mean ? "inv_std" : "mean");
  return BNORM_OK;
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

/// A partials buffer; of one that is read the counts must make sense.
bnorm_status check_partials(const Plan& plan, const char* name, const double* partials, bool writes, Call* call,
                            Arrays& arrays) {
  const int64_t groups = plan.desc.groups, count = plan.partials_doubles();
  BNORM_CHECK(arrays.values(name, partials, count, sizeof(double), Arrays::kRequired, writes));
  for (int64_t g = 0; !writes && g < groups; ++g)
    if (!std::isfinite(partials[g]) || partials[g] < 0)
      return call->report.say(BNORM_INVALID_ARGUMENT, "%s[%" PRId64 "] = %g: a count must be finite and >= 0", name, g,
                              partials[g]);
  return BNORM_OK;
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

Arrays::Need required_if(bool condition) { return condition ? Arrays::kRequired : Arrays::kAbsent; }

/// Parameters, and saved or running statistics, of what is prepared or folded.
template <class Args>
bnorm_status check_statistics(const Plan& plan, const Args& args, Call* call, Arrays& arrays) {
  const bool saved = args.mean || args.inv_std, running = args.running_mean || args.running_var;
  const bool empty = plan.desc.groups == 0 || plan.desc.channels == 0;
  if (saved == running && !(empty && !saved))
    return call->report.say(BNORM_INVALID_ARGUMENT,
                            "mean = %p, running_mean = %p: exactly one pair, mean and inv_std or running_mean and "
                            "running_var, must be given",
                            args.mean, args.running_mean);
  BNORM_CHECK(check_affine(plan, args.scale, args.shift, call, arrays));
  BNORM_CHECK(check_saved(plan, args.mean, args.inv_std, required_if(saved), false, call, arrays));
  return check_running(plan, args.running_mean, args.running_var, required_if(running), false, call, arrays);
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
  return arrays.check_overlap();
}

bnorm_status check_train(const bnorm_plan* handle, const bnorm_train_args* args, TrainPart part, const double* moments,
                         Call* call) {
  BNORM_CHECK(begin(handle, args, call));
  const Plan& plan = handle->plan;
  const bool whole = part == TrainPart::kWhole, reads_x = part != TrainPart::kFinalize;
  const auto statistics = part == TrainPart::kMoments ? Arrays::kAbsent : Arrays::kOptional;
  BNORM_CHECK(check_exchange(plan, args->exchange, whole, call));
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
  if (!whole) BNORM_CHECK(check_partials(plan, "moments", moments, part == TrainPart::kMoments, call, arrays));
  BNORM_CHECK(arrays.check_overlap());
  return check_inverses(plan, args->scale, call);
}

bnorm_status check_backward(const bnorm_plan* handle, const bnorm_backward_args* args, BackwardPart part,
                            const double* sums, Call* call) {
  BNORM_CHECK(begin(handle, args, call));
  const Plan& plan = handle->plan;
  const bnorm_desc& d = plan.desc;
  BNORM_CHECK(check_exchange(plan, args->exchange, part == BackwardPart::kWhole, call));
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
  BNORM_CHECK(arrays.tensor(kX, args->x, reads_x ? Arrays::kRequired : Arrays::kOptional, false));
  if (!reads_x) call->tensor[kX] = nullptr;  // kernels then take dy in its place: no traffic, and sums nobody asked for
  const auto required_for = [&](Derivative from) { return derivative == from ? Arrays::kRequired : Arrays::kOptional; };
  BNORM_CHECK(arrays.tensor(kY, args->y, reads_y ? Arrays::kRequired : Arrays::kOptional, false));
  if (!reads_y) call->tensor[kY] = nullptr;
  BNORM_CHECK(arrays.tensor(kResidual, args->residual, required_for(kOfXPlus), false));
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
  if (part != BackwardPart::kWhole) BNORM_CHECK(check_partials(plan, "sums", sums, sums_only, call, arrays));
  BNORM_CHECK(arrays.check_overlap());
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
  *coefficients = args->coefficients;
  BNORM_CHECK(check_coefficients(plan, args->coefficients, false, arrays));
  return arrays.check_overlap();
}

namespace {

/// The sizes of a layer, which must fit the plan's channels.
bnorm_status check_layer(const Plan& plan, const bnorm_fold_args& a, Report& report) {
  const bnorm_desc& d = plan.desc;
  if (d.groups != 1 && d.channel_block == 0)
    return report.say(BNORM_UNSUPPORTED, "groups = %" PRId64 ": a layer can be folded with 1", d.groups);
  BNORM_CHECK(check_range("order", a.order, BNORM_LAYER_FIRST, BNORM_LAYER_LAST, report));
  BNORM_CHECK(check_range("weight_type", a.weight_type, BNORM_TYPE_DEFAULT, BNORM_F16, report));
  BNORM_CHECK(check_range("bias_type", a.bias_type, BNORM_TYPE_DEFAULT, BNORM_F16, report));
  BNORM_CHECK(check_range("outputs", a.outputs, 0, kMostElements, report));
  BNORM_CHECK(check_range("inputs", a.inputs, 0, kMostElements, report));
  BNORM_CHECK(check_range("taps", a.taps, 0, kMostElements, report));
  BNORM_CHECK(check_range("layer_groups", a.layer_groups, 1, kMostElements, report));
  int64_t product = std::max<int64_t>(a.outputs, 1);
  for (const int64_t size : {a.inputs, a.taps})
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product) || product > kMostElements)
      return report.say(BNORM_INVALID_ARGUMENT,
                        "outputs * inputs * taps = %" PRId64 " * %" PRId64 " * %" PRId64 ": must be at most 2^52",
                        a.outputs, a.inputs, a.taps);
  if (a.outputs % a.layer_groups != 0)
    return report.say(BNORM_INVALID_ARGUMENT, "layer_groups = %" PRId64 ": must divide outputs = %" PRId64,
                      a.layer_groups, a.outputs);
  const bool first = a.order == BNORM_LAYER_FIRST;
  int64_t channels = a.outputs;
  if (!first && __builtin_mul_overflow(a.inputs, a.layer_groups, &channels)) channels = INT64_MAX;
  if (channels != plan.all_channels())
    return report.say(BNORM_INVALID_ARGUMENT, "%s = %" PRId64 ": must be the plan's channels, %" PRId64,
                      first ? "outputs" : "inputs * layer_groups", channels, plan.all_channels());
  if (a.most_digits_lost >= 0) return BNORM_OK;
  return report.say(BNORM_INVALID_ARGUMENT, "most_digits_lost = %g: must be >= 0", a.most_digits_lost);
}

}  // namespace

bnorm_status check_fold(const bnorm_plan* handle, const bnorm_fold_args* args, Call* call, Layer* layer) {
  BNORM_CHECK(begin(handle, args, call));
  const Plan& plan = handle->plan;
  const bnorm_fold_args& a = *args;
  BNORM_CHECK(check_layer(plan, a, call->report));
  bnorm_strides strides = {0, a.output_stride, a.input_stride, a.tap_stride};
  if (strides.n == 0 && strides.c == 0 && strides.s == 0) strides = {0, a.inputs * a.taps, a.taps, 1};
  *layer = {a.order,
            element_type(a.weight_type),
            element_type(a.bias_type),
            a.outputs,
            a.inputs,
            a.taps,
            a.layer_groups,
            strides,
            a.weight,
            a.bias,
            a.folded_weight,
            a.folded_bias,
            a.most_digits_lost,
            a.digits_lost};
  const std::array<int64_t, 4> sizes = {1, a.outputs, a.inputs, a.taps};
  const Extent extent = extent_of(strides, sizes);
  if (!extent.addressable || !extent.injective)
    return call->report.say(BNORM_INVALID_ARGUMENT,
                            "weight strides = (%" PRId64 ", %" PRId64 ", %" PRId64
                            "): folded_weight may not overlap itself; each stride must cover those below it",
                            strides.n, strides.c, strides.s);
  Arrays arrays(plan, *call, sizes);
  const int64_t weight_bytes = bytes_of(layer->weight_type), bias_bytes = bytes_of(layer->bias_type);
  const auto weight = [&](const char* name, const void* pointer, bool writes) {
    return arrays.strided(name, pointer, weight_bytes, strides, sizes, Arrays::kRequired, writes);
  };
  constexpr bnorm_strides one_each = {0, 1, 0, 0};
  const auto bias = [&](const char* name, const void* pointer, Arrays::Need need, bool writes) {
    return arrays.strided(name, pointer, bias_bytes, one_each, {1, a.outputs, 1, 1}, need, writes);
  };
  BNORM_CHECK(weight("weight", a.weight, false));
  BNORM_CHECK(bias("bias", a.bias, Arrays::kOptional, false));
  BNORM_CHECK(weight("folded_weight", a.folded_weight, true));
  BNORM_CHECK(bias("folded_bias", a.folded_bias, Arrays::kRequired, true));
  BNORM_CHECK(arrays.values("digits_lost", a.digits_lost, 1, sizeof(double), Arrays::kOptional, true));
  BNORM_CHECK(check_statistics(plan, a, call, arrays));
  return arrays.check_overlap();
}

bnorm_status check_merge(const bnorm_plan* handle, int64_t n, const double* const* parts, const double* merged,
                         bnorm_error* error, Report& report) {
  BNORM_CHECK(check_error(error, report));
  BNORM_CHECK(check_plan(handle, report));
  BNORM_CHECK(check_range("n", n, 1, INT64_MAX, report));
  if (!parts) return report.say(BNORM_INVALID_ARGUMENT, "parts = NULL: must be given");
  const Plan& plan = handle->plan;
  const int64_t count = plan.desc.groups + 2 * plan.desc.groups * plan.desc.channels;
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
