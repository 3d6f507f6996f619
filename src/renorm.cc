// SPDX-License-Identifier: Apache-2.0
#include "renorm.hh"

#include <algorithm>
#include <cmath>

#include "run.hh"

namespace bnorm {
namespace {

/// NaN stays.
double clipped(double v, double low, double high) { return v < low ? low : (v > high ? high : v); }

/// Some channels of a parameter as f64; `otherwise` where it is not given.
void load_params(const Plan& plan, const void* values, int64_t at, int64_t channels, double otherwise, double* to) {
  if (values)
    plan.table->load_params[plan.param](values, plan.param_type, at, to, channels);
  else
    std::fill_n(to, channels, otherwise);
}

}  // namespace

void renorm_corrections(const Plan& plan, const Call& call, double count, int64_t g, int64_t c, int64_t channels,
                        const double* mean, const double* inv_std, double* r, double* d) {
  const bnorm_desc& desc = plan.desc;
  const int64_t at = (desc.running_mode == BNORM_RUNNING_PER_GROUP ? g * desc.channels : 0) + c;
  double running_mean[kChannelRun], running_var[kChannelRun];
  for (int64_t i = 0; i < channels; ++i) {
    const int64_t in_run = i % kChannelRun;
    if (in_run == 0) {
      const int64_t some = std::min(kChannelRun, channels - i);
      load_params(plan, call.running_mean, at + i, some, 0, running_mean);
      load_params(plan, call.running_var, at + i, some, 0, running_var);
    }
    const double sum = running_var[in_run] + desc.epsilon;
    const double inverse = sum == 0 ? 0 : 1 / std::sqrt(sum);
    const double deviation = inv_std[i] == 0 ? 0 : 1 / inv_std[i];
    r[i] = count == 0 ? 1 : clipped(deviation * inverse, 1 / call.renorm_r_max, call.renorm_r_max);
    d[i] = count == 0 ? 0 : clipped((mean[i] - running_mean[in_run]) * inverse, -call.renorm_d_max, call.renorm_d_max);
    if (desc.stats_type == BNORM_F64) continue;
    r[i] = static_cast<double>(static_cast<float>(r[i]));
    d[i] = static_cast<double>(static_cast<float>(d[i]));
  }
}

void load_affine(const Plan& plan, const Call& call, int64_t g, int64_t c, int64_t channels, const double* r,
                 const double* d, double* scale, double* shift) {
  const int64_t at = (plan.desc.params_per_group ? g * plan.desc.channels : 0) + c;
  load_params(plan, call.affine.scale, at, channels, 1, scale);
  load_params(plan, call.affine.shift, at, channels, 0, shift);
  for (int64_t i = 0; r && i < channels; ++i) {
    shift[i] += scale[i] * d[i];
    scale[i] *= r[i];
  }
}

}  // namespace bnorm
