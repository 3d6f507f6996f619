// SPDX-License-Identifier: Apache-2.0
// The error bounds of docs/numerics.md ("Bounds"), against the formulas in exact arithmetic on the same inputs.
#include <doctest/doctest.h>

#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>

#include "isas.hh"
#include "plan.hh"
#include "problem.hh"

namespace bnorm_tests::test_bounds {
namespace {

// 512 bits hold every sum and product of these inputs without rounding; only a division by M is rounded, at 2^-512.
using Exact =
    boost::multiprecision::number<boost::multiprecision::cpp_bin_float<512, boost::multiprecision::digit_base_2>,
                                  boost::multiprecision::et_off>;

constexpr double kW = 0x1p-53;
// Products of two roundoffs, which the page leaves out: 2^-8 for the 11 bits of bf16 and f32 together.
constexpr double kSecondOrder = 1 + 0x1p-7;

double size(const Exact& v) { return std::fabs(v.convert_to<double>()); }

bool is_16_bit(bnorm_type type) { return type == BNORM_BF16 || type == BNORM_F16; }

/// u, w, o and p of the page.
struct Roundoffs {
  double u, p, o;
  explicit Roundoffs(const Case& k)
      : u(k.data == BNORM_F64 ? kW : 0x1p-24), p(roundoff(k.param)), o(is_16_bit(k.data) ? roundoff(k.data) : 0) {}
};

/// A group and one of its channels.
struct Place {
  int64_t g, c;
};

template <class Body>
void each_place(const Problem& p, Body body) {
  for (int64_t g = 0; g < p.shape().g; ++g)
    for (int64_t c = 0; c < p.shape().c; ++c) body(Place{g, c}, static_cast<size_t>(g * p.shape().c + c));
}

/// The corrections of batch renormalization; without it they change nothing.
struct Renorm {
  Exact r = 1, d = 0;
};

/// One channel's part in a problem, and its coefficients as given.
struct Channel {
  const Problem& p;
  Place at;
  Exact mean, inv_std, scale, shift;
  double rest;                // |mean - center|
  double gain_roundoffs = 3;  // of z's first term: 3, or 6 where inv_std is made in the arithmetic type
  double renorm_roundoffs = 0, shift_roundoffs = 0;  // of scale * r, as often as it is a factor; of shift + scale * d
  Renorm renorm = {};

  Exact gain() const { return scale * renorm.r * inv_std; }
  Exact offset() const { return shift + scale * renorm.d; }
  template <class Visit>
  void each(Visit visit) const {
    for (int64_t n = 0; n < p.shape().n; ++n)
      for (int64_t s = 0; s < p.shape().s; ++s) visit(p.index(at.g, n, at.c, s));
  }
};

Channel channel(const Problem& p, Place at, double mean, double inv_std) {
  const size_t i = p.param_index(at.g, at.c);
  const double center = p.config().data == BNORM_F64 ? mean : static_cast<double>(static_cast<float>(mean));
  return {p, at, mean, inv_std, p.inputs().scale[i], p.inputs().shift[i], std::fabs(mean - center)};
}

/// From the statistics, and corrections if any, at i.
Channel saved_channel(const Problem& p, Place at, size_t i, const std::vector<double>& mean,
                      const std::vector<double>& inv_std, const std::vector<double>& r, const std::vector<double>& d) {
  Channel k = channel(p, at, mean[i], inv_std[i]);
  if (!p.config().renorm) return k;
  k.renorm = {r[i], d[i]};
  if (p.config().data == BNORM_F64) {
    k.renorm_roundoffs = 1;
    k.shift_roundoffs = size(k.scale * k.renorm.d) + size(k.offset());
  }
  return k;
}

/// From running statistics: inv_std to 512 bits.
Channel running_channel(const Problem& p, Place at) {
  const size_t i = p.running_index(at.g, at.c);
  Channel r = channel(p, at, p.inputs().running_mean[i], 0);
  r.inv_std = 1 / sqrt(Exact(p.inputs().running_var[i]) + Exact(p.config().epsilon));
  r.gain_roundoffs = 6;
  return r;
}

void check_close(double result, const Exact& exact, double bound) {
  CHECK(size(Exact(result) - exact) <= bound * kSecondOrder);
}

void check_y(const Channel& k, const std::vector<double>& y) {
  const Roundoffs e(k.p.config());
  const Inputs& in = k.p.inputs();
  k.each([&](size_t i) {
    const Exact t = (Exact(in.x[i]) - k.mean) * k.gain();
    const Exact affine = t + k.offset(), z = affine + (k.p.config().residual ? Exact(in.residual[i]) : Exact(0));
    const double bound =
        e.u * ((k.gain_roundoffs + k.renorm_roundoffs) * size(t) + size(k.offset()) + k.shift_roundoffs + size(affine) +
               (k.p.config().residual ? size(z) : 0) + 4 * k.rest * size(k.gain())) +
        e.o * size(z);
    check_close(y[i], k.p.config().activation == BNORM_RELU && z < 0 ? Exact(0) : z, bound);
  });
}

/// Sums of a channel and of their absolute values, and the additions that each summand goes through.
struct Sums {
  Exact dz = 0, dz_x = 0;
  double size_dz = 0, size_dz_x = 0, additions = 0;
};

Exact gradient_of_z(const Problem& p, size_t i) {
  return p.config().activation == BNORM_RELU && p.inputs().y[i] <= 0 ? Exact(0) : Exact(p.inputs().dy[i]);
}

Sums sums(const Channel& k) {
  const bool raw = is_raw(k.p.config().data, k.mean.convert_to<double>(), k.inv_std.convert_to<double>());
  Sums r;
  const int64_t spatial = k.p.shape().s;
  r.additions = spatial <= 8 ? 27 : (spatial <= 16 ? 69 : 39);  // A of the page
  k.each([&](size_t i) {
    const Exact dz = gradient_of_z(k.p, i), term = dz * (Exact(k.p.inputs().x[i]) - k.mean);
    r.dz += dz;
    r.dz_x += term;
    r.size_dz += size(dz);
    r.size_dz_x += raw ? size(dz * Exact(k.p.inputs().x[i])) + size(dz * k.mean) : size(term);
  });
  for (int64_t blocks = (k.p.shape().count() + 511) / 512; blocks > 1; blocks = (blocks + 1) / 2) ++r.additions;
  return r;
}

void check_dx(const Channel& k, const Sums& sum, const std::vector<double>& dx) {
  const Roundoffs e(k.p.config());
  const Exact count = static_cast<double>(k.p.shape().count());
  const bool frozen = k.p.config().frozen;
  const Exact slope = frozen ? Exact(0) : -k.gain() * k.inv_std * k.inv_std * sum.dz_x / count;
  const Exact bias = frozen ? Exact(0) : -k.gain() * sum.dz / count;
  const double mean_dz = sum.size_dz / count.convert_to<double>();
  const double mean_dz_x = sum.size_dz_x / count.convert_to<double>() * size(k.inv_std * k.inv_std);
  k.each([&](size_t i) {
    const Exact d = Exact(k.p.inputs().x[i]) - k.mean, direct = gradient_of_z(k.p, i) * k.gain();
    const Exact exact = direct + d * slope + bias;
    const double terms = size(d * slope) + size(bias) + k.rest * size(slope);
    double bound = e.u * (k.gain_roundoffs * size(direct) + 6 * size(d * slope) + 4 * size(bias) +
                          7 * k.rest * size(slope) + k.renorm_roundoffs * (size(direct) + terms)) +
                   5 * kW * terms + e.o * size(exact);
    if (!frozen) bound += kW * size(k.gain()) * (sum.additions * mean_dz + (sum.additions + 4) * size(d) * mean_dz_x);
    check_close(dx[i], exact, bound);
  });
}

/// dscale and dshift of a channel, or of several groups that share it, and their errors in f64 in units of kW.
struct ParamGradients {
  Exact dscale = 0, dshift = 0;
  double error_dscale = 0, error_dshift = 0;

  void add(const Channel& k, const Sums& sum) {
    const Case& config = k.p.config();
    const double groups = config.params_per_group ? 1 : static_cast<double>(k.p.shape().g);
    const double additions = sum.additions + groups - 1, of_renorm = config.renorm ? 2 : 0;
    dscale += sum.dz_x * k.inv_std * k.renorm.r + sum.dz * k.renorm.d;
    dshift += sum.dz;
    // Frozen: inv_std is made of the running variance with four roundings of f64.
    error_dscale += (additions + of_renorm + (config.frozen ? 8 : 4)) * sum.size_dz_x * size(k.inv_std * k.renorm.r) +
                    (additions + of_renorm) * sum.size_dz * size(k.renorm.d);
    error_dshift += additions * sum.size_dz;
  }
};

void check_forward(const Problem& p) {
  const Outputs trained = p.run(Operation::kTrain, BNORM_SERIAL), inferred = p.run(Operation::kInfer, BNORM_SERIAL);
  each_place(p, [&](Place at, size_t i) {
    check_y(saved_channel(p, at, i, trained.mean, trained.inv_std, trained.renorm_r, trained.renorm_d), trained.y);
    check_y(running_channel(p, at), inferred.y);
  });
}

void check_backward(const Problem& p) {
  const Inputs& in = p.inputs();
  const Outputs out = p.run(Operation::kBackward, BNORM_SERIAL);
  std::vector<ParamGradients> expected(in.scale.size());
  each_place(p, [&](Place at, size_t i) {
    const Channel k = p.config().frozen ? running_channel(p, at)
                                        : saved_channel(p, at, i, in.mean, in.inv_std, in.renorm_r, in.renorm_d);
    const Sums sum = sums(k);
    check_dx(k, sum, out.dx);
    expected[p.param_index(at.g, at.c)].add(k, sum);
  });
  const double roundoff = Roundoffs(p.config()).p;
  for (size_t i = 0; i < expected.size(); ++i) {
    const ParamGradients& e = expected[i];
    check_close(out.dscale[i], e.dscale, e.error_dscale * kW + roundoff * size(e.dscale));
    check_close(out.dshift[i], e.dshift, e.error_dshift * kW + roundoff * size(e.dshift));
  }
}

std::vector<Case> cases() {
  std::vector<Case> r;
  for (const Shape& shape :
       {Shape{1, 6, 2, 49}, Shape{1, 600, 1, 1}, Shape{1, 20, 5, 4}, Shape{1, 80, 2, 9}, Shape{3, 5, 2, 19}})
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast})
      for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16, BNORM_F16})
        for (const double mu : {0.0, 100.0, 1e7})
          for (const bnorm_type stats : {BNORM_F64, BNORM_F32}) {
            Case c;
            c.shape = shape;
            c.layout = layout;
            c.data = data;
            c.param = data == BNORM_F64 ? BNORM_F64 : BNORM_F32;
            c.stats = stats;
            c.mu = mu;
            // Statistics in f32 don't hold a mean of 1e7, nor 16-bit types its deviations: other cases then.
            if (mu == 1e7 && (is_16_bit(data) || stats == BNORM_F32)) continue;
            c.frozen = r.size() % 3 == 2;
            c.renorm = !c.frozen && r.size() % 5 >= 3;
            c.params_per_group = shape.g > 1 && r.size() % 4 >= 2;
            c.mode = r.size() % 2 == 0 ? BNORM_RUNNING_PER_GROUP : BNORM_RUNNING_MEAN;
            c.residual = r.size() % 2 == 1;
            c.activation = relu_if(c.residual);
            c.seed = r.size() + 1;
            r.push_back(c);
          }
  return r;
}

}  // namespace

// In each of 8 slots, 63 quads of two values that are too small for the sum so far are lost.
TEST_CASE("bounds: a quad of one strip a sample makes the longest chain of additions") {
  constexpr int64_t kSamples = 64, kSpatial = 16;
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = kSamples;
  d.channels = 1;
  d.spatial = kSpatial;
  const PlanPointer plan = make_plan(d);
  std::vector<float> x(kSamples * kSpatial, 0), dy(x.size(), 0x1p-54f);
  for (size_t i = 0; i < kSpatial; ++i) dy[i] = i < 8 ? 1 : 0;
  const double mean = 0, inv_std = 1;
  double sums[3] = {};
  bnorm_backward_args args = BNORM_BACKWARD_ARGS_INIT;
  args.x = x.data();
  args.dy = dy.data();
  args.mean = &mean;
  args.inv_std = &inv_std;
  REQUIRE(bnorm_backward_sums(plan.get(), &args, sums) == BNORM_OK);
  const double lost = 63 * 16 * 0x1p-54;
  CHECK(sums[1] == 8);
  CHECK(lost > 39 * kW * 8);
  CHECK(lost <= 69 * kW * 8);
}

TEST_SUITE("isa") {
  TEST_CASE("bounds: y, dx, dscale and dshift are as near to the exact formulas as docs/numerics.md says") {
    for (const Case& c : cases()) {
      const Problem p(c);
      for (const std::string& isa : {isas().front(), isas().back()}) {  // same bits: "bits: every ISA"
        const IsaScope scope(isa);
        INFO(describe(c), " on ", isa);
        check_forward(p);
        check_backward(p);
      }
    }
  }
}

}  // namespace bnorm_tests::test_bounds
