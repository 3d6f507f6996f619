// SPDX-License-Identifier: Apache-2.0
// Inputs and descriptors of test problems, and the bitwise comparison of results.
#include "problem.hh"

#include <bit>
#include <cmath>
#include <sstream>

#include "random.hh"

namespace bnorm_tests {
namespace {

bnorm_strides channels_last(const Shape& p) { return {p.n * p.s * p.c, p.s * p.c, 1, p.c}; }

bnorm_strides with_gaps(const Shape& p) {
  const int64_t c = p.s + 3, n = c * p.c + 7;
  return {n * p.n + 5, n, c, 1};
}

/// Samples innermost, every second element: no axis is contiguous.
bnorm_strides permuted(const Shape& p) {
  const int64_t n = 2, g = n * p.n + 1, c = g * p.g + 3;
  return {g, n, c, c * p.c + 1};
}

bnorm_strides reversed(const Shape& p, uint64_t seed) {
  const bnorm_strides t = seed % 3 == 2 ? channels_last(p) : with_gaps(p);
  if (seed % 3 == 0) return {-t.g, -t.n, -t.c, -t.s};
  if (seed % 3 == 1) return {-t.g, -t.n, -t.c, t.s};
  return {-t.g, -t.n, t.c, -t.s};
}

bnorm_strides apart(const Shape& p, uint64_t seed, int tensor) {
  bnorm_strides t = seed % 2 == 0 ? channels_last(p) : bnorm_strides{0, p.c * p.s, p.s, 1};
  if ((seed / 2 + static_cast<uint64_t>(tensor)) % 2 == 0) t.n += 24;
  t.g = t.n * p.n;
  return t;
}

bnorm_strides strides_for(Layout layout, const Shape& p, uint64_t seed, int tensor) {
  switch (layout) {
    case Layout::kPlanar:
      return {0, 0, 0, 0};
    case Layout::kChannelsLast:
      return channels_last(p);
    case Layout::kSlices:
      return with_gaps(p);
    case Layout::kPermuted:
      return permuted(p);
    case Layout::kReversed:
      return reversed(p, seed);
    case Layout::kApart:
      return apart(p, seed, tensor);
    default:
      return strides_for(static_cast<Layout>((seed + static_cast<uint64_t>(tensor)) % 4), p, seed, tensor);
  }
}

std::string compare(const char* name, const std::vector<double>& a, const std::vector<double>& b) {
  std::ostringstream text;
  text.precision(17);
  if (a.size() != b.size()) {
    text << name << ": " << a.size() << " and " << b.size() << " elements";
    return text.str();
  }
  for (size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<uint64_t>(a[i]) != std::bit_cast<uint64_t>(b[i])) {
      text << name << '[' << i << "]: " << a[i] << " and " << b[i];
      return text.str();
    }
  return "";
}

}  // namespace

std::string describe(const Case& c) {
  static const char* const layouts[] = {"planar", "channels_last", "slices", "permuted", "reversed", "apart", "mixed"};
  static const char* const types[] = {"default", "f32", "f64", "bf16", "f16"};
  static const char* const weights[] = {"none", "ones", "frequency", "reliability", "lengths"};
  std::ostringstream t;
  t << "G " << c.shape.g << " N " << c.shape.n << " C " << c.shape.c << " S " << c.shape.s << " batch " << c.batch
    << ' ' << layouts[static_cast<int>(c.layout)] << " data " << types[c.data] << " output " << types[c.output]
    << " param " << types[c.param] << " stats " << types[c.stats] << " activation " << c.activation << " residual "
    << c.residual << " in_place " << c.in_place << " per_group " << c.params_per_group << " frozen " << c.frozen
    << " biased " << c.biased << " mode " << c.mode << " nulls " << c.nulls << " misalignment " << c.misalignment
    << " placement " << static_cast<int>(c.placement) << " workspace " << c.give_workspace << " mu " << c.mu << " far "
    << c.far << " weights " << weights[static_cast<int>(c.weights)] << " mask " << c.mask << " from_residual "
    << c.from_residual << " renorm " << c.renorm << " from_output " << c.from_output << " alpha " << c.elu_alpha
    << " seed " << c.seed;
  return t.str();
}

std::string difference(const Outputs& a, const Outputs& b) {
  if (a.status != b.status) return "status";
  std::string r;
  const auto check = [&](const char* name, const std::vector<double>& p, const std::vector<double>& q) {
    if (r.empty()) r = compare(name, p, q);
  };
  check("y", a.y, b.y);
  check("mean", a.mean, b.mean);
  check("inv_std", a.inv_std, b.inv_std);
  check("running_mean", a.running_mean, b.running_mean);
  check("running_var", a.running_var, b.running_var);
  check("renorm_r", a.renorm_r, b.renorm_r);
  check("renorm_d", a.renorm_d, b.renorm_d);
  check("dx", a.dx, b.dx);
  check("dresidual", a.dresidual, b.dresidual);
  check("dscale", a.dscale, b.dscale);
  check("dshift", a.dshift, b.dshift);
  return r;
}

Problem::Problem(const Case& c) : case_(c), shape_(c.shape), desc_(BNORM_DESC_INIT) {
  if (c.batch >= 0) shape_.n = c.batch;
  desc_.data_type = c.data;
  desc_.output_type = c.output;
  desc_.param_type = c.param;
  desc_.stats_type = c.stats;
  desc_.groups = c.shape.g;
  desc_.batch = c.shape.n;
  desc_.channels = c.shape.c;
  desc_.spatial = c.shape.s;
  bnorm_strides* const strides[6] = {&desc_.x, &desc_.y, &desc_.residual, &desc_.dx, &desc_.dy, &desc_.dresidual};
  for (int t = 0; t < 6; ++t) *strides[t] = strides_for(c.layout, c.shape, c.seed, t);
  if (c.in_place) {
    // Both partners that the header allows take their turn.
    desc_.y = y_is_residual(c) ? desc_.residual : desc_.x;
    desc_.dx = dx_is_x(c) ? desc_.x : desc_.dy;
    if (dresidual_is_dy(c)) desc_.dresidual = desc_.dy;
  }
  desc_.activation = c.activation;
  desc_.clip_lower = c.clip_lower;
  desc_.clip_upper = c.clip_upper;
  desc_.leaky_slope = c.leaky_slope;
  desc_.elu_alpha = c.elu_alpha;
  desc_.residual_added = c.residual;
  desc_.running_mode = c.mode;
  desc_.biased_running_var = c.biased;
  desc_.params_per_group = c.params_per_group;
  desc_.from_mask = from_mask(c);
  desc_.from_residual = from_residual(c);
  desc_.from_output = c.from_output;
  desc_.renorm = c.renorm;
  desc_.frozen = c.frozen;
  desc_.guard = c.guard;
  desc_.epsilon = c.epsilon;
  desc_.average_factor = c.average_factor;
  if (c.weights != Weights::kNone)
    desc_.weighting = c.weights == Weights::kReliability ? BNORM_RELIABILITY_WEIGHTS : BNORM_FREQUENCY_WEIGHTS;
  make_inputs();
  make_weights();
  make_saved_statistics();
  make_forward_output();
}

void Problem::make_inputs() {
  Random fractions(case_.seed);
  Normals normals(case_.seed);
  const auto make = [&](int64_t count, bnorm_type type, double mu, double sigma) {
    std::vector<double> r(static_cast<size_t>(count));
    for (double& v : r)
      v = rounded(type, mu + sigma * (case_.values == Values::kNormal ? normals.next() : fractions.fraction()));
    return r;
  };
  const int64_t elements = shape_.elements(), channels = shape_.g * shape_.c;
  const int64_t params = case_.params_per_group ? channels : shape_.c;
  const int64_t running = case_.mode == BNORM_RUNNING_PER_GROUP ? channels : shape_.c;
  inputs_.x = make(elements, case_.data, case_.mu, case_.sigma);
  for (size_t i = 0; case_.far != 0 && i < inputs_.x.size(); ++i)
    if (static_cast<int64_t>(i) / shape_.s % shape_.c % 3 == 1)
      inputs_.x[i] = rounded(case_.data, inputs_.x[i] + case_.far);
  inputs_.dy = make(elements, output_type(case_), 0.25, 1);
  if (case_.residual) inputs_.residual = make(elements, output_type(case_), 0, 1);
  inputs_.scale = make(params, case_.param, 1, 0.5);
  inputs_.shift = make(params, case_.param, 0, 0.5);
  inputs_.running_mean = make(running, case_.param, case_.mu, case_.sigma);
  inputs_.running_var = make(running, case_.param, 0, 1);
  for (double& v : inputs_.running_var) v = rounded(case_.param, (std::fabs(v) + 0.25) * case_.sigma * case_.sigma);
}

/// x that don't count lie far from the others, so that they would be noticed.
void Problem::make_weights() {
  if (case_.weights == Weights::kNone) return;
  Random random(case_.seed + 1000);
  for (int64_t sample = 0; sample < shape_.g * shape_.n; ++sample) {
    const int64_t length = static_cast<int64_t>(random.below(static_cast<uint64_t>(shape_.s + 1)));
    if (case_.weights == Weights::kLengths) inputs_.lengths.push_back(length);
    for (int64_t s = 0; s < shape_.s; ++s) {
      const double fraction = random.fraction();
      double w = fraction < -1 ? 0 : rounded(BNORM_F32, 0.7 * (1.25 + fraction));
      if (case_.weights == Weights::kOnes) w = 1;
      if (case_.weights == Weights::kLengths) w = s < length ? 1 : 0;
      inputs_.weights.push_back(w);
      for (int64_t c = 0; w == 0 && c < shape_.c; ++c) {
        double& x = inputs_.x[index(sample / shape_.n, sample % shape_.n, c, s)];
        x = rounded(case_.data, x + 10 * case_.sigma);
      }
    }
  }
}

void Problem::make_saved_statistics() {
  for (int64_t g = 0; g < shape_.g; ++g)
    for (int64_t c = 0; c < shape_.c; ++c) {
      double count = 0, mean = 0, var = 0;
      each_counted(g, c, [&](size_t, double w) { count += w; });
      each_counted(g, c, [&](size_t i, double w) { mean += inputs_.x[i] * w / count; });
      each_counted(g, c, [&](size_t i, double w) {
        const double d = inputs_.x[i] - mean;
        var += w * d * d / count;
      });
      const double sum = var + case_.epsilon;
      inputs_.mean.push_back(rounded(case_.stats, mean));
      inputs_.inv_std.push_back(rounded(case_.stats, sum == 0 ? 0 : 1 / std::sqrt(sum)));
      if (!case_.renorm) continue;
      inputs_.renorm_r.push_back(rounded(case_.stats, 0.875 + 0.1 * static_cast<double>(c % 4)));
      inputs_.renorm_d.push_back(rounded(case_.stats, 0.1 * static_cast<double>(c % 5) - 0.2));
    }
}

void Problem::make_forward_output() {
  inputs_.y = inputs_.x;
  const Activation f = activation(desc_);
  for (int64_t g = 0; g < shape_.g; ++g)
    for (int64_t c = 0; c < shape_.c; ++c) {
      const size_t gc = static_cast<size_t>(g * shape_.c + c), p = param_index(g, c), r = running_index(g, c);
      const double mean = case_.frozen ? inputs_.running_mean[r] : inputs_.mean[gc];
      const double inv_std = case_.frozen ? 1 / std::sqrt(inputs_.running_var[r] + case_.epsilon) : inputs_.inv_std[gc];
      const double scale = has(kNoScale) ? inputs_.scale[p] : 1, shift = has(kNoShift) ? inputs_.shift[p] : 0;
      for (int64_t n = 0; n < shape_.n; ++n)
        for (int64_t s = 0; s < shape_.s; ++s) {
          const size_t i = index(g, n, c, s);
          double normalized = (inputs_.x[i] - mean) * inv_std;
          if (case_.renorm) normalized = normalized * inputs_.renorm_r[gc] + inputs_.renorm_d[gc];
          double z = normalized * scale + shift;
          if (case_.residual) z += inputs_.residual[i];
          inputs_.y[i] = rounded(output_type(case_), static_cast<double>(f.value(static_cast<long double>(z))));
        }
    }
}

}  // namespace bnorm_tests
