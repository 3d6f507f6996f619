// SPDX-License-Identifier: Apache-2.0
// Bounds, to first order, with every operation rounded once. u: unit roundoff of the arithmetic type A (2^-24, or 2^-53
// for f64 data), w: 2^-53 (f64), v: of the wider of param_type and A, p: of param_type, t: of stats_type, o: of the
// output as stored (bf16: 2^-8, f16: 2^-11; else 0), i: of dx as stored. The factor kSecondOrder covers products of two
// roundoffs, `tiny` what underflows.
//
// Coefficients. inv_std from running statistics: epsilon and the sum are rounded to v (halved by the root), root and
// quotient, in f64 Newton's last step and its sum: 3 v. gain = scale * inv_std: one v more, then u on storing: r = 4 v
// + u. From saved statistics inv_std is given, the product is in f64: r = w + u. offset = shift - (mean - center) *
// gain uses the rounded gain: product and difference w or v, storing u.
//
// y = (x - center) * gain + offset. Difference and product: 2 u of |x - center| |gain|; sum: u of |z|; r acts on
// |x - mean| |gain|, since offset takes the same gain. A residual adds one u of |z|; activations stretch it at most by
// their steepest slope and add their own error (activation.hh); storing: o.
//
// Moments, f64. D = max |x - mean|; pivots and deltas lie within 2 D. A summand goes through at most A = additions()
// additions in its block; difference and division by n make (A + 2) w of the mean |d|. Raw sums of f32 and bf16 data
// hold the mean too, as long as it is at most 64 deviations: R = min(|mean|, 64 D), in place of the pivot. One merge of
// the tree (L levels) rounds delta, product and sum. So  E_mean = w ((2 A + 4 + 8 L) D + (A + 2) R + (L + 2) (|mean| +
// D)). M2 of a block is sum(d^2) - sum(d)^2 / n, both at most n ((2 D)^2 + R^2), with A + 4 and 2 A + 5 w; a merge adds
// 4 w of M2 and 5 w of delta^2; 1 / M and the product round once each; a wrong mean enters delta: E_var = w ((3 A + 9)
// (4 D^2 + R^2) + (36 L + 5) D^2) + 4 D E_mean + E_mean^2. inv_std: half of E_var / (var + epsilon), half a w of that
// sum, w each of the last step of Newton and its sum: 4 w with those of var, then t. Running: difference, product, sum
// in f64, then p, as often as there are updates. Weights: one product more; the counts of blocks and of all have
// A + 3 L + 4 w at most (count_roundoffs), which act on their means and on the ratios that weigh them: as many on A.
//
// Gradient sums: chains as above, L levels, G groups: dshift (A + L + G) w of sum |dz|, dscale 4 w more of
// sum |dz (x - mean)| |inv_std|, or of raw sums (is_raw) of sum (|dz x| + |dz mean|) |inv_std|; on storing p. Where z
// is nearer to a kink of the activation than its own bound, activation'(z) may fall either way: such dy, times the
// jump, are added to the bounds, and elsewhere dy times what that bound and the derivative's own error may change. dx =
// dz gain + ((x - center) slope + bias), slope = -gain inv_std^2 sum(dz (x - mean)) / M with r + u + 5 w, bias = -gain
// sum(dz) / M - (mean - center) slope with r + 4 w on the first term, 2 w on the second, u on storing.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "problem.hh"

namespace bnorm_tests {

using Real = long double;

constexpr Real kF64 = 0x1p-53L;
constexpr Real kSecondOrder = 1 + 0x1p-6L;

/// Half of the smallest number.
inline Real smallest(bnorm_type type) {
  constexpr Real halves[] = {0, 0x1p-150L, 0x1p-1075L, 0x1p-134L, 0x1p-25L};
  return halves[type];
}

inline bool is_16_bit(bnorm_type type) { return type == BNORM_BF16 || type == BNORM_F16; }

struct Roundoffs {
  Real u, v, p, t, o, i;
  Real tiny_y, tiny_dx, tiny_p;  // what underflows on storing y and dresidual, dx, and parameters
};

inline Roundoffs roundoffs(const Case& k) {
  const auto stored = [](bnorm_type type) { return is_16_bit(type) ? roundoff(type) : 0; };
  const auto tiny = [](bnorm_type type) { return 16 * smallest(type); };
  Roundoffs r;
  r.u = k.data == BNORM_F64 ? kF64 : 0x1p-24L;
  r.p = roundoff(k.param);
  r.v = std::min(r.u, r.p);
  r.t = roundoff(k.stats);
  r.o = stored(output_type(k));
  r.i = stored(k.data);
  r.tiny_y = tiny(output_type(k));
  r.tiny_dx = tiny(k.data);
  r.tiny_p = is_16_bit(k.param) ? smallest(k.param) : 0;
  return r;
}

/// One group's and channel's statistics as the coefficients take them, and how far each may be off.
struct Statistics {
  Real mean = 0, inv_std = 0, mean_error = 0, inv_std_error = 0;
  Real gain_error = 0;  // r above: relative error of gain beyond that of inv_std
};

struct Affine {
  Real scale, shift;
};

inline Affine affine(const Problem& p, int64_t g, int64_t c) {
  const size_t i = p.param_index(g, c);
  return {p.has(kNoScale) ? static_cast<Real>(p.inputs().scale[i]) : 1,
          p.has(kNoShift) ? static_cast<Real>(p.inputs().shift[i]) : 0};
}

inline Real inverse_root(Real sum) { return sum == 0 ? 0 : 1 / std::sqrt(sum); }

inline Statistics running_statistics(const Problem& p, int64_t g, int64_t c) {
  const Roundoffs e = roundoffs(p.config());
  const size_t i = p.running_index(g, c);
  Statistics s;
  s.mean = p.inputs().running_mean[i];
  s.inv_std = inverse_root(static_cast<Real>(p.inputs().running_var[i]) + static_cast<Real>(p.config().epsilon));
  s.gain_error = 4 * e.v + e.u;
  return s;
}

/// z without residual and its bound.
struct Normalized {
  Real z, bound;
};

inline Normalized normalized(const Roundoffs& e, const Statistics& s, const Affine& a, Real x) {
  const Real gain = a.scale * s.inv_std, d = x - s.mean, z = d * gain + a.shift;
  const Real rest = e.u * std::fabs(s.mean);  // |mean - center| at most
  const Real offset = std::fabs(a.shift) + rest * std::fabs(gain);
  Real bound = std::fabs(d * gain) * s.gain_error + (std::fabs(d) + rest) * std::fabs(gain) * 2 * e.u +
               rest * std::fabs(gain) * e.v + offset * (e.v + e.u) + e.u * std::fabs(z);
  bound += std::fabs(a.scale) * (s.inv_std * s.mean_error + std::fabs(d) * s.inv_std_error);
  return {z, bound};
}

/// Additions of a summand in a block of 64 strips: in its quad, of quads, and in the fold. Quads of 4 strips end with
/// their sample where S > 8.
inline Real additions(int64_t spatial) {
  if (spatial <= 8) return 8 + 16 + 3;
  return spatial <= 16 ? 2 + 64 + 3 : 4 + 32 + 3;
}

/// Levels of the merge tree: blocks hold at least 512 positions (64 strips of at least 8).
inline Real tree_levels(int64_t count) {
  Real levels = 0;
  for (int64_t blocks = count / 512 + 1; blocks > 1; blocks = (blocks + 1) / 2) ++levels;
  return levels;
}

/// Roundoffs of f64 by which the counts of weights may be off, and ratios of theirs that weigh blocks.
inline Real count_roundoffs(const Problem& p) {
  if (p.config().weights == Weights::kNone) return 0;
  return additions(p.shape().s) + 3 * tree_levels(p.shape().count()) + 4;
}

struct Count {
  Real count = 0, square = 0;
};

/// Of a group: M, and the sum of the squares of weights.
inline Count count_of(const Problem& p, int64_t g) {
  Count r;
  p.each_counted(g, 0, [&](size_t, double w) {
    r.count += static_cast<Real>(w);
    r.square += static_cast<Real>(w) * static_cast<Real>(w);
  });
  return r;
}

}  // namespace bnorm_tests
