// SPDX-License-Identifier: Apache-2.0
// What is computed on 16 lanes, whatever they hold: two reductions (Moments, GradientSums) and two maps (Normalize,
// Gradient). The families (rows, columns, scattered) bring the operands and coefficients.
#pragma once

template <class A>
static inline BNORM_IN_STRIP Lanes<A> normalized(const Lanes<A>& x, const Coefficients<A>& k) {
  return (x - k.value[kCenter]) * k.value[kGain] + k.value[kOffset];
}

template <class A, Style style>
static inline BNORM_IN_STRIP Lanes<A> activated(const Lanes<A>& z, const FormLanes<A, style>& form) {
  if (form.is_curve()) return form.curved(z);
  if (form.shape() == kRelu) return z.at_least(form.lower);
  if (form.shape() == kClip) return z.at_least(form.lower).at_most(form.upper);
  return Lanes<A>::less_select(z, Lanes<A>::broadcast(0), z * form.parameter, z);
}

/// dy * activation'(v), v being z or y.
template <class A, Style style>
static inline BNORM_IN_LOOP Lanes<A> sloped(const Lanes<A>& dy, const Lanes<A>& v, const FormLanes<A, style>& form) {
  if (form.is_curve()) return dy * form.curved(v);
  if (form.shape() == kLeaky) return Lanes<A>::less_equal_select(v, Lanes<A>::broadcast(0), dy * form.parameter, dy);
  const Lanes<A> above = Lanes<A>::zero_if_less_equal(v, form.lower, dy);
  if (style != kBent && form.shape() == kRelu) return above;
  return Lanes<A>::zero_if_less_equal(form.upper, v, above);
}

/// Where a piecewise linear activation leaves z as it is, and its derivative is 1.
template <class A, Style style>
static inline BNORM_IN_LOOP LaneBits passed(const Lanes<A>& z, const FormLanes<A, style>& form) {
  const bool is_leaky = form.shape() == kLeaky;
  LaneBits stopped = Lanes<A>::less_equal(z, is_leaky ? Lanes<A>::broadcast(0) : form.lower);
  if (form.shape() == kClip) stopped |= Lanes<A>::less_equal(form.upper, z);
  return ~stopped;
}

constexpr int kMostOperands = 4;

/// What gradients read: x, dy, kOther if the derivative is of that, and weights.
template <Style style>
struct GradientReads {
  static constexpr int read_count =
      style == kBare || style == kActivated || style == kBent ? 2 : (style == kWeighted ? 4 : 3);
  static constexpr int reads[] = {kX, kDy, kOther, kWeights};
  static constexpr int other = read_count > 2 ? 2 : 1;  // those without have no use for it

  template <class FormLanes>
  static bool is_read(int r, const FormLanes& form) {
    return r != 2 || form.derivative() > kOfMask;
  }
};

/// x, or what stands for it: z.
template <class A, Style style, class Operands>
static inline BNORM_IN_LOOP Lanes<A> input_or_z(const Operands& in, const FormLanes<A, style>& form) {
  const Lanes<A> x = in.template narrow<0>();
  return form.from_output() ? form.inverted(x) : x;
}

/// dz from dy.
template <class A, Style style, class Operands>
static inline BNORM_IN_LOOP Lanes<A> activation_gradient(const Operands& in, const Coefficients<A>& k,
                                                         const FormLanes<A, style>& form) {
  constexpr int other = GradientReads<style>::other;
  const Lanes<A> dy = in.template narrow<1>();
  if (form.derivative() == kOne) return dy;
  if (form.from_mask()) {
    const Lanes<A> zero = Lanes<A>::broadcast(0);
    return Lanes<A>::bit_select(in.bits(), dy, form.shape() == kLeaky ? dy * form.parameter : zero);
  }
  Lanes<A> v;  // z or y
  if (form.derivative() == kOfY) {
    v = in.template narrow<other>();
  } else {
    v = normalized(in.template narrow<0>(), k);
    if (form.derivative() == kOfXPlus) v = v + in.template narrow<other>();
  }
  return sloped(dy, v, form);
}

/// What a reduction takes from each lane, f64: it sums `term`, and `term * factor`.
template <class V>
struct Terms {
  V term, factor;
};

/// Two sums: of terms, and of terms times their factors.
template <class V>
struct Sums {
  V first, second;

  static Sums zero() { return {V::broadcast(0), V::broadcast(0)}; }
  static Sums of(const Terms<V>& a) { return {a.term, a.term * a.factor}; }

  /// Grows by one term. `exact`: products have no rounding, so one fused with the addition has the bits of two
  /// operations.
  template <bool exact>
  inline BNORM_IN_LOOP void grow(const Terms<V>& a) {
    first = first + a.term;
    second = exact ? V::exact_product_plus(a.term, a.factor, second) : second + a.term * a.factor;
  }
  inline BNORM_IN_LOOP void add(const Sums& a) {
    first = first + a.first;
    second = second + a.second;
  }
};

/// What all operations have.
template <class T, Style which>
struct Operation {
  using Type = T;
  using A = typename Element<T>::Arithmetic;
  using Form = FormLanes<A, which>;
  static constexpr Style style = which;
  static constexpr bool is_weighted = style == kWeighted;
  static constexpr bool has_mask = Form::has_mask;
  static constexpr bool is_f64 = sizeof(A) == sizeof(double);
  static constexpr bool has_halves = !Element<T>::is_f32 && !is_f64;
  static constexpr bool has_twins = has_halves && style > kCurved;
  // Parts of lines, where runs are streamed. Curves take longer than memory, masks are not streamed from within a line.
  static constexpr bool shares_lines = style > kCurved;
  // Whether rows that are not streamed have loops of their own, without what streams, masks and curves take. Where it
  // would make kernels exceed 1 MiB, only the most frequent styles have: f64 what is above kPiecewise, and where
  // registers are small f32 some of that. 16-bit scalars gain nothing.
  static constexpr bool is_small = Part<float>::size < 8;
  static constexpr Style first_lean = has_halves || !(is_small || is_f64) ? kPiecewise : kBare;
  static constexpr bool has_lean_rows =
      (style >= first_lean) && !(is_small && style >= kBent) && !(has_halves && Part<float>::size == 1);
  static constexpr bool weights_by_row = false;
};

/// An operation where lanes are channels, each row of which has one weight.
template <class Op>
struct ByRow : Op {
  static constexpr bool weights_by_row = true;
};

/// v where the weight is above 0, else 0: what has no weight is left out, not multiplied by 0.
template <class V>
static inline BNORM_IN_LOOP V counted(const V& weight, const V& v) {
  return V::less_select(V::broadcast(0), weight, v, V::broadcast(0));
}

/// What reductions have in common: they write no tensor, and take the pivot from x, their first operand, unless it is 0
/// (docs/numerics.md).
template <class T, Style style>
struct Reduction : Operation<T, style> {
  using A = typename Element<T>::Arithmetic;
  static constexpr int writes[] = {kTensors};
  static constexpr int write_count = 0;
  // The strips of a quad in rows. With curves, and where operands of each may be of any type in any style, it is too
  // much code: bf16 backward through ReLU of 8x64x64 takes 0.95 without, of 8x64x784 0.99 (AVX2). Where registers are
  // small, too many of them: SSE4.2 trains 8x64x784 in 0.91 of the time without, though backward through ReLU takes
  // 1.03.
  static constexpr bool quads_unrolled =
      Part<float>::size >= 8 && (style >= (Reduction::has_halves ? kBare : kPiecewise));
  // Whether rows that end with an octet at most go without the zeros behind it. Moments and gradient sums of 8x64x17
  // take 0.88 and 0.91 of the time so, of 8x64x49 0.95 (AVX2); but generic ones 1.25 to 1.36 and 1.1.
  static constexpr bool drops_empty_octets = !Reduction::is_small;
  // Products of raw f64 data would not be exact: all have a pivot. With weights and curves one loop serves both, around
  // 0 too.
  static constexpr bool always_pivoted = Reduction::is_f64;
  static constexpr bool always_centered = always_pivoted || style <= kCurved;
  template <bool centered>
  static constexpr bool exact = !centered && style != kWeighted;

  template <bool centered, class Operands>
  static inline BNORM_IN_LOOP Lanes<double> distance(const Operands& in, const Lanes<double>& pivot) {
    if constexpr (centered) return in.template wide<0>() - pivot;
    return in.template wide<0>();
  }
};

/// Calls body(quotient), where quotient(v) is v / divisor: for a power of two, as full blocks hold values, times its
/// inverse, which is exact.
template <class Body>
static inline BNORM_IN_LOOP void with_quotient(double divisor, Body body) {
  constexpr uint64_t fraction = (uint64_t{1} << 52) - 1;
  const double inverse = 1 / divisor;
  if ((__builtin_bit_cast(uint64_t, divisor) & fraction) == 0)
    body([inverse](double v) { return v * inverse; });
  else
    body([divisor](double v) { return v / divisor; });
}

// Raw sums may lose as many bits to the mean as half of log2 of this: |mean| is at most 64 deviations.
constexpr double kRawLimit = 4096;

/// First, second: d = x - pivot and d * d, times the weight.
template <class T, Style style = kBare>
struct Moments : Reduction<T, style> {
  using A = typename Element<T>::Arithmetic;
  using Form = typename Moments::Form;
  static constexpr int reads[] = {kX, kWeights};
  static constexpr int read_count = style == kWeighted ? 2 : 1;
  static constexpr int coefficient_begin = 0, coefficient_end = 0;
  static constexpr bool zeros_make_zeros = true;  // as raw terms
  static constexpr bool has_mask = false;
  // Over the rows of a quad: smaller registers are too few.
  static constexpr bool unrolled = Part<double>::size == 8 && style != kWeighted;

  static bool is_read(int, const Form&) { return true; }

  template <bool centered, class Operands>
  static inline BNORM_IN_LOOP Terms<Lanes<double>> terms(const Operands& in, const Coefficients<A>&, const Form&,
                                                         const Lanes<double>& pivot) {
    const Lanes<double> d = Moments::template distance<centered>(in, pivot);
    if constexpr (style != kWeighted) return {d, d};
    const Lanes<double> weight = widen(in.template weights<read_count - 1>()), of_weight = counted(weight, d);
    return {weight * of_weight, of_weight};
  }
  /// Of the sums of block b: 0, f64 data: its first value, if that has a weight. Returns whether any is not 0, as the
  /// next but one does.
  static bool first_pivots(const Tile& t, int64_t c, int64_t channels, int64_t b, double* pivot) {
    for (int64_t j = 0; j < channels; ++j) pivot[j] = 0;
    if constexpr (Moments::always_pivoted) {
      const Position p = strip_position(t.order, b * kBlockStrips);
      if (style == kWeighted && !(*Element<T>::at(t.tensor[kWeights], p.n, 0, p.s) > 0)) return true;
      for (int64_t j = 0; j < channels; ++j) pivot[j] = *Element<T>::at(t.tensor[kX], p.n, c + j, p.s);
    }
    return Moments::always_pivoted;
  }
  /// Sums of `count` values -> mean and M2; 0 of none.
  static void finish(const Tile&, int64_t, double count, const double* __restrict pivot, double* __restrict first,
                     double* __restrict second, int64_t channels) {
    if (style == kWeighted && count == 0) count = 1;  // sums are 0 then
    with_quotient(count, [&](auto quotient) {
      for (int64_t j = 0; j < channels; ++j) {
        const double shift = quotient(first[j]), m2 = second[j] - first[j] * shift;
        first[j] = pivot[j] + shift;
        second[j] = m2 < 0 ? 0 : m2;  // rounding only; NaN stays
      }
    });
  }
  /// Where sums have to be taken once more: with the mean as pivot, else 0. A single value's without weight are exact.
  static bool second_pivots(double count, const double* __restrict mean, const double* __restrict m2, int64_t channels,
                            double* __restrict pivot) {
    if (style == kWeighted ? count == 0 : count == 1) return false;
    int64_t found = 0;
    for (int64_t j = 0; j < channels; ++j) {
      const bool needed = Moments::always_pivoted || mean[j] * mean[j] * count > kRawLimit * m2[j];
      pivot[j] = needed ? mean[j] : 0;
      found += needed;
    }
    return found > 0;
  }
};

/// First, second: dz and dz * (x - mean).
template <class T, Style style>
struct GradientSums : Reduction<T, style>, GradientReads<style> {
  using A = typename Element<T>::Arithmetic;
  using Form = typename GradientSums::Form;
  static constexpr bool makes_z = style != kBare && style != kWithResidual;
  static constexpr int coefficient_begin = kCenter, coefficient_end = makes_z ? kOffset + 1 : kCenter;
  static constexpr bool zeros_make_zeros = style > kCurved;  // else 0 times a slope that may be NaN
  static constexpr bool unrolled = Moments<T>::unrolled && style > kPiecewise;

  template <bool centered, class Operands>
  static inline BNORM_IN_LOOP Terms<Lanes<double>> terms(const Operands& in, const Coefficients<A>& k, const Form& form,
                                                         const Lanes<double>& pivot) {
    Terms<Lanes<double>> all = {wide_gradient(in, k, form), distance<centered>(in, form, pivot)};
    if constexpr (style != kWeighted) return all;
    const Lanes<double> weight = widen(in.template weights<GradientSums::read_count - 1>());
    return {counted(weight, all.term), counted(weight, all.factor)};
  }
  /// Of x, or of what stands for it, to the pivot.
  template <bool centered, class Operands>
  static inline BNORM_IN_LOOP Lanes<double> distance(const Operands& in, const Form& form, const Lanes<double>& pivot) {
    if (!form.from_output()) return Reduction<T, style>::template distance<centered>(in, pivot);
    const Lanes<double> z = widen(input_or_z(in, form));
    return centered ? z - pivot : z;
  }
  template <class Operands>
  static inline BNORM_IN_LOOP Lanes<double> wide_gradient(const Operands& in, const Coefficients<A>& k,
                                                          const Form& form) {
    if (form.derivative() == kOne) return in.template wide<1>();
    return widen(activation_gradient(in, k, form));
  }
  static bool first_pivots(const Tile& t, int64_t c, int64_t channels, int64_t, double* __restrict pivot) {
    int64_t found = 0;
    for (int64_t j = 0; j < channels; ++j) {
      const double mean = t.mean[c + j], deviations = mean * t.inv_std[c + j];
      const bool needed = GradientSums::always_pivoted || deviations * deviations > kRawLimit;
      pivot[j] = needed ? mean : 0;
      found += needed;
    }
    return found > 0;
  }
  static void finish(const Tile& t, int64_t c, double, const double* pivot, double* __restrict first,
                     double* __restrict second, int64_t channels) {
    for (int64_t j = 0; j < channels; ++j) {
      const double mean = t.mean[c + j];
      second[j] = pivot[j] == mean ? second[j] : second[j] - mean * first[j];
    }
  }
  static bool second_pivots(double, const double*, const double*, int64_t, double*) { return false; }
};

/// y = activation((x - center) * gain + offset (+ residual)).
template <class T, Style style>
struct Normalize : Operation<T, style> {
  using A = typename Element<T>::Arithmetic;
  using Form = typename Normalize::Form;
  static constexpr int reads[] = {kX, kResidual};
  static constexpr int read_count = (style > kPiecewise) && style != kWithResidual ? 1 : 2;
  static constexpr int writes[] = {kY};
  static constexpr int write_count = 1;
  static constexpr int coefficient_begin = kCenter, coefficient_end = kOffset + 1;
  // Whether a single position has a loop of its own: in the most frequent styles, for serving. In all that rows in
  // cache have, gradients included, it would be 36 KB (AVX2).
  static constexpr bool has_lean_position = !Normalize::is_f64 && (style > kPiecewise);

  static bool is_read(int r, const Form& form) { return r == 0 || form.residual(); }
  static int used_end(const Form&) { return coefficient_end; }

  template <class Operands>
  static inline BNORM_IN_STRIP void apply(const Operands& in, const Coefficients<A>& k, const Form& form,
                                          Lanes<A>* out) {
    Lanes<A> z = normalized(in.template narrow<0>(), k);
    if (form.residual()) z = z + in.template narrow<read_count - 1>();
    if constexpr (Normalize::has_mask)
      if (in.mask) in.keep(passed(z, form));
    out[0] = activated(z, form);
  }
};

/// dx = dz * gain + ((x - center) * slope + bias) (times the weight), frozen: dz * gain; dresidual = dz.
template <class T, Style style>
struct Gradient : Operation<T, style>, GradientReads<style> {
  using A = typename Element<T>::Arithmetic;
  using Form = typename Gradient::Form;
  static constexpr int writes[] = {kDx, kDresidual};
  static constexpr int write_count = 2;
  static constexpr int coefficient_begin = kCenter, coefficient_end = kBias + 1;
  static constexpr bool has_lean_position = false;
  // Where registers are small it is too much code: SSE4.2 would exceed 1 MiB.
  static constexpr bool has_twins = Operation<T, style>::has_twins && Part<float>::size >= 8;

  /// Frozen calls have neither slope nor bias.
  static int used_end(const Form& form) { return form.frozen() ? kSlope : coefficient_end; }

  template <class Operands>
  static inline BNORM_IN_STRIP void apply(const Operands& in, const Coefficients<A>& k, const Form& form,
                                          Lanes<A>* out) {
    const Lanes<A> dz = activation_gradient(in, k, form);
    out[0] = dz * k.value[kGain];
    if (!form.frozen()) {
      Lanes<A> rest = (input_or_z(in, form) - k.value[kCenter]) * k.value[kSlope] + k.value[kBias];
      if constexpr (style == kWeighted) {
        const Lanes<A> weight = in.template weights<Gradient::read_count - 1>();
        rest = counted(weight, weight * rest);
      }
      out[0] = out[0] + rest;
    }
    out[1] = dz;
  }
};
