// SPDX-License-Identifier: Apache-2.0
#include "running.hh"

#include <cmath>

namespace bnorm {
namespace {

/// What enters the running statistics of one channel.
struct Entry {
  double mean, var;
};

Entry entry_of(const bnorm_desc& d, const GroupMoments& m, int64_t g, int64_t c) {
  const double count = m.count_of(g), m2 = m.m2[g * m.stride + c];
  const bool unbiased = !d.biased_running_var && count >= 2;
  return {m.mean[g * m.stride + c], unbiased ? m2 / (count - 1) : m2 / count};
}

template <class P>
void blend(void* running, int64_t i, double batch, double factor) {
  if (!running) return;
  P& value = static_cast<P*>(running)[i];
  // Factor 1 replaces whatever was there, NaN and rounding of the difference included; factor 0 keeps it.
  if (factor == 1) {
    value = static_cast<P>(batch);
  } else if (factor != 0) {
    const double old = static_cast<double>(value);
    value = static_cast<P>(old + factor * (batch - old));
  }
}

void blend_entry(const Plan& plan, const Call& call, int64_t i, const Entry& e) {
  const auto one = plan.param == 1 ? blend<double> : blend<float>;
  one(call.running_mean, i, e.mean, call.average_factor);
  one(call.running_var, i, e.var, call.average_factor);
}

/// Whether param_type holds the entry as finite numbers.
bool is_finite(const Plan& plan, const Entry& e) {
  if (plan.param == 1) return std::isfinite(e.mean) && std::isfinite(e.var);
  return std::isfinite(static_cast<float>(e.mean)) && std::isfinite(static_cast<float>(e.var));
}

/// The average over the groups that have values; false if none has.
bool average_entry(const bnorm_desc& d, const GroupMoments& m, int64_t c, Entry* average) {
  Entry sum = {0, 0};
  double groups = 0;
  for (int64_t g = 0; g < d.groups; ++g) {
    if (m.count_of(g) == 0) continue;
    const Entry e = entry_of(d, m, g, c);
    sum.mean += e.mean;
    sum.var += e.var;
    groups += 1;
  }
  *average = {sum.mean / groups, sum.var / groups};
  return groups > 0;
}

}  // namespace

bnorm_status update_running(const Plan& plan, Call& call, const GroupMoments& moments) {
  const bnorm_desc& d = plan.desc;
  int64_t held_back = 0, first_held = 0;
  const auto enter = [&](int64_t i, const Entry& e, int64_t c) {
    if (d.guard && !is_finite(plan, e)) {
      if (held_back++ == 0) first_held = c;
      return;
    }
    blend_entry(plan, call, i, e);
  };
  if (!d.guard && !call.running_mean && !call.running_var) return BNORM_OK;
  if (d.running_mode == BNORM_RUNNING_MEAN) {
    Entry average;
    for (int64_t c = 0; c < d.channels; ++c)
      if (average_entry(d, moments, c, &average)) enter(c, average, c);
  } else {
    const int64_t stride = d.running_mode == BNORM_RUNNING_PER_GROUP ? d.channels : 0;
    for (int64_t g = 0; g < d.groups; ++g)
      for (int64_t c = 0; moments.count_of(g) > 0 && c < d.channels; ++c)
        enter(g * stride + c, entry_of(d, moments, g, c), c);
  }
  if (held_back == 0) return BNORM_OK;
  return call.report.say(BNORM_NONFINITE,
                         "guard: batch statistics of %lld channels are not finite (first: channel %lld); their running "
                         "statistics were kept",
                         static_cast<long long>(held_back), static_cast<long long>(first_held));
}

}  // namespace bnorm
