// SPDX-License-Identifier: Apache-2.0
#include "coefficients.hh"

#include <algorithm>
#include <cstring>

#include "renorm.hh"

namespace bnorm {
namespace {

Affine affine_of(const Plan& plan, const Call& call, int64_t g, int64_t c) {
  const int64_t at = (plan.desc.params_per_group ? g * plan.desc.channels : 0) + c;
  const int64_t bytes = plan.param_bytes();
  return {advance(call.affine.scale, at, bytes), advance(call.affine.shift, at, bytes), plan.param_type};
}

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
    // As moments of one value, so that inv_std comes from the same formula.
    double *const mean = run.w.first + to, *const m2 = run.w.second + to;
    const auto load = run.table().load_params[run.plan.param];
    load(run.call.running_mean, run.plan.param_type, from, mean, d.channels);
    load(run.call.running_var, run.plan.param_type, from, m2, d.channels);
    run.table().finalize(1, d.epsilon, false, mean, m2, run.w.saved_mean + to, run.w.saved_inv_std + to, d.channels);
  }
}

/// Puts shift and 1 / scale in place of mean and inv_std of a group: z is to them what x is to those. The gain stays.
void take_output_for_input(const Run& run, int64_t g) {
  const int64_t at = g * run.channels();
  if (!run.desc().renorm)  // else they are there already, with their corrections
    load_affine(run.plan, run.call, g, 0, run.channels(), nullptr, nullptr, run.w.scale + at, run.w.shift + at);
  for (int64_t i = at; i < at + run.channels(); ++i) {
    run.w.saved_mean[i] = run.w.shift[i];
    run.w.saved_inv_std[i] = run.w.scale[i] == 0 ? 0 : 1 / run.w.scale[i];  // r may be 0
  }
  store_values(run.w.coefficient[kCenter], at, run.channels(), run.plan.arithmetic == 1, run.w.saved_mean + at);
}

}  // namespace

void map_coefficients(const Plan& plan, const void* buffer, void** coefficient) {
  for (int k = 0; k < kCoefficients; ++k)
    coefficient[k] =
        k > kOffset ? nullptr : const_cast<void*>(advance(buffer, k * plan.coefficient_stride(), sizeof(double)));
}

void fill_coefficients(const Plan& plan, const Call& call, void* buffer) {
  const bnorm_desc& d = plan.desc;
  if (plan.all_channels() == 0) return;  // however many groups
  void* base[kCoefficients];
  map_coefficients(plan, buffer, base);
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

}  // namespace bnorm
