// SPDX-License-Identifier: Apache-2.0
#include "renorm.hh"

#include <algorithm>

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
  const auto rounded = [&](double v) {
    return desc.stats_type == BNORM_F64 ? v : static_cast<double>(static_cast<float>(v));
  };
  // r and d are made in place of the running statistics.
  load_params(plan, call.running_var, at, channels, 0, r);
  load_params(plan, call.running_mean, at, channels, 0, d);
  for (int64_t i = 0; i < channels; ++i) {
    const double inverse = inverse_std(r[i], desc.epsilon), deviation = inv_std[i] == 0 ? 0 : 1 / inv_std[i];
    r[i] = count == 0 ? 1 : rounded(clipped(deviation * inverse, 1 / call.renorm_r_max, call.renorm_r_max));
    d[i] = count == 0 ? 0 : rounded(clipped((mean[i] - d[i]) * inverse, -call.renorm_d_max, call.renorm_d_max));
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
