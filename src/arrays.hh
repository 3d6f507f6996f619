// SPDX-License-Identifier: Apache-2.0
// The arrays of a call, and the rules that several calls have for theirs.
#pragma once
#include <algorithm>
#include <cinttypes>

#include "overlap.hh"
#include "rules.hh"
#include "validate.hh"

namespace bnorm {

inline constexpr const char* kMessages = "exchange.buffer";

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
    Region region[15];  // no call takes more at once: of backward's inputs its descriptor rules some out
    Region* end = region;
  };

  const Plan& plan_;
  Call& call_;
  std::array<int64_t, 4> sizes_;
  bool empty_;  // no tensor has an element
  List outputs_, inputs_;
};

inline bnorm_status check_plan(const bnorm_plan* plan, Report& report) {
  return plan ? BNORM_OK : report.say(BNORM_INVALID_ARGUMENT, "plan = NULL: must be given");
}

/// What all argument structs share; check_exchange() comes before the first refusal that other ranks are told of.
template <class Args, class CheckExchange>
bnorm_status begin(const bnorm_plan* plan, const Args* args, Call* call, const CheckExchange& check_exchange) {
  BNORM_CHECK(check_size(args, "args", call->report));
  const bnorm_status error = check_error(args->error, call->report);
  BNORM_CHECK(check_plan(plan, call->report));
  BNORM_CHECK(check_exchange());
  BNORM_CHECK(error);
  BNORM_CHECK(check_tail(args, "args", call->report));
  if constexpr (requires { args->reserved; })
    return check_range("args.reserved", args->reserved, 0, 0, call->report);
  else
    return BNORM_OK;
}

template <class Args>
bnorm_status begin(const bnorm_plan* plan, const Args* args, Call* call) {
  return begin(plan, args, call, [] { return bnorm_status{BNORM_OK}; });
}

inline bnorm_status check_affine(const Plan& plan, const void* scale, const void* shift, Call* call, Arrays& arrays) {
  const int64_t count = (plan.desc.params_per_group ? plan.desc.groups : 1) * plan.desc.channels;
  const int64_t bytes = plan.param_bytes();
  call->affine = {scale, shift, plan.param_type};
  BNORM_CHECK(arrays.values("scale", scale, count, bytes, Arrays::kOptional, false));
  return arrays.values("shift", shift, count, bytes, Arrays::kOptional, false);
}

inline bnorm_status check_running(const Plan& plan, const void* mean, const void* var, Arrays::Need need, bool writes,
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

inline bnorm_status check_saved(const Plan& plan, const void* mean, const void* inv_std, Arrays::Need need, bool writes,
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

inline Arrays::Need required_if(bool condition) { return condition ? Arrays::kRequired : Arrays::kAbsent; }

/// Not inlined: prepare would take 4 % more instructions.
template <class Args>
__attribute__((noinline)) bnorm_status refuse_pairs(const Args& args, Call* call) {
  const bool by_mean = args.mean || !args.inv_std, by_running_mean = args.running_mean || !args.running_var;
  return call->report.say(BNORM_INVALID_ARGUMENT,
                          "%s = %p, %s = %p: exactly one pair, mean and inv_std or running_mean and running_var, must "
                          "be given",
                          by_mean ? "mean" : "inv_std", by_mean ? args.mean : args.inv_std,
                          by_running_mean ? "running_mean" : "running_var",
                          by_running_mean ? args.running_mean : args.running_var);
}

/// Parameters, and saved or running statistics, of what is prepared or folded.
template <class Args>
bnorm_status check_statistics(const Plan& plan, const Args& args, Call* call, Arrays& arrays) {
  const bool saved = args.mean || args.inv_std, running = args.running_mean || args.running_var;
  const bool empty = plan.desc.groups == 0 || plan.desc.channels == 0;
  if (saved == running && !(empty && !saved)) return refuse_pairs(args, call);
  BNORM_CHECK(check_affine(plan, args.scale, args.shift, call, arrays));
  BNORM_CHECK(check_saved(plan, args.mean, args.inv_std, required_if(saved), false, call, arrays));
  return check_running(plan, args.running_mean, args.running_var, required_if(running), false, call, arrays);
}

}  // namespace bnorm
