// SPDX-License-Identifier: Apache-2.0
#include "running.hh"

#include <algorithm>
#include <cmath>
#include <limits>

#include "run.hh"
#include "weights.hh"

namespace bnorm {
namespace {

/// What enters the running statistics of some channels: the mean, and M2 over its divisor.
struct Entries {
  const double* mean;
  const double* m2;
  double divisor;
};

Entries entries_of(const Plan& plan, const GroupMoments& m, int64_t g, int64_t c) {
  const int64_t at = g * m.stride + c;
  return {m.mean + at, m.m2 + at, variance_divisor(plan.desc, m.count_of(g), m.square_of(g))};
}

/// The average over the groups that have values.
struct Average {
  double mean[kChannelRun] = {}, var[kChannelRun] = {};

  /// False if no group has values.
  bool take(const Plan& plan, const GroupMoments& m, int64_t c, int64_t channels) {
    double groups = 0;
    for (int64_t g = 0; g < plan.desc.groups; ++g) {
      if (m.count_of(g) == 0) continue;
      const Entries e = entries_of(plan, m, g, c);
      for (int64_t i = 0; i < channels; ++i) {
        mean[i] += e.mean[i];
        var[i] += e.m2[i] / e.divisor;
      }
      groups += 1;
    }
    for (int64_t i = 0; i < channels; ++i) {
      mean[i] /= groups;
      var[i] /= groups;
    }
    return groups > 0;
  }
};

/// Whether param_type holds both as finite numbers.
bool is_finite(const Plan& plan, double mean, double var) {
  // Halfway from the largest number of a type to the next power of two: from here on values are rounded to infinity.
  constexpr double overflow[kElementTypes] = {0x1.ffffffp127, std::numeric_limits<double>::infinity(), 0x1.ffp127,
                                              65520};
  const auto holds = [&](double v) {
    if (plan.param_type != kF64) v = static_cast<double>(static_cast<float>(v));
    return std::fabs(v) < overflow[plan.param_type];
  };
  return holds(mean) && holds(var);
}

/// Enters statistics of channels into the running ones, but for those that the guard holds back.
class Update {
 public:
  Update(const Plan& plan, Call& call) : plan_(plan), call_(call) {}

  /// Channels [c, c + channels) of group g, whose running statistics begin at `at`.
  void enter(const Entries& e, int64_t g, int64_t at, int64_t c, int64_t channels) {
    if (!plan_.desc.guard) return blend(e, 0, at, channels);
    for (int64_t i = 0; i < channels; ++i)
      if (is_finite(plan_, e.mean[i], e.m2[i] / e.divisor))
        blend(e, i, at + i, 1);
      else if (held_back_++ == 0) {
        first_group_ = plan_.desc.channel_block ? 0 : g;
        first_held_ = (plan_.desc.channel_block ? at : c) + i;
      }
  }
  bnorm_status status() {
    if (held_back_ == 0) return BNORM_OK;
    return call_.report.say(BNORM_NONFINITE,
                            "guard: %lld batch statistics of a channel are not finite (first: group %lld, channel "
                            "%lld); the running ones were kept",
                            static_cast<long long>(held_back_), static_cast<long long>(first_group_),
                            static_cast<long long>(first_held_));
  }

 private:
  void blend(const Entries& e, int64_t i, int64_t at, int64_t channels) {
    const auto one = [&](void* running, const double* entry, double divisor) {
      if (running)
        plan_.table->blend[plan_.param](call_.average_factor, entry + i, divisor,
                                        static_cast<char*>(running) + at * plan_.param_bytes(), plan_.param_type,
                                        channels);
    };
    one(call_.running_mean, e.mean, 1);
    one(call_.running_var, e.m2, e.divisor);
  }

  const Plan& plan_;
  Call& call_;
  int64_t held_back_ = 0, first_group_ = 0, first_held_ = 0;
};

}  // namespace

bnorm_status update_running(const Plan& plan, Call& call, const GroupMoments& moments) {
  const bnorm_desc& d = plan.desc;
  if (!d.guard && !call.running_mean && !call.running_var) return BNORM_OK;
  Update update(plan, call);
  if (d.running_mode == BNORM_RUNNING_MEAN) {
    for (int64_t c = 0; c < d.channels; c += kChannelRun) {
      const int64_t channels = std::min(kChannelRun, d.channels - c);
      Average average;
      if (average.take(plan, moments, c, channels)) update.enter({average.mean, average.var, 1}, 0, c, c, channels);
    }
    return update.status();
  }
  const int64_t stride = d.running_mode == BNORM_RUNNING_PER_GROUP ? d.channels : 0;
  for (int64_t g = 0; g < d.groups; ++g)
    if (moments.count_of(g) > 0) update.enter(entries_of(plan, moments, g, 0), g, g * stride, 0, d.channels);
  return update.status();
}

}  // namespace bnorm
