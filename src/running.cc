// SPDX-License-Identifier: Apache-2.0
#include "running.hh"

#include <algorithm>
#include <cmath>
#include <limits>

#include "run.hh"
#include "weights.hh"

namespace bnorm {
namespace {

/// What enters the running statistics of some channels.
struct Entries {
  double mean[kChannelRun], var[kChannelRun];
};

Entries entries_of(const Plan& plan, const GroupMoments& m, int64_t g, int64_t c, int64_t channels) {
  Entries e;
  const int64_t at = g * m.stride + c;
  plan.table->running_entry(variance_divisor(plan.desc, m.count_of(g), m.square_of(g)), m.mean + at, m.m2 + at, e.mean,
                            e.var, channels);
  return e;
}

/// The average over the groups that have values; false if none has.
bool average_entries(const Plan& plan, const GroupMoments& m, int64_t c, int64_t channels, Entries* average) {
  *average = {};
  double groups = 0;
  for (int64_t g = 0; g < plan.desc.groups; ++g) {
    if (m.count_of(g) == 0) continue;
    const Entries e = entries_of(plan, m, g, c, channels);
    for (int64_t i = 0; i < channels; ++i) {
      average->mean[i] += e.mean[i];
      average->var[i] += e.var[i];
    }
    groups += 1;
  }
  for (int64_t i = 0; i < channels; ++i) {
    average->mean[i] /= groups;
    average->var[i] /= groups;
  }
  return groups > 0;
}

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

  /// Channels [c, c + channels) of a group, whose running statistics begin at `at`.
  void enter(const Entries& e, int64_t at, int64_t c, int64_t channels) {
    if (!plan_.desc.guard) return blend(e, 0, at, channels);
    for (int64_t i = 0; i < channels; ++i)
      if (is_finite(plan_, e.mean[i], e.var[i]))
        blend(e, i, at + i, 1);
      else if (held_back_++ == 0)
        first_held_ = (plan_.desc.channel_block ? at : c) + i;
  }
  bnorm_status status() {
    if (held_back_ == 0) return BNORM_OK;
    return call_.report.say(BNORM_NONFINITE,
                            "guard: batch statistics of %lld channels are not finite (first: channel %lld); their "
                            "running statistics were kept",
                            static_cast<long long>(held_back_), static_cast<long long>(first_held_));
  }

 private:
  void blend(const Entries& e, int64_t i, int64_t at, int64_t channels) {
    const auto one = [&](void* running, const double* entry) {
      if (running)
        plan_.table->blend[plan_.param](call_.average_factor, entry + i,
                                        static_cast<char*>(running) + at * plan_.param_bytes(), plan_.param_type,
                                        channels);
    };
    one(call_.running_mean, e.mean);
    one(call_.running_var, e.var);
  }

  const Plan& plan_;
  Call& call_;
  int64_t held_back_ = 0, first_held_ = 0;
};

}  // namespace

bnorm_status update_running(const Plan& plan, Call& call, const GroupMoments& moments) {
  const bnorm_desc& d = plan.desc;
  if (!d.guard && !call.running_mean && !call.running_var) return BNORM_OK;
  Update update(plan, call);
  const int64_t groups = d.running_mode == BNORM_RUNNING_MEAN ? 1 : d.groups;
  const int64_t stride = d.running_mode == BNORM_RUNNING_PER_GROUP ? d.channels : 0;
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t c = 0; c < d.channels; c += kChannelRun) {
      const int64_t channels = std::min(kChannelRun, d.channels - c);
      Entries e;
      if (d.running_mode == BNORM_RUNNING_MEAN) {
        if (!average_entries(plan, moments, c, channels, &e)) continue;
      } else {
        if (moments.count_of(g) == 0) continue;
        e = entries_of(plan, moments, g, c, channels);
      }
      update.enter(e, g * stride + c, c, channels);
    }
  return update.status();
}

}  // namespace bnorm
