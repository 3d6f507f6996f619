// SPDX-License-Identifier: Apache-2.0
// What is computed on 16 lanes, whatever they hold: two reductions (Moments, GradientSums) and two maps (Normalize,
// Gradient). The families (rows, columns, scattered) bring the lanes and coefficients.
#pragma once

/// Coefficients of 16 lanes; an operation loads those it names, the compiler drops the rest.
template <class A>
struct Coefficients {
  Lanes<double> mean;
  Lanes<A> value[kCoefficients];
  Lanes<A> lower;
};

/// Coefficient arrays, indexed by channel or by lane.
template <class A>
struct CoefficientArrays {
  const double* mean;
  const A* value[kCoefficients];
  A lower;
};

template <class A>
static inline CoefficientArrays<A> arrays_of(const Tile& t) {
  CoefficientArrays<A> r;
  r.mean = t.mean;
  for (int k = 0; k < kCoefficients; ++k) r.value[k] = static_cast<const A*>(t.coefficient[k]);
  r.lower = static_cast<A>(t.lower);
  return r;
}

/// The same coefficients in every lane: those of channel c.
template <class Op, class A>
static inline Coefficients<A> broadcast_coefficients(const CoefficientArrays<A>& from, int64_t c) {
  Coefficients<A> r;
  if constexpr (Op::uses_mean) r.mean = Lanes<double>::broadcast(from.mean[c]);
  each<Op::coefficient_begin, Op::coefficient_end>([&](auto k) { r.value[k] = Lanes<A>::broadcast(from.value[k][c]); });
  r.lower = Lanes<A>::broadcast(from.lower);
  return r;
}

/// A lane's own coefficients each, from lane l, of which `left` exist: what lies behind them may be another group's,
/// and another thread may be writing it.
template <class Op, class A>
static inline BNORM_IN_LOOP Coefficients<A> load_coefficients(const CoefficientArrays<A>& from, int64_t l,
                                                              int64_t left) {
  Coefficients<A> r;
  if (left >= 16) {
    if constexpr (Op::uses_mean) r.mean = Lanes<double>::load(from.mean + l);
    each<Op::coefficient_begin, Op::coefficient_end>([&](auto k) { r.value[k] = Lanes<A>::load(from.value[k] + l); });
  } else {
    if constexpr (Op::uses_mean) r.mean = Lanes<double>::load_first(from.mean + l, left);
    each<Op::coefficient_begin, Op::coefficient_end>(
        [&](auto k) { r.value[k] = Lanes<A>::load_first(from.value[k] + l, left); });
  }
  r.lower = Lanes<A>::broadcast(from.lower);
  return r;
}

template <class A>
static inline Lanes<A> normalized(const Lanes<A>& x, const Coefficients<A>& k) {
  return (x - k.value[kCenter]) * k.value[kGain] + k.value[kOffset];
}

/// Two summands of each lane, f64.
struct Summands {
  Lanes<double> first, second;
};

/// 16 elements that a reduction reads, as they are and widened. It takes what it needs, the compiler drops the rest.
template <class T>
struct Input {
  Lanes<typename Element<T>::Arithmetic> narrow;
  Lanes<double> wide;

  static inline BNORM_IN_LOOP Input load(const T* p) { return {Element<T>::load(p), Element<T>::load_wide(p)}; }
  static inline BNORM_IN_LOOP Input load_first(const T* p, int64_t n) {
    const auto narrow = Element<T>::load_first(p, n);
    return {narrow, widen(narrow)};
  }
};

/// What reductions have in common: they write no tensor.
struct Reduction {
  static constexpr Tensor writes[] = {kTensors};
  static constexpr int write_count = 0;
  static constexpr bool uses_mean = true;
};

/// First, second: d = x - pivot and d * d. The pivot stands in the place of the mean.
template <class T>
struct Moments : Reduction {
  using Type = T;
  using A = typename Element<T>::Arithmetic;
  static constexpr Tensor reads[] = {kX};
  static constexpr int read_count = 1;
  static constexpr bool takes_pivot = true;
  // f64 data has no wider type for d: a second pass over the block takes the block's mean as pivot.
  static constexpr int passes = sizeof(T) == 8 ? 2 : 1;
  static constexpr int coefficient_begin = 0, coefficient_end = 0;

  static inline BNORM_IN_LOOP Summands summands(const Input<T>* in, const Coefficients<A>& k) {
    const Lanes<double> d = in[0].wide - k.mean;
    return {d, d * d};
  }
  /// Sums of `count` values -> mean, and in the last pass M2, for some channels.
  static void finish(double count, const double* __restrict pivot, double* __restrict first, double* __restrict second,
                     int64_t channels) {
    for (int64_t j = 0; j < channels; ++j) {
      const double shift = first[j] / count;
      const double m2 = second[j] - first[j] * shift;
      first[j] = pivot[j] + shift;
      second[j] = m2 < 0 ? 0 : m2;  // rounding only; NaN stays
    }
  }
};

/// dz from dy: activation'(z) is 1 or 0.
template <Mask mask, class A>
static inline Lanes<A> masked_gradient(const Lanes<A>& dy, const Lanes<A>& x_or_y, const Coefficients<A>& k) {
  if constexpr (mask == kMaskNone) return dy;
  const Lanes<A> z = mask == kMaskX ? normalized(x_or_y, k) : x_or_y;
  return Lanes<A>::less_equal_select(z, k.lower, Lanes<A>::broadcast(0), dy);
}

/// First, second: dz and dz * (x - mean).
template <class T, Mask mask>
struct GradientSums : Reduction {
  using Type = T;
  using A = typename Element<T>::Arithmetic;
  static constexpr Tensor reads[] = {kX, kDy, kY};
  static constexpr int read_count = mask == kMaskY ? 3 : 2;
  static constexpr bool takes_pivot = false;
  static constexpr int passes = 1;
  static constexpr int coefficient_begin = kCenter, coefficient_end = mask == kMaskX ? kOffset + 1 : kCenter;

  static inline BNORM_IN_LOOP Summands summands(const Input<T>* in, const Coefficients<A>& k) {
    const Lanes<double> dz = wide_gradient(in, k);
    return {dz, dz * (in[0].wide - k.mean)};
  }
  static Lanes<double> wide_gradient(const Input<T>* in, const Coefficients<A>& k) {
    if constexpr (mask == kMaskNone) return in[1].wide;
    return widen(masked_gradient<mask>(in[1].narrow, in[mask == kMaskY ? 2 : 0].narrow, k));
  }
  static void finish(double, const double*, double*, double*, int64_t) {}
};

/// y = activation((x - center) * gain + offset (+ residual)).
template <class T, bool residual>
struct Normalize {
  using Type = T;
  using A = typename Element<T>::Arithmetic;
  static constexpr Tensor reads[] = {kX, kResidual};
  static constexpr int read_count = residual ? 2 : 1;
  static constexpr Tensor writes[] = {kY};
  static constexpr int write_count = 1;
  static constexpr bool uses_mean = false;
  static constexpr int coefficient_begin = kCenter, coefficient_end = kOffset + 1;

  static inline BNORM_IN_LOOP void apply(const Lanes<A>* in, const Coefficients<A>& k, Lanes<A>* out) {
    Lanes<A> z = normalized(in[0], k);
    if constexpr (residual) z = z + in[1];
    out[0] = Lanes<A>::less_select(z, k.lower, k.lower, z);
  }
};

/// dx = dz * gain + ((x - center) * slope + bias), frozen: dz * gain; dresidual = dz.
template <class T, Mask mask, bool frozen>
struct Gradient {
  using Type = T;
  using A = typename Element<T>::Arithmetic;
  static constexpr bool reads_x = !frozen || mask == kMaskX;
  static constexpr Tensor reads[] = {kDy, reads_x ? kX : kY, kY};
  static constexpr int read_count = 1 + (reads_x ? 1 : 0) + (mask == kMaskY ? 1 : 0);
  static constexpr Tensor writes[] = {kDx, kDresidual};
  static constexpr int write_count = 2;
  static constexpr bool uses_mean = false;
  static constexpr int coefficient_begin = mask == kMaskX || !frozen ? kCenter : kGain;
  static constexpr int coefficient_end = frozen ? (mask == kMaskX ? kOffset + 1 : kGain + 1) : kBias + 1;

  static inline BNORM_IN_LOOP void apply(const Lanes<A>* in, const Coefficients<A>& k, Lanes<A>* out) {
    const Lanes<A> dz = masked_gradient<mask>(in[0], in[mask == kMaskY ? read_count - 1 : reads_x], k);
    out[0] = dz * k.value[kGain];
    if constexpr (!frozen) out[0] = out[0] + ((in[1] - k.value[kCenter]) * k.value[kSlope] + k.value[kBias]);
    out[1] = dz;
  }
};
