// SPDX-License-Identifier: Apache-2.0
// What is computed on 16 lanes, whatever they hold: two reductions (Moments, GradientSums) and two maps (Normalize,
// Gradient). The families (rows, columns, scattered) bring the lanes and coefficients.
#pragma once

template <class T>
static inline T* at(const View& v, int64_t n, int64_t c, int64_t s) {
  return static_cast<T*>(v.data) + (n * v.n + c * v.c + s * v.s);
}

/// Coefficients of 16 lanes; an operation loads those it names, the compiler drops the rest.
template <class A>
struct Coefficients {
  Lanes<A> value[kCoefficients];
  Lanes<A> lower;
};

/// Coefficient arrays, indexed by channel or by lane.
template <class A>
struct CoefficientArrays {
  const A* value[kCoefficients];
  A lower;
};

/// Those of an operation, beginning with channel c.
template <class Op, class A = typename Op::A>
static inline CoefficientArrays<A> arrays_of(const Tile& t, int64_t c) {
  CoefficientArrays<A> r;
  each<Op::coefficient_begin, Op::coefficient_end>(
      [&](auto k) { r.value[k] = static_cast<const A*>(t.coefficient[k]) + c; });
  r.lower = static_cast<A>(t.lower);
  return r;
}

/// The same coefficients in every lane: those of channel c.
template <class Op, class A>
static inline Coefficients<A> broadcast_coefficients(const CoefficientArrays<A>& from, int64_t c) {
  Coefficients<A> r;
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
  each<Op::coefficient_begin, Op::coefficient_end>([&](auto k) {
    r.value[k] = left >= 16 ? Lanes<A>::load(from.value[k] + l) : Element<A>::load_first(from.value[k] + l, left);
  });
  r.lower = Lanes<A>::broadcast(from.lower);
  return r;
}

template <class A>
static inline Lanes<A> normalized(const Lanes<A>& x, const Coefficients<A>& k) {
  return (x - k.value[kCenter]) * k.value[kGain] + k.value[kOffset];
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

/// What reductions have in common: they write no tensor, and take the pivot from x unless it is 0 (docs/numerics.md).
template <class T>
struct Reduction {
  using Type = T;
  using A = typename Element<T>::Arithmetic;
  static constexpr Tensor writes[] = {kTensors};
  static constexpr int write_count = 0;
  // Products of raw f64 data would not be exact.
  static constexpr bool always_centered = sizeof(T) == sizeof(double);
  template <bool centered>
  static constexpr bool exact = !centered;

  template <bool centered>
  static inline BNORM_IN_LOOP Lanes<double> distance(const Input<T>& x, const Lanes<double>& pivot) {
    if constexpr (centered) return x.wide - pivot;
    return x.wide;
  }
};

// Raw sums may lose as many bits to the mean as half of log2 of this: |mean| is at most 64 deviations.
constexpr double kRawLimit = 4096;

/// First, second: d = x - pivot and d * d.
template <class T>
struct Moments : Reduction<T> {
  using A = typename Element<T>::Arithmetic;
  static constexpr Tensor reads[] = {kX};
  static constexpr int read_count = 1;
  static constexpr int coefficient_begin = 0, coefficient_end = 0;

  template <bool centered>
  static inline BNORM_IN_LOOP Terms<Lanes<double>> terms(const Input<T>* in, const Coefficients<A>&,
                                                         const Lanes<double>& pivot) {
    const Lanes<double> d = Moments::template distance<centered>(in[0], pivot);
    return {d, d};
  }
  /// Of the sums of block b: 0, f64 data: its first value. Returns whether any is not 0, as the next but one does.
  static bool first_pivots(const Tile& t, int64_t c, int64_t channels, int64_t b, double* pivot) {
    for (int64_t j = 0; j < channels; ++j) pivot[j] = 0;
    if constexpr (Moments::always_centered) {
      const Position p = strip_position(t.order, b * kBlockStrips);
      for (int64_t j = 0; j < channels; ++j) pivot[j] = *at<T>(t.tensor[kX], p.n, c + j, p.s);
    }
    return Moments::always_centered;
  }
  /// Sums of `count` values -> mean and M2.
  static void finish(const Tile&, int64_t, double count, const double* __restrict pivot, double* __restrict first,
                     double* __restrict second, int64_t channels) {
    for (int64_t j = 0; j < channels; ++j) {
      const double shift = first[j] / count;
      const double m2 = second[j] - first[j] * shift;
      first[j] = pivot[j] + shift;
      second[j] = m2 < 0 ? 0 : m2;  // rounding only; NaN stays
    }
  }
  /// Where sums have to be taken once more: with the mean as pivot, else 0. A single value's are exact.
  static bool second_pivots(double count, const double* __restrict mean, const double* __restrict m2, int64_t channels,
                            double* __restrict pivot) {
    if (count == 1) return false;
    int64_t found = 0;
    for (int64_t j = 0; j < channels; ++j) {
      const bool needed = Moments::always_centered || mean[j] * mean[j] * count > kRawLimit * m2[j];
      pivot[j] = needed ? mean[j] : 0;
      found += needed;
    }
    return found > 0;
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
struct GradientSums : Reduction<T> {
  using A = typename Element<T>::Arithmetic;
  static constexpr Tensor reads[] = {kX, kDy, kY};
  static constexpr int read_count = mask == kMaskY ? 3 : 2;
  static constexpr int coefficient_begin = kCenter, coefficient_end = mask == kMaskX ? kOffset + 1 : kCenter;

  template <bool centered>
  static inline BNORM_IN_LOOP Terms<Lanes<double>> terms(const Input<T>* in, const Coefficients<A>& k,
                                                         const Lanes<double>& pivot) {
    return {wide_gradient(in, k), GradientSums::template distance<centered>(in[0], pivot)};
  }
  static Lanes<double> wide_gradient(const Input<T>* in, const Coefficients<A>& k) {
    if constexpr (mask == kMaskNone) return in[1].wide;
    return widen(masked_gradient<mask>(in[1].narrow, in[mask == kMaskY ? 2 : 0].narrow, k));
  }
  static bool first_pivots(const Tile& t, int64_t c, int64_t channels, int64_t, double* __restrict pivot) {
    int64_t found = 0;
    for (int64_t j = 0; j < channels; ++j) {
      const double mean = t.mean[c + j], deviations = mean * t.inv_std[c + j];
      const bool needed = GradientSums::always_centered || deviations * deviations > kRawLimit;
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
template <class T, bool residual>
struct Normalize {
  using Type = T;
  using A = typename Element<T>::Arithmetic;
  static constexpr Tensor reads[] = {kX, kResidual};
  static constexpr int read_count = residual ? 2 : 1;
  static constexpr Tensor writes[] = {kY};
  static constexpr int write_count = 1;
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
  static constexpr int coefficient_begin = mask == kMaskX || !frozen ? kCenter : kGain;
  static constexpr int coefficient_end = frozen ? (mask == kMaskX ? kOffset + 1 : kGain + 1) : kBias + 1;

  static inline BNORM_IN_LOOP void apply(const Lanes<A>* in, const Coefficients<A>& k, Lanes<A>* out) {
    const Lanes<A> dz = masked_gradient<mask>(in[0], in[mask == kMaskY ? read_count - 1 : reads_x], k);
    out[0] = dz * k.value[kGain];
    if constexpr (!frozen) out[0] = out[0] + ((in[1] - k.value[kCenter]) * k.value[kSlope] + k.value[kBias]);
    out[1] = dz;
  }
};
