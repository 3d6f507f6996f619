// SPDX-License-Identifier: Apache-2.0
// Gradients in long double, from the sums; bounds.hh derives the bounds.
#include "bounds.hh"
#include "reference.hh"

namespace bnorm_tests {
namespace {

/// Per group and channel: what backward sums, with bounds.
struct Sums {
  Real dz = 0, dz_x = 0, dz_error = 0, dz_x_error = 0;
};

/// dz, and how far it may be off: by the error of activation'(z), and near kinks by its jump.
struct Gradient {
  Real dz, doubt;
};

class Backward {
 public:
  explicit Backward(const Problem& p) : p_(p), k_(p.shape()), e_(roundoffs(p.config())), f_(activation(p.desc())) {}

  Expected expect() {
    for (int64_t g = 0; g < k_.g; ++g)
      for (int64_t c = 0; c < k_.c; ++c) sums_.push_back(sums(g, c));
    for (int64_t g = 0; g < k_.g; ++g) counts_.push_back(count_of(p_, g).count);
    Expected r;
    for (int64_t g = 0; g < k_.g; ++g)
      for (int64_t n = 0; n < k_.n; ++n)
        for (int64_t c = 0; c < k_.c; ++c)
          for (int64_t s = 0; s < k_.s; ++s) add_element(r, g, c, p_.index(g, n, c, s), p_.weight(g, n, s));
    if (!p_.config().residual || !p_.has(kNoDresidual)) r.dresidual = {};
    if (!p_.has(kNoDx)) r.dx = {};
    add_parameters(r);
    return r;
  }

 private:
  Statistics statistics(int64_t g, int64_t c) const {
    if (p_.config().frozen) return running_statistics(p_, g, c);
    Statistics s;
    const size_t i = static_cast<size_t>(g * k_.c + c);
    s.mean = p_.inputs().mean[i];
    s.inv_std = p_.inputs().inv_std[i];
    s.gain_error = kF64 + e_.u;
    return s;
  }

  Gradient gradient(const Statistics& s, const Affine& a, size_t i) const {
    const Real dy = p_.inputs().dy[i];
    if (p_.config().activation == BNORM_IDENTITY) return {dy, 0};
    if (p_.config().residual && f_.y_tells && !p_.desc().from_mask && !p_.desc().from_residual) {
      const Real y = p_.inputs().y[i];
      return {dy * f_.slope_of_y(y), kSecondOrder * e_.u * std::fabs(dy) * f_.slope_of_y_error(y)};
    }
    Normalized n = normalized(e_, s, a, p_.inputs().x[i]);
    if (p_.config().residual) {
      n.z += static_cast<Real>(p_.inputs().residual[i]);
      n.bound += e_.u * (std::fabs(n.z) + n.bound);
    }
    const Real reach = kSecondOrder * n.bound + e_.tiny_dx, slope = f_.slope(n.z);
    const Real off = f_.slope_jump(n.z, reach) + f_.steepest_slope * reach + kSecondOrder * e_.u * f_.slope_error(n.z);
    return {dy * slope, std::fabs(dy) * off};
  }

  Sums sums(int64_t g, int64_t c) const {
    const Statistics s = statistics(g, c);
    const Affine a = affine(p_, g, c);
    const bool raw = is_raw(p_.config().data, s.mean, s.inv_std);
    Sums r;
    Real size = 0, size_x = 0;
    p_.each_counted(g, c, [&](size_t i, double) {
      const Gradient dz = gradient(s, a, i);
      const Real d = static_cast<Real>(p_.inputs().x[i]) - s.mean;
      r.dz += dz.dz;
      r.dz_x += dz.dz * d;
      size += std::fabs(dz.dz);
      size_x += raw ? std::fabs(dz.dz) * (std::fabs(d + s.mean) + std::fabs(s.mean)) : std::fabs(dz.dz * d);
      r.dz_error += dz.doubt;
      r.dz_x_error += dz.doubt * std::fabs(d);
    });
    const Real chain = additions(k_.s) + tree_levels(k_.count());
    r.dz_error += kSecondOrder * chain * kF64 * size;
    r.dz_x_error += kSecondOrder * (chain + 2) * kF64 * size_x;
    return r;
  }

  void add_element(Expected& r, int64_t g, int64_t c, size_t i, Real weight) const {
    const Statistics s = statistics(g, c);
    const Affine a = affine(p_, g, c);
    const Gradient dz = gradient(s, a, i);
    const Real stored = kSecondOrder * (dz.doubt + e_.o * std::fabs(dz.dz));
    r.dresidual.add(dz.dz, p_.config().activation == BNORM_IDENTITY ? 0 : stored + e_.tiny_y);
    const Real gain = a.scale * s.inv_std, u = e_.u;
    Real dx = dz.dz * gain, bound = std::fabs(dx) * (s.gain_error + u) + dz.doubt * std::fabs(gain);
    if (!p_.config().frozen && weight > 0) {
      const Sums& sum = sums_[static_cast<size_t>(g * k_.c + c)];
      const Real count = counts_[static_cast<size_t>(g)] / weight, d = static_cast<Real>(p_.inputs().x[i]) - s.mean;
      const Real counts = count_roundoffs(p_) * kF64;
      const Real rest = u * std::fabs(s.mean), steep = gain * s.inv_std * s.inv_std / count;
      const Real slope = std::fabs(steep * sum.dz_x), level = std::fabs(gain * sum.dz / count);
      const Real inner = -d * steep * sum.dz_x - gain * sum.dz / count;
      bound += std::fabs(d) * slope * (s.gain_error + u + 5 * kF64 + counts) + (std::fabs(d) + rest) * slope * 2 * u;
      bound += level * (s.gain_error + 4 * kF64 + counts) + rest * slope * 2 * kF64 + (level + rest * slope) * u;
      bound += (p_.config().weights == Weights::kNone ? 1 : 2) * u * std::fabs(inner);
      bound += std::fabs(gain) * sum.dz_error / count + std::fabs(steep * d) * sum.dz_x_error;
      dx += inner;
      bound += u * std::fabs(dx);
    }
    bound += e_.i * (std::fabs(dx) + bound);
    r.dx.add(dx, kSecondOrder * bound + e_.tiny_dx);
  }

  void add_parameters(Expected& r) const {
    const int64_t sets = p_.config().params_per_group ? k_.g : 1;
    for (int64_t set = 0; set < sets; ++set)
      for (int64_t c = 0; c < k_.c; ++c) {
        Real dshift = 0, dscale = 0, dshift_error = 0, dscale_error = 0, size = 0, size_x = 0;
        const bool one = p_.config().params_per_group;
        for (int64_t g = one ? set : 0; g < (one ? set + 1 : k_.g); ++g) {
          const Statistics s = statistics(g, c);
          const Sums& sum = sums_[static_cast<size_t>(g * k_.c + c)];
          dshift += sum.dz;
          dscale += sum.dz_x * s.inv_std;
          size += std::fabs(sum.dz);
          size_x += std::fabs(sum.dz_x * s.inv_std);
          dshift_error += sum.dz_error;
          dscale_error += sum.dz_x_error * s.inv_std;
        }
        const Real own = p_.config().frozen ? 3 * e_.v : 0;  // of inv_std
        dshift_error += size * static_cast<Real>(k_.g) * kF64;
        dscale_error += size_x * (static_cast<Real>(k_.g + 2) * kF64 + own);
        dshift_error += e_.p * (std::fabs(dshift) + dshift_error);
        dscale_error += e_.p * (std::fabs(dscale) + dscale_error);
        if (p_.has(kNoDshift)) r.dshift.add(dshift, kSecondOrder * dshift_error + e_.tiny_p);
        if (p_.has(kNoDscale)) r.dscale.add(dscale, kSecondOrder * dscale_error + e_.tiny_p);
      }
  }

  const Problem& p_;
  const Shape& k_;
  Roundoffs e_;
  Activation f_;
  std::vector<Sums> sums_;
  std::vector<Real> counts_;
};

}  // namespace

Expected expect_backward(const Problem& problem) { return Backward(problem).expect(); }

}  // namespace bnorm_tests
