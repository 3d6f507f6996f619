// SPDX-License-Identifier: Apache-2.0
// Assembles an ISA's kernel table from operations x families.
#pragma once

/// All families but scattered.
template <class Op>
static constexpr void fill_reduce(TileKernel* family) {
  family[kRows] = reduce_rows<Op>;
  if constexpr (Op::is_weighted)
    family[kColumns] = reduce_columns<ByRow<Op>>;
  else
    family[kColumns] = family[kColumnsNarrow] = family[kColumnsPlanar] = reduce_columns<Op>;
}

/// A map, and what its stores around the cache take to be seen by other threads.
template <TileKernel map>
static void visible(const Tile& t) {
  map(t);
  if (t.in_memory) finish_stores();
}

template <class Op>
static constexpr void fill_map(TileKernel* family) {
  family[kRows] = visible<map_rows<Op>>;
  if constexpr (Op::is_weighted)
    family[kColumns] = visible<map_columns<ByRow<Op>>>;
  else
    family[kColumns] = family[kColumnsNarrow] = family[kColumnsPlanar] = visible<map_columns<Op>>;
}

// Scattered kernels gain little by a type or style of their own. f32 has those of Mixed: AVX2's are 33 KB less, and f32
// takes 1.05 to 1.17 of the time. Styles made for speed have those of kPiecewise, which is there before.
template <class T>
struct Scattered {
  using type = T;
};
template <>
struct Scattered<float> {
  using type = Mixed;
};

template <class T, Style style>
static constexpr void fill_style(KernelTable& t, Data data, int as) {
  using S = typename Scattered<T>::type;
  constexpr bool scattered = style <= kPiecewise;
  if constexpr (style != kClipped && style != kLeaking) {
    fill_reduce<GradientSums<T, style>>(t.gradient_sums[data][as]);
    fill_map<Gradient<T, style>>(t.gradient[data][as]);
    if constexpr (scattered) {
      t.gradient_sums[data][as][kScattered] = reduce_scattered<GradientSums<S, style>>;
      t.gradient[data][as][kScattered] = map_scattered<Gradient<S, style>>;
    }
  }
  if constexpr (style != kActivated && style != kBent && style != kWeighted) {
    fill_map<Normalize<T, style>>(t.normalize[data][as]);
    if constexpr (scattered) t.normalize[data][as][kScattered] = map_scattered<Normalize<S, style>>;
  }
}

template <class T, Style... style>
static constexpr void fill_moments(TileKernel* family) {
  fill_reduce<Moments<T, style...>>(family);
  family[kScattered] = reduce_scattered<Moments<typename Scattered<T>::type, style...>>;
}

// A branch for 16 lanes costs the less the more registers those take: as scalars it is free, and where f32 takes 4
// registers, f64 and conversions hide it.
constexpr bool kStylesOfF32 = Part<float>::size > 1;
constexpr bool kStylesOfAll = Part<float>::size >= 8;

template <class T>
static constexpr void fill_data(KernelTable& t, Data data) {
  constexpr bool is_f32 = Element<T>::is_f32;
  fill_moments<T>(t.moments[data]);
  const auto fill_slow = [&]<class W>(W) {
    fill_moments<W, kWeighted>(t.weighted_moments[data]);
    fill_style<W, kWeighted>(t, data, kWeighted);
    fill_style<W, kCurved>(t, data, kCurved);
  };
  // Smaller registers make larger kernels: there f32 takes those of kMixed, in 1.1 to 1.3 of the time.
  if constexpr (is_f32 && !kStylesOfAll)
    fill_slow(Mixed());
  else
    fill_slow(T());
  for (int style = kPiecewise; style < kStyles; ++style) fill_style<T, kPiecewise>(t, data, style);
  if constexpr (is_f32 ? kStylesOfF32 : kStylesOfAll) fill_style<T, kBare>(t, data, kBare);
  if constexpr (is_f32 && kStylesOfF32) {
    fill_style<T, kWithResidual>(t, data, kWithResidual);
    fill_style<T, kActivated>(t, data, kActivated);
    fill_style<T, kClipped>(t, data, kClipped);
    fill_style<T, kLeaking>(t, data, kLeaking);
    if constexpr (kStylesOfAll) fill_style<T, kBent>(t, data, kBent);  // 30 KB: SSE4.2 would exceed 1 MiB
  }
}

template <class A>
static constexpr void fill_curves(KernelTable& t, int arithmetic) {
  const auto fill = [&]<class F>(CurveName name, F) {
    t.activation[arithmetic][name] = curve<A, F::template value<A>>;
    t.derivative_of_z[arithmetic][name] = curve<A, F::template derivative<A>>;
    if constexpr (F::y_tells) t.derivative_of_y[arithmetic][name] = curve<A, F::template derivative_of_y<A>>;
    if constexpr (F::has_inverse) t.inverse[arithmetic][name] = curve<A, F::template inverse<A>>;
  };
  fill(kElu, Elu());
  fill(kSigmoid, Sigmoid());
  fill(kTanh, Tanh());
  fill(kSilu, Silu());
  fill(kHardSwish, HardSwish());
  fill(kGelu, Gelu());
  fill(kGeluTanh, GeluTanh());
}

static constexpr KernelTable make_table(const char* name) {
  KernelTable t = {};
  t.name = name;
  fill_data<float>(t, kAllF32);
  fill_data<double>(t, kAllF64);
  fill_data<Mixed>(t, kMixed);
  fill_curves<float>(t, 0);
  fill_curves<double>(t, 1);
  t.merge_moments = merge_moments;
  t.merge_sums = merge_sums;
  t.finalize = finalize;
  t.prepare_saved[0][0] = prepare_saved<float, float>;
  t.prepare_saved[0][1] = prepare_saved<float, double>;
  t.prepare_saved[1][0] = prepare_saved<double, float>;
  t.prepare_saved[1][1] = prepare_saved<double, double>;
  t.prepare_running[0][0] = prepare_running<float, float>;
  t.prepare_running[0][1] = prepare_running<float, double>;
  t.prepare_running[1][0] = prepare_running<double, float>;
  t.prepare_running[1][1] = prepare_running<double, double>;
  t.load_params[0] = load_params<float>;
  t.load_params[1] = load_params<double>;
  t.blend[0] = blend<float>;
  t.blend[1] = blend<double>;
  t.prepare_gradient[0] = prepare_gradient<float>;
  t.prepare_gradient[1] = prepare_gradient<double>;
  t.param_gradients[0] = param_gradients<float>;
  t.param_gradients[1] = param_gradients<double>;
  return t;
}
