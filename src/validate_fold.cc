// SPDX-License-Identifier: Apache-2.0
// The rules of layers that normalization is folded into.
#include <algorithm>

#include "arrays.hh"

namespace bnorm {
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
  if (!first && (d.activation != BNORM_IDENTITY || d.residual_added))
    return report.say(BNORM_INVALID_ARGUMENT,
                      "order = 1: activation = %" PRId32 ", residual_added = %" PRId32
                      " must be 0, they stand between normalization and layer",
                      d.activation, d.residual_added);
  if (d.renorm && a.mean)
    return report.say(BNORM_INVALID_ARGUMENT, "mean = %p: must be NULL with renorm = 1, fold running statistics",
                      a.mean);
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
  if (strides.n == 0 && strides.c == 0 && strides.s == 0) {
    const int64_t taps = std::max<int64_t>(a.taps, 1);
    strides = {0, std::max<int64_t>(a.inputs, 1) * taps, taps, 1};
  }
  // Those of axes of one element say nothing, and may be any number.
  if (a.outputs <= 1) strides.n = 0;
  if (a.inputs <= 1) strides.c = 0;
  if (a.taps <= 1) strides.s = 0;
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
  const bool empty = a.outputs == 0 || a.inputs == 0 || a.taps == 0;
  if (!extent.addressable || !(extent.injective || empty))
    return call->report.say(BNORM_INVALID_ARGUMENT, "weight strides = (%" PRId64 ", %" PRId64 ", %" PRId64 "): %s",
                            strides.n, strides.c, strides.s,
                            extent.addressable
                                ? "folded_weight may not overlap itself; each stride must cover those below it"
                                : "must span less than 2^58 elements");
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

}  // namespace bnorm
