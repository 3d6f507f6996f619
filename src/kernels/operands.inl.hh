// SPDX-License-Identifier: Apache-2.0
// What operations are given on 16 lanes: the form of the call, coefficients, the elements they read.
#pragma once

/// The form of a call in lanes, where it holds numbers; what the style fixes is known to the compiler. The rest are
/// copies: stores could change what is behind a reference, so that each 16 lanes would load it anew. With them backward
/// of 8x64x784 through leaky ReLU takes 0.93 of the time planar, 0.98 channels-last (AVX-512; AVX2: 0.90, 0.91).
template <class A, Style style>
class FormLanes {
 public:
  Lanes<A> lower, upper, parameter;

  explicit FormLanes(const Form& f)
      : lower(Lanes<A>::broadcast(static_cast<A>(f.lower))),
        upper(Lanes<A>::broadcast(static_cast<A>(f.upper))),
        parameter(Lanes<A>::broadcast(static_cast<A>(f.parameter))),
        f_(f),
        residual_(f.residual),
        frozen_(f.frozen),
        from_output_(f.from_output),
        derivative_(f.derivative),
        shape_(f.shape) {}

  bool residual() const { return is_fixed ? style == kWithResidual : residual_; }
  bool frozen() const { return !is_fixed && frozen_; }
  Derivative derivative() const {
    if (!is_fixed) return derivative_;
    return style == kBare ? kOne : (style == kWithResidual ? kOfY : kOfX);
  }
  Shape shape() const {
    if (!is_fixed || style == kBent) return shape_;
    return style == kClipped ? kClip : (style == kLeaking ? kLeaky : kRelu);
  }
  /// kX holds y, which an activation has changed.
  bool from_output() const {
    if (style == kCurved) return from_output_;
    return any_shape && from_output_ && shape_ != kRelu;
  }
  bool from_mask() const { return has_mask && derivative() == kOfMask; }
  bool is_curve() const { return style <= kCurved && shape_ == kCurve; }

  static constexpr bool has_mask = style <= kCurved;

  BNORM_IN_LOOP Lanes<A> curved(const Lanes<A>& v) const { return through(f_.curve, v); }
  /// z of y.
  BNORM_IN_LOOP Lanes<A> inverted(const Lanes<A>& y) const {
    if (is_curve()) return through(f_.inverse_curve, y);
    return Lanes<A>::less_select(y, Lanes<A>::broadcast(0), y * Lanes<A>::broadcast(static_cast<A>(f_.inverse)), y);
  }

 private:
  BNORM_IN_LOOP Lanes<A> through(Curve curve, const Lanes<A>& v) const {
    A values[16];
    v.store(values);
    curve(values, f_.parameter);
    return Lanes<A>::load(values);
  }

  static constexpr bool is_fixed = style > kPiecewise;
  static constexpr bool any_shape = style == kPiecewise || style == kWeighted;
  const Form& f_;
  const bool residual_, frozen_, from_output_;
  const Derivative derivative_;
  const Shape shape_;
};

/// Coefficients of 16 lanes; an operation loads those it names, the compiler drops the rest.
template <class A>
struct Coefficients {
  Lanes<A> value[kCoefficients];
};

/// Coefficient arrays, indexed by channel or by lane.
template <class A>
struct CoefficientArrays {
  const A* value[kCoefficients];
};

/// Those of an operation, beginning with channel c; the others NULL.
template <class Op, class A = typename Op::A>
static inline CoefficientArrays<A> arrays_of(const Tile& t, int64_t c) {
  CoefficientArrays<A> r = {};
  each<Op::coefficient_begin, Op::coefficient_end>(
      [&](auto k) { r.value[k] = static_cast<const A*>(t.coefficient[k]) + c; });
  return r;
}

/// The same coefficients in every lane: those of channel c.
template <class Op, class A>
static inline Coefficients<A> broadcast_coefficients(const CoefficientArrays<A>& from, int64_t c) {
  Coefficients<A> r;
  each<Op::coefficient_begin, Op::coefficient_end>([&](auto k) { r.value[k] = Lanes<A>::broadcast(from.value[k][c]); });
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
  return r;
}

/// Whether operand r of an operation is one element for all lanes of a row.
template <class Op>
static constexpr bool is_of_row(int r) {
  return Op::weights_by_row && Op::reads[r] == kWeights;
}

/// Where the mask has the bit of an element of a group that begins a byte; NULL: no mask.
template <class Op>
static inline char* mask_at(const Tile& t, int64_t n, int64_t c, int64_t s) {
  const View& v = t.tensor[kMask];
  return Op::has_mask && v.data ? static_cast<char*>(v.data) + ((n * v.n + c * v.c + s * v.s) >> 3) : nullptr;
}

static inline BNORM_IN_LOOP LaneBits load_bits(const char* mask) {
  uint16_t bits;
  __builtin_memcpy(&bits, mask, sizeof bits);
  return bits;
}
static inline BNORM_IN_LOOP void store_bits(char* mask, LaneBits b) {
  const auto bits = static_cast<uint16_t>(b);
  __builtin_memcpy(mask, &bits, sizeof bits);
}

/// Elements offset ... offset + 15 of the tensors that an operation reads, or the first `count` of them and zeros;
/// loaded where they are asked for. Their bits are in the mask, if there is one.
template <class Op, bool full>
struct Operands {
  using E = Element<typename Op::Type>;
  const typename E::From* from;
  char* mask;
  int64_t offset, count;

  BNORM_IN_LOOP LaneBits bits() const { return load_bits(mask + (offset >> 3)); }
  BNORM_IN_LOOP void keep(LaneBits bits) const { store_bits(mask + (offset >> 3), bits); }

  template <int r>
  inline BNORM_IN_LOOP Lanes<typename Op::A> narrow() const {
    if constexpr (full) return E::load(from[r] + offset);
    return E::load_first(from[r] + offset, count);
  }
  /// Those of operand r, which are of the arithmetic type.
  template <int r>
  inline BNORM_IN_LOOP Lanes<typename Op::A> weights() const {
    using Weight = Element<typename Op::A>;
    const auto* const values = E::values(from[r]);
    if constexpr (Op::weights_by_row) return Lanes<typename Op::A>::broadcast(*values);
    if constexpr (full) return Weight::load(values + offset);
    return Weight::load_first(values + offset, count);
  }
  template <int r>
  inline BNORM_IN_LOOP Lanes<double> wide() const {
    if constexpr (full) return E::load_wide(from[r] + offset);
    return widen(narrow<r>());
  }
};

/// Elements offset ... offset + 31 of bf16 tensors, those at even or those at odd places; no mask.
template <class Op, bool odd>
struct TwinOperands : Operands<Op, true> {
  template <int r>
  inline BNORM_IN_LOOP Lanes<typename Op::A> narrow() const {
    return Element<typename Op::Type>::template load_twin<odd>(this->from[r] + this->offset);
  }
};
