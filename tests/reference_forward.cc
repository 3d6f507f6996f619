// SPDX-License-Identifier: Apache-2.0
// Inference and training in long double, two passes; bounds.hh derives the bounds.
#include "bounds.hh"
#include "reference.hh"

namespace bnorm_tests {
namespace {

void add_output(const Problem& p, const Roundoffs& e, const Activation& a, Normalized n, size_t i, Bounded& y) {
  if (p.config().residual) {
    n.z += static_cast<Real>(p.inputs().residual[i]);
    n.bound += e.u * (std::fabs(n.z) + n.bound);
  }
  const Real value = a.value(n.z), bound = a.steepest * n.bound + e.u * a.value_error(n.z);
  y.add(value, kSecondOrder * (bound + e.o * (std::fabs(value) + bound)) + e.tiny_y);
}

template <class StatisticsOf>
void add_outputs(const Problem& p, StatisticsOf statistics_of, Bounded& y) {
  const Roundoffs e = roundoffs(p.config());
  const Shape& k = p.shape();
  const Activation a = activation(p.desc());
  std::vector<Statistics> statistics;
  for (int64_t g = 0; g < k.g; ++g)
    for (int64_t c = 0; c < k.c; ++c) statistics.push_back(statistics_of(g, c));
  for (int64_t g = 0; g < k.g; ++g)
    for (int64_t n = 0; n < k.n; ++n)
      for (int64_t c = 0; c < k.c; ++c)
        for (int64_t s = 0; s < k.s; ++s) {
          const size_t i = p.index(g, n, c, s);
          const Statistics& of_channel = statistics[static_cast<size_t>(g * k.c + c)];
          add_output(p, e, a, normalized(e, of_channel, affine(p, g, c), p.inputs().x[i]), i, y);
        }
}

struct Moments {
  Count count;
  Real mean = 0, var = 0, mean_error = 0, var_error = 0;
};

Moments moments(const Problem& p, int64_t g, int64_t c) {
  const Shape& k = p.shape();
  Moments m;
  m.count = count_of(p, g);
  const Real count = m.count.count, levels = tree_levels(k.count());
  const Real chain = additions(k.s) + 2 + count_roundoffs(p), square = 3 * (additions(k.s) + 3 + count_roundoffs(p));
  if (count == 0) return m;
  const auto each = [&](auto visit) {
    p.each_counted(g, c, [&](size_t i, double w) { visit(static_cast<Real>(p.inputs().x[i]), static_cast<Real>(w)); });
  };
  Real sum = 0, squares = 0, rest = 0, reach = 0;
  each([&](Real x, Real w) { sum += w * x; });
  m.mean = sum / count;
  each([&](Real x, Real w) {
    rest += w * (x - m.mean);
    squares += w * (x - m.mean) * (x - m.mean);
    reach = std::max(reach, std::fabs(x - m.mean));
  });
  m.var = (squares - rest * rest / count) / count;
  const Real raw = p.config().data == BNORM_F64 ? 0 : std::min(std::fabs(m.mean), 64 * reach);
  m.mean_error = kSecondOrder * kF64 *
                 ((2 * chain + 8 * levels) * reach + chain * raw + (levels + 2) * (std::fabs(m.mean) + reach));
  m.var_error = kSecondOrder * kF64 * ((4 * square + 5 + 36 * levels) * reach * reach + square * raw * raw) +
                4 * reach * m.mean_error + (reach > 0 ? m.mean_error * m.mean_error : 0);
  return m;
}

/// The saved pair of these moments.
Statistics saved_statistics(const Problem& p, const Moments& m) {
  const Roundoffs e = roundoffs(p.config());
  Statistics s;
  s.gain_error = kF64 + e.u;
  if (m.count.count == 0) return s;
  const Real epsilon = p.config().epsilon, low = m.var + epsilon - m.var_error;
  s.mean = m.mean;
  s.mean_error = m.mean_error + e.t * (std::fabs(m.mean) + m.mean_error);
  s.inv_std = inverse_root(m.var + epsilon);
  const Real spread = m.var_error == 0 ? 0
                      : low > 0        ? inverse_root(low) - s.inv_std
                                       : std::numeric_limits<Real>::infinity();
  s.inv_std_error = spread + kSecondOrder * (4 * kF64 + e.t) * (s.inv_std + spread);
  return s;
}

struct RunningUpdate {
  Real value, bound;
};

/// One running statistic after the batch values of its groups.
RunningUpdate update(const Problem& p, Real old, const std::vector<Real>& batch, const std::vector<Real>& errors) {
  const Real f = p.config().average_factor, rounding = roundoff(p.config().param);
  RunningUpdate r{old, 0};
  const auto step = [&](Real value, Real error) {
    const Real change = f * (value - r.value);
    r.bound = (1 - f) * r.bound + f * error + kSecondOrder * 4 * kF64 * (std::fabs(change) + std::fabs(f * value));
    r.value += change;
    r.bound += kSecondOrder * (rounding + kF64) * (std::fabs(r.value) + r.bound);
  };
  if (p.config().mode != BNORM_RUNNING_MEAN) {
    for (size_t g = 0; g < batch.size(); ++g) step(batch[g], errors[g]);
    return r;
  }
  Real sum = 0, size = 0, error = 0;
  const Real groups = static_cast<Real>(batch.size());
  for (size_t g = 0; g < batch.size(); ++g) sum += batch[g], size += std::fabs(batch[g]), error += errors[g];
  step(sum / groups, (error + (groups + 1) * kF64 * size) / groups);
  return r;
}

void add_running(const Problem& p, const std::vector<Moments>& all, Expected& expected) {
  const Shape& k = p.shape();
  const Roundoffs e = roundoffs(p.config());
  const auto correction_of = [&](const Count& n) -> Real {
    const Real one = p.config().weights == Weights::kReliability ? n.square / n.count : 1;
    return p.config().biased || n.count < 2 * one ? 1 : n.count / (n.count - one);
  };
  const int64_t sets = p.config().mode == BNORM_RUNNING_PER_GROUP ? k.g : 1;
  for (int64_t set = 0; set < sets; ++set)
    for (int64_t c = 0; c < k.c; ++c) {
      std::vector<Real> mean, mean_error, var, var_error;
      for (int64_t g = sets > 1 ? set : 0; g < (sets > 1 ? set + 1 : k.g); ++g) {
        const Moments& m = all[static_cast<size_t>(g * k.c + c)];
        if (m.count.count == 0) continue;
        const Real correction = correction_of(m.count);
        mean.push_back(m.mean);
        mean_error.push_back(m.mean_error);
        var.push_back(m.var * correction);
        var_error.push_back((m.var_error + (3 + 4 * count_roundoffs(p)) * kF64 * m.var) * correction);
      }
      const size_t i = static_cast<size_t>(set * k.c + c);
      const auto add = [&](Bounded& to, double old, const std::vector<Real>& batch, const std::vector<Real>& errors) {
        const RunningUpdate r = batch.empty() ? RunningUpdate{old, 0} : update(p, old, batch, errors);
        to.add(r.value, r.bound + e.tiny_p * static_cast<Real>(k.g));
      };
      if (p.has(kNoRunningMean)) add(expected.running_mean, p.inputs().running_mean[i], mean, mean_error);
      if (p.has(kNoRunningVar)) add(expected.running_var, p.inputs().running_var[i], var, var_error);
    }
}

}  // namespace

Expected expect_infer(const Problem& problem) {
  Expected r;
  add_outputs(
      problem, [&](int64_t g, int64_t c) { return running_statistics(problem, g, c); }, r.y);
  return r;
}

Expected expect_train(const Problem& problem, const Outputs& actual) {
  Expected r;
  std::vector<Moments> all;
  std::vector<Statistics> saved;
  for (int64_t g = 0; g < problem.shape().g; ++g)
    for (int64_t c = 0; c < problem.shape().c; ++c) {
      all.push_back(moments(problem, g, c));
      saved.push_back(saved_statistics(problem, all.back()));
      if (!problem.has(kNoSaved)) continue;
      r.mean.add(saved.back().mean, saved.back().mean_error);
      r.inv_std.add(saved.back().inv_std, saved.back().inv_std_error);
    }
  add_running(problem, all, r);
  const auto statistics_of = [&](int64_t g, int64_t c) {
    const size_t i = static_cast<size_t>(g * problem.shape().c + c);
    Statistics s = saved[i];
    if (i >= actual.mean.size() || i >= actual.inv_std.size()) return s;
    s.mean = actual.mean[i];
    s.inv_std = actual.inv_std[i];
    s.mean_error = s.inv_std_error = 0;
    return s;
  };
  add_outputs(problem, statistics_of, r.y);
  return r;
}

}  // namespace bnorm_tests
