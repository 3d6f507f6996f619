// SPDX-License-Identifier: Apache-2.0
// The rules of descriptors.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "overlap.hh"
#include "rules.hh"
#include "validate.hh"

namespace bnorm {
namespace {

bnorm_status check_epsilon(double epsilon, Report& report) {
  if (std::isfinite(epsilon) && epsilon >= 0) return BNORM_OK;
  return report.say(BNORM_INVALID_ARGUMENT, "epsilon = %g: must be finite and >= 0", epsilon);
}

bnorm_status check_types(bnorm_desc* d, Report& report) {
  if (d->data_type == BNORM_TYPE_DEFAULT) d->data_type = BNORM_F32;
  if (d->output_type == BNORM_TYPE_DEFAULT) d->output_type = d->data_type;
  if (d->param_type == BNORM_TYPE_DEFAULT) d->param_type = d->data_type == BNORM_F64 ? BNORM_F64 : BNORM_F32;
  if (d->stats_type == BNORM_TYPE_DEFAULT) d->stats_type = BNORM_F64;
  BNORM_CHECK(check_range("data_type", d->data_type, BNORM_F32, BNORM_F16, report));
  BNORM_CHECK(check_range("output_type", d->output_type, BNORM_F32, BNORM_F16, report));
  BNORM_CHECK(check_range("param_type", d->param_type, BNORM_F32, BNORM_F16, report));
  if ((d->data_type == BNORM_F64) != (d->output_type == BNORM_F64))
    return report.say(BNORM_UNSUPPORTED,
                      "output_type = %" PRId32 ": with data_type = %" PRId32 " not supported, F64 goes with F64 alone",
                      d->output_type, d->data_type);
  return check_range("stats_type", d->stats_type, BNORM_F32, BNORM_F64, report);
}

/// As the arithmetic type holds it.
double held(const bnorm_desc& d, double v) {
  return d.data_type == BNORM_F64 ? v : static_cast<double>(static_cast<float>(v));
}

/// Only those of the activation that is asked for.
bnorm_status check_activation(const bnorm_desc& d, Report& report) {
  BNORM_CHECK(check_range("activation", d.activation, BNORM_IDENTITY, BNORM_GELU_TANH, report));
  const auto refuse = [&](const char* field, double value, const char* rule) {
    return report.say(BNORM_INVALID_ARGUMENT, "%s = %g: must be %s", field, value, rule);
  };
  if (d.activation == BNORM_CLIP) {
    if (!std::isfinite(d.clip_lower)) return refuse("clip_lower", d.clip_lower, "finite");
    if (!std::isfinite(d.clip_upper) || d.clip_upper <= d.clip_lower)
      return refuse("clip_upper", d.clip_upper, "finite and above clip_lower");
  }
  if (const double slope = held(d, d.leaky_slope);
      d.activation == BNORM_LEAKY_RELU && !(std::isfinite(slope) && slope > 0))
    return refuse("leaky_slope", d.leaky_slope, "finite and > 0, in f32 too unless data is F64");
  if (d.activation == BNORM_ELU && !(std::isfinite(held(d, d.elu_alpha)) && d.elu_alpha >= 0))
    return refuse("elu_alpha", d.elu_alpha, "finite and >= 0, in f32 too unless data is F64");
  return BNORM_OK;
}

bnorm_status check_choices(const bnorm_desc& d, Report& report) {
  BNORM_CHECK(check_activation(d, report));
  BNORM_CHECK(check_range("residual_added", d.residual_added, 0, 1, report));
  BNORM_CHECK(check_range("running_mode", d.running_mode, BNORM_RUNNING_UNSET, BNORM_RUNNING_MEAN, report));
  BNORM_CHECK(check_range("biased_running_var", d.biased_running_var, 0, 1, report));
  BNORM_CHECK(check_range("params_per_group", d.params_per_group, 0, 1, report));
  BNORM_CHECK(check_range("frozen", d.frozen, 0, 1, report));
  BNORM_CHECK(check_range("guard", d.guard, 0, 1, report));
  BNORM_CHECK(check_range("renorm", d.renorm, 0, 1, report));
  BNORM_CHECK(check_range("from_output", d.from_output, 0, 1, report));
  BNORM_CHECK(check_range("from_mask", d.from_mask, 0, 1, report));
  BNORM_CHECK(check_range("from_residual", d.from_residual, 0, 1, report));
  BNORM_CHECK(check_range("weighting", d.weighting, BNORM_UNWEIGHTED, BNORM_RELIABILITY_WEIGHTS, report));
  if (d.from_output && d.residual_added)
    return report.say(BNORM_INVALID_ARGUMENT, "from_output = 1: must be 0 with residual_added = 1, which y holds too");
  if (d.from_output && d.activation != BNORM_IDENTITY && d.activation != BNORM_LEAKY_RELU && d.activation != BNORM_ELU)
    return report.say(BNORM_UNSUPPORTED,
                      "activation = %" PRId32
                      ": with from_output = 1 must be BNORM_IDENTITY, BNORM_LEAKY_RELU or BNORM_ELU",
                      d.activation);
  if (d.from_mask && d.from_output)
    return report.say(BNORM_INVALID_ARGUMENT, "from_mask = 1: must be 0 with from_output = 1, which finds all in y");
  if (d.from_mask && (d.activation < BNORM_RELU || d.activation > BNORM_LEAKY_RELU))
    return report.say(BNORM_UNSUPPORTED,
                      "activation = %" PRId32 ": with from_mask = 1 must be BNORM_RELU, BNORM_CLIP or BNORM_LEAKY_RELU",
                      d.activation);
  if (d.from_residual && !d.residual_added)
    return report.say(BNORM_INVALID_ARGUMENT, "from_residual = 1: must be 0 with residual_added = 0");
  if (d.from_residual && d.from_mask)
    return report.say(BNORM_INVALID_ARGUMENT,
                      "from_residual = 1: must be 0 with from_mask = 1, which needs no residual");
  const bool is_elu = d.activation == BNORM_ELU, is_leaky = d.activation == BNORM_LEAKY_RELU;
  if (d.from_output && is_elu && !(held(d, d.elu_alpha) > 0))
    return report.say(BNORM_INVALID_ARGUMENT,
                      "elu_alpha = %g: must be > 0, in f32 too unless data is F64 (from_output)", d.elu_alpha);
  if (d.from_output && is_leaky && !std::isfinite(held(d, 1 / d.leaky_slope)))
    return report.say(BNORM_INVALID_ARGUMENT,
                      "leaky_slope = %g: must have a finite inverse, in f32 too unless data is F64 (from_output)",
                      d.leaky_slope);
  if (d.renorm && d.frozen)
    return report.say(BNORM_INVALID_ARGUMENT, "renorm = 1: must be 0 with frozen = 1, whose statistics are no batch's");
  if (d.channel_block != 0 && d.channel_block != 8 && d.channel_block != 16)
    return report.say(BNORM_INVALID_ARGUMENT, "channel_block = %" PRId32 ": must be 0, 8 or 16", d.channel_block);
  BNORM_CHECK(check_epsilon(d.epsilon, report));
  return check_factor(d.average_factor, report);
}

bnorm_status check_sizes(const bnorm_desc& d, Report& report) {
  BNORM_CHECK(check_range("groups", d.groups, 0, kMostElements, report));
  BNORM_CHECK(check_range("batch", d.batch, 0, kMostElements, report));
  BNORM_CHECK(check_range("channels", d.channels, 0, kMostElements, report));
  BNORM_CHECK(check_range("spatial", d.spatial, 0, kMostElements, report));
  // Products without the axes of no elements: per-channel arrays and blocks are sized even for an empty tensor.
  int64_t product = 1;
  for (const int64_t size : {d.groups, d.channels, d.batch, d.spatial})
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product) || product > kMostElements)
      return report.say(BNORM_INVALID_ARGUMENT,
                        "groups * batch * channels * spatial = %" PRId64 " * %" PRId64 " * %" PRId64 " * %" PRId64
                        ": must be at most 2^52 elements",
                        d.groups, d.batch, d.channels, d.spatial);
  return BNORM_OK;
}

bool is_packed(const bnorm_strides& t) { return t.g == 0 && t.n == 0 && t.c == 0 && t.s == 0; }

bnorm_strides packed(const bnorm_desc& d, bnorm_layout layout) {
  const int64_t c = std::max<int64_t>(d.channels, 1), s = std::max<int64_t>(d.spatial, 1);
  const int64_t n = std::max<int64_t>(d.batch, 1);
  return layout == BNORM_PLANAR ? bnorm_strides{n * c * s, c * s, s, 1} : bnorm_strides{n * c * s, c * s, 1, c};
}

constexpr bool kWrites[kTensors] = {false, true, false, true, false, true};

bnorm_status check_strides(const bnorm_desc& d, Tensor tensor, const Extent& e, Report& report) {
  const bool empty = d.groups == 0 || d.batch == 0 || d.channels == 0 || d.spatial == 0;
  if (e.addressable && (e.injective || empty || !kWrites[tensor])) return BNORM_OK;
  bnorm_strides t = strides_of(d, tensor);
  if (d.channel_block != 0) t = {0, t.n, t.g, t.s};  // as they were given: groups are blocks now
  return report.say(BNORM_INVALID_ARGUMENT, "%s strides = (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "): %s",
                    kTensorNames[tensor], t.g, t.n, t.c, t.s,
                    e.addressable
                        ? "an output may not overlap itself; each stride must cover the axes with smaller ones"
                        : "must span less than 2^58 elements");
}

/// The stride of an axis of one element or none says nothing: of such no product may overflow, nor the address of what
/// kernels fetch some thousand rows ahead.
void drop_unused(const bnorm_desc& d, bnorm_strides& t) {
  constexpr int64_t most = int64_t{1} << 40;
  const auto drop = [](int64_t size, int64_t& stride) {
    if (size <= 1 && (stride > most || stride < -most)) stride = 0;
  };
  drop(d.groups, t.g);
  drop(d.batch, t.n);
  drop(d.channels, t.c);
  drop(d.spatial, t.s);
}

/// Fills in strides of zero, and the extents. Most tensors are packed, or have the strides of x.
bnorm_status check_tensors(Plan* plan, Report& report) {
  bnorm_desc& d = plan->desc;
  const bnorm_strides planar = packed(d, BNORM_PLANAR);
  const Extent dense = {0, std::max<int64_t>(d.groups, 1) * planar.g - 1, true, true, true};
  for (int i = kX; i < kTensors; ++i) {
    const auto tensor = static_cast<Tensor>(i);
    bnorm_strides& strides = strides_of(d, tensor);
    if (is_packed(strides)) {
      strides = planar;
      plan->extent[i] = dense;
      continue;
    }
    if (i > kX && strides == d.x) {
      plan->extent[i] = plan->extent[kX];
    } else {
      drop_unused(d, strides);
      plan->extent[i] = extent_of(strides, {d.groups, d.batch, d.channels, d.spatial});
    }
    BNORM_CHECK(check_strides(d, tensor, plan->extent[i], report));
  }
  return BNORM_OK;
}

bnorm_status check_allocator(const bnorm_allocator* given, Report& report) {
  if (!given) return BNORM_OK;
  BNORM_CHECK(check_struct(given, "allocator", report));
  BNORM_CHECK(check_range("allocator.reserved", given->reserved, 0, 0, report));
  if (given->allocate && given->release) return BNORM_OK;
  return report.say(BNORM_INVALID_ARGUMENT, "allocator.%s = NULL: must be given",
                    given->allocate ? "release" : "allocate");
}

/// Of those that fill in strides.
bnorm_status check_unblocked(const bnorm_desc& d, Report& report) {
  if (d.channel_block == 0) return BNORM_OK;
  return report.say(BNORM_INVALID_ARGUMENT, "channel_block = %" PRId32 ": must be 0 here; packed blocks have strides 0",
                    d.channel_block);
}

/// A blocked layout is one of groups: the blocks, with per-channel arrays of their own behind each other.
bnorm_status make_groups_of_blocks(bnorm_desc* d, Report& report) {
  const int64_t block = d->channel_block;
  if (block == 0) return BNORM_OK;
  if (d->groups != 1)
    return report.say(BNORM_UNSUPPORTED, "groups = %" PRId64 ": blocked layouts (channel_block) have 1", d->groups);
  if (d->channels % block != 0)
    return report.say(BNORM_INVALID_ARGUMENT,
                      "channels = %" PRId64 ": must be a multiple of channel_block = %" PRId64 " (pad them)",
                      d->channels, block);
  const int64_t s = std::max<int64_t>(d->spatial, 1);
  for (int i = kX; i < kTensors; ++i) {
    bnorm_strides& t = strides_of(*d, static_cast<Tensor>(i));
    t = is_packed(t) ? bnorm_strides{s * block, s * std::max(d->channels, block), 1, block}
                     : bnorm_strides{t.c, t.n, 1, t.s};
  }
  d->groups = d->channels / block;
  d->channels = block;
  d->running_mode = BNORM_RUNNING_PER_GROUP;
  d->params_per_group = 1;
  return BNORM_OK;
}

/// Axes of an array as one.
struct MergedAxes {
  int64_t size = 1, stride = 1;
};

/// Axes [begin, end) of an array, which must be one in memory.
bnorm_status merge_axes(const int64_t* shape, const int64_t* strides, int32_t begin, int32_t end, MergedAxes* m,
                        Report& report) {
  for (int32_t i = end - 1; i >= begin; --i) {
    if (shape[i] == 1) continue;
    if (strides && m->size > 1) {
      int64_t next;
      if (__builtin_mul_overflow(m->size, m->stride, &next))
        return report.say(BNORM_INVALID_ARGUMENT,
                          "strides[%" PRId32 "] = %" PRId64
                          ": must step over the axes behind, which reach beyond 64 bits",
                          i, strides[i]);
      if (strides[i] != next)
        return report.say(BNORM_INVALID_ARGUMENT,
                          "strides[%" PRId32 "] = %" PRId64 ": must be %" PRId64
                          ", axes that become one must be one in memory",
                          i, strides[i], next);
    }
    if (strides && m->size == 1) m->stride = strides[i];
    if (__builtin_mul_overflow(m->size, shape[i], &m->size))
      return report.say(BNORM_INVALID_ARGUMENT,
                        "shape[%" PRId32 "] = %" PRId64 ": must be at most 2^52 elements in all", i, shape[i]);
  }
  return BNORM_OK;
}

}  // namespace

bnorm_status set_layout(bnorm_desc* desc, bnorm_layout layout, Report& report) {
  BNORM_CHECK(check_struct(desc, "desc", report));
  BNORM_CHECK(check_range("layout", layout, BNORM_PLANAR, BNORM_CHANNELS_LAST, report));
  BNORM_CHECK(check_unblocked(*desc, report));
  BNORM_CHECK(check_sizes(*desc, report));
  desc->x = desc->y = desc->residual = desc->dx = desc->dy = desc->dresidual = packed(*desc, layout);
  return BNORM_OK;
}

bnorm_status set_array(bnorm_desc* desc, bnorm_strides* tensor, const int64_t* shape, const int64_t* strides,
                       int32_t rank, int32_t axis, Report& report) {
  BNORM_CHECK(check_struct(desc, "desc", report));
  BNORM_CHECK(check_range("rank", rank, 1, INT32_MAX, report));
  BNORM_CHECK(check_range("axis", axis, -static_cast<int64_t>(rank), rank - 1, report));
  if (!shape) return report.say(BNORM_INVALID_ARGUMENT, "shape = NULL: must be given");
  BNORM_CHECK(check_unblocked(*desc, report));
  bool known = !tensor;
  for (int i = kX; i < kTensors; ++i) known = known || tensor == &strides_of(*desc, static_cast<Tensor>(i));
  if (!known)
    return report.say(BNORM_INVALID_ARGUMENT, "tensor = %p: must be NULL or the strides of a tensor in desc",
                      static_cast<void*>(tensor));
  for (int32_t i = 0; i < rank; ++i) {
    char name[24];
    std::snprintf(name, sizeof name, "shape[%" PRId32 "]", i);
    BNORM_CHECK(check_range(name, shape[i], 0, kMostElements, report));
  }
  const int32_t channel_axis = axis < 0 ? axis + rank : axis;
  MergedAxes before, behind;
  BNORM_CHECK(merge_axes(shape, strides, 0, channel_axis, &before, report));
  BNORM_CHECK(merge_axes(shape, strides, channel_axis + 1, rank, &behind, report));
  bnorm_desc d = *desc;  // a refused call writes nothing
  d.groups = 1;
  d.batch = before.size;
  d.channels = shape[channel_axis];
  d.spatial = behind.size;
  BNORM_CHECK(check_sizes(d, report));
  const bnorm_strides result =
      strides ? bnorm_strides{0, before.stride, strides[channel_axis], behind.stride} : packed(d, BNORM_PLANAR);
  if (is_packed(result))
    return report.say(BNORM_INVALID_ARGUMENT, "strides[%" PRId32 "] = 0: strides of 0 alone mean packed", channel_axis);
  if (!tensor) {
    d.x = d.y = d.residual = d.dx = d.dy = d.dresidual = result;
    *desc = d;
    return BNORM_OK;
  }
  if (desc->groups != 1 || desc->batch != d.batch || desc->channels != d.channels || desc->spatial != d.spatial)
    return report.say(BNORM_INVALID_ARGUMENT,
                      "shape: N, C, S = %" PRId64 ", %" PRId64 ", %" PRId64 ", must be those of desc, %" PRId64
                      ", %" PRId64 ", %" PRId64 ", of one group",
                      d.batch, d.channels, d.spatial, desc->batch, desc->channels, desc->spatial);
  *tensor = result;
  return BNORM_OK;
}

bnorm_status check_create(bnorm_plan** plan, const bnorm_desc* desc, bnorm_error* error, Report& report) {
  BNORM_CHECK(check_error(error, report));
  if (!plan) return report.say(BNORM_INVALID_ARGUMENT, "plan = NULL: must be given");
  return check_struct(desc, "desc", report);
}

bnorm_status check_desc(Plan* plan, Report& report) {
  bnorm_desc* const d = &plan->desc;
  d->struct_size = sizeof(bnorm_desc);
  BNORM_CHECK(check_types(d, report));
  BNORM_CHECK(check_choices(*d, report));
  BNORM_CHECK(check_sizes(*d, report));
  BNORM_CHECK(make_groups_of_blocks(d, report));
  BNORM_CHECK(check_tensors(plan, report));
  return check_allocator(d->allocator, report);
}

}  // namespace bnorm
