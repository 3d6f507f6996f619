// SPDX-License-Identifier: Apache-2.0
// Per-channel steps between reduction and map: merge, finalize, coefficients. Plain loops over channels; the compiler
// vectorizes them, and since every operation is rounded on its own (sqrt and division too) the bits are the same.
#pragma once

static void merge_moments(double count_a, double count_b, double* mean_a, double* m2_a, const double* mean_b,
                          const double* m2_b, int64_t channels) {
  const double count = count_a + count_b, weight_b = count_b / count, weight_m2 = count_a * weight_b;
  for (int64_t c = 0; c < channels; ++c) {
    const double delta = mean_b[c] - mean_a[c];
    mean_a[c] = mean_a[c] + delta * weight_b;
    m2_a[c] = (m2_a[c] + m2_b[c]) + (delta * delta) * weight_m2;
  }
}

static void merge_sums(double* first_a, double* second_a, const double* first_b, const double* second_b,
                       int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) {
    first_a[c] = first_a[c] + first_b[c];
    second_a[c] = second_a[c] + second_b[c];
  }
}

// Sums from here on need no scaling.
constexpr double kSmallSum = 0x1p-1000;

/// 1 / sqrt(v) to 2 roundings (docs/numerics.md) of finite v from kSmallSum on. Newton's steps double the digits of a
/// first guess from the bits, within 3.5 %: multiplications, where square root and division take 5 cycles a channel on
/// AVX-512. For f32 those two are faster.
static inline double inverse_root(double v) {
  constexpr uint64_t guess = 0x5fe6eb50c7b537a9u;
  const double half = v * 0.5;
  double y = __builtin_bit_cast(double, guess - (__builtin_bit_cast(uint64_t, v) >> 1));
  each<0, 3>([&](auto) BNORM_IN_LOOP { y = y * (1.5 - half * y * y); });
  return y + y * (0.5 - half * y * y);
}

/// 1 / sqrt(var + epsilon), 0 where the sum is 0 or infinite, NaN where it is negative.
static inline double inverse_std(double var, double epsilon) {
  constexpr double up = 0x1p200, up_root = 0x1p100;
  const double sum = var + epsilon;
  double y = inverse_root(sum < kSmallSum ? sum * up : sum);
  // One choice a line: a choice of two conditions is not vectorized.
  y = sum < kSmallSum ? y * up_root : y;
  y = sum >= 0 ? y : __builtin_nan("");
  y = sum == 0 ? 0 : y;
  return sum == __builtin_inf() ? 0 : y;
}
static inline float inverse_std(float var, float epsilon) {
  const float sum = var + epsilon;
  return sum == 0 ? 0.0f : 1.0f / __builtin_sqrtf(sum);
}

/// `value` as stats_type holds it.
static inline double rounded(double value, bool to_f32) {
  return to_f32 ? static_cast<double>(static_cast<float>(value)) : value;
}

/// Not inlined, so that loops over it are not vectorized: rare, and large.
static __attribute__((noinline)) double special_inverse_std(double sum) { return inverse_std(sum, 0); }

static void finalize(double count, double epsilon, bool round_to_f32, const double* mean, const double* m2,
                     double* __restrict saved_mean, double* __restrict saved_inv_std, int64_t channels) {
  if (count == 0) {
    for (int64_t c = 0; c < channels; ++c) saved_mean[c] = saved_inv_std[c] = 0;
    return;
  }
  const double weight = 1 / count;
  int64_t special = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const double m = mean[c], sum = m2[c] * weight + epsilon;
    special += !(sum >= kSmallSum);
    special += !(sum < __builtin_inf());
    saved_mean[c] = rounded(m, round_to_f32);
    saved_inv_std[c] = rounded(inverse_root(sum), round_to_f32);
  }
  for (int64_t c = 0; special > 0 && c < channels; ++c)
    saved_inv_std[c] = rounded(special_inverse_std(m2[c] * weight + epsilon), round_to_f32);
}

// Channels taken at a time, so that parameters of other types fit on the stack.
constexpr int64_t kParams = 128;

/// What stands for parameters that were not given.
template <class W>
struct SameParams {
  W values[kParams];

  explicit constexpr SameParams(W value) {
    for (W& v : values) v = value;
  }
};
template <class W>
constexpr SameParams<W> zeros(0);
template <class W>
constexpr SameParams<W> ones(1);

// Not inlined: rare, and large.
static __attribute__((noinline)) void load_16_bit(const void* values, ElementType type, int64_t c, int64_t count,
                                                  float* to) {
  const MixedPointer from = {static_cast<char*>(const_cast<void*>(values)), type};
  for (int64_t i = 0; i < count; i += kStrip) Element<Mixed>::load_first(from + (c + i), count - i).store(to + i);
}
static __attribute__((noinline)) void store_16_bit(void* values, ElementType type, int64_t c, int64_t count,
                                                   const float* from) {
  const MixedPointer to = {static_cast<char*>(values), type};
  for (int64_t i = 0; i < count; i += kStrip)
    Element<Mixed>::store_first(to + (c + i), Lanes<float>::load(from + i), count - i);
}

/// `count` parameters from channel c on in their working type; where there are none, `otherwise`. `room` holds kParams.
template <class W>
static inline const W* params_at(const void* values, ElementType type, int64_t c, int64_t count,
                                 const SameParams<W>& otherwise, W* room) {
  if (!values) return otherwise.values;
  if constexpr (sizeof(W) == sizeof(float))
    if (type != kF32) {
      load_16_bit(values, type, c, count, room);
      return room;
    }
  return static_cast<const W*>(values) + c;
}

/// Calls body(values) with `count` parameters from channel c on in their working type, for it to update; `writes_all`:
/// whatever they were.
template <class W, class Body>
static inline void update_params(void* values, ElementType type, int64_t c, int64_t count, bool writes_all, Body body) {
  if constexpr (sizeof(W) == sizeof(float))
    if (type != kF32) {
      W room[kParams] = {};
      if (!writes_all) load_16_bit(values, type, c, count, room);
      body(room);
      return store_16_bit(values, type, c, count, room);
    }
  body(static_cast<W*>(values) + c);
}

/// Calls body(c, count) for runs of channels.
template <class Body>
static inline void each_params(int64_t channels, Body body) {
  for (int64_t c = 0; c < channels; c += kParams) body(c, channels - c < kParams ? channels - c : kParams);
}

template <class W>
static void load_params(const void* values, ElementType type, int64_t c, double* to, int64_t channels) {
  each_params(channels, [&](int64_t some, int64_t count) {
    W room[kParams];
    const W* const from = params_at<W>(values, type, c + some, count, zeros<W>, room);
    for (int64_t i = 0; i < count; ++i) to[some + i] = static_cast<double>(from[i]);
  });
}

template <class W>
static void blend(double factor, const double* entry, double divisor, void* running, ElementType type,
                  int64_t channels) {
  if (factor == 0) return;
  with_quotient(divisor, [&](auto quotient) {
    each_params(channels, [&](int64_t c, int64_t count) {
      update_params<W>(running, type, c, count, false, [&](W* __restrict values) {
        for (int64_t i = 0; i < count; ++i) {
          const double old = static_cast<double>(values[i]), now = quotient(entry[c + i]);
          values[i] = static_cast<W>(factor == 1 ? now : old + factor * (now - old));
        }
      });
    });
  });
}

/// Center, gain and offset in `Wide`, each rounded once to A; inv_std_of(spread[i]) is inv_std.
template <class Wide, class M, class InvStdOf, class W, class A>
static inline void make_coefficients(const M* __restrict mean, const M* __restrict spread, InvStdOf inv_std_of,
                                     const W* __restrict scale, const W* __restrict shift, A* __restrict center,
                                     A* __restrict gain, A* __restrict offset, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const Wide m = mean[i];
    const A m_a = static_cast<A>(m), k = static_cast<A>(static_cast<Wide>(scale[i]) * inv_std_of(spread[i]));
    center[i] = m_a;
    gain[i] = k;
    offset[i] = static_cast<A>(static_cast<Wide>(shift[i]) - (m - static_cast<Wide>(m_a)) * static_cast<Wide>(k));
  }
}

template <class W, class A>
static void prepare_saved(const double* mean, const double* inv_std, const Affine& affine, void* const* coefficient,
                          int64_t channels) {
  each_params(channels, [&](int64_t c, int64_t count) {
    W room[2][kParams];
    make_coefficients<double>(
        mean + c, inv_std + c, [](double r) { return r; },
        params_at<W>(affine.scale, affine.type, c, count, ones<W>, room[0]),
        params_at<W>(affine.shift, affine.type, c, count, zeros<W>, room[1]), static_cast<A*>(coefficient[kCenter]) + c,
        static_cast<A*>(coefficient[kGain]) + c, static_cast<A*>(coefficient[kOffset]) + c, count);
  });
}

/// 1 / sqrt in f32 where both types are f32, else in f64.
template <class W, class A>
static void prepare_running(const void* mean, const void* var, double epsilon, const Affine& affine,
                            void* const* coefficient, int64_t channels) {
  using Wide = decltype(W() + A());
  const Wide wide_epsilon = static_cast<Wide>(epsilon);
  each_params(channels, [&](int64_t c, int64_t count) {
    W room[4][kParams];
    make_coefficients<Wide>(
        params_at<W>(mean, affine.type, c, count, zeros<W>, room[0]),
        params_at<W>(var, affine.type, c, count, zeros<W>, room[1]),
        [wide_epsilon](W v) { return inverse_std(static_cast<Wide>(v), wide_epsilon); },
        params_at<W>(affine.scale, affine.type, c, count, ones<W>, room[2]),
        params_at<W>(affine.shift, affine.type, c, count, zeros<W>, room[3]), static_cast<A*>(coefficient[kCenter]) + c,
        static_cast<A*>(coefficient[kGain]) + c, static_cast<A*>(coefficient[kOffset]) + c, count);
  });
}

/// dx = gain * (dz - (dshift + (x - mean) * inv_std * dscale) / count), ordered by powers of (x - center).
template <class A>
static void prepare_gradient(double count, const double* mean, const double* inv_std, const double* sum_dz,
                             const double* sum_dz_x, void* const* coefficient, int64_t channels) {
  const A* const center = static_cast<const A*>(coefficient[kCenter]);
  const A* const gain = static_cast<const A*>(coefficient[kGain]);
  A* __restrict const slope = static_cast<A*>(coefficient[kSlope]);
  A* __restrict const bias = static_cast<A*>(coefficient[kBias]);
  const double weight = 1 / count;
  for (int64_t c = 0; c < channels; ++c) {
    const double k = static_cast<double>(gain[c]) * weight;
    const double dscale = sum_dz_x[c] * inv_std[c];
    slope[c] = static_cast<A>(-(k * inv_std[c] * dscale));
    const double rest = mean[c] - static_cast<double>(center[c]);
    bias[c] = static_cast<A>(-(k * sum_dz[c]) - rest * static_cast<double>(slope[c]));
  }
}

template <class W>
static void param_gradients(int64_t groups, int64_t stride, const double* sum_dz, const double* sum_dz_x,
                            const double* inv_std, const double* r, const double* d, void* dscale, void* dshift,
                            ElementType type, int64_t channels) {
  each_params(channels, [&](int64_t c, int64_t count) {
    double scale[kParams], shift[kParams];
    const auto add_group = [&](int64_t g, auto before) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t sum = g * stride + c + i, at = g * channels + c + i;
        const double of_batch = sum_dz_x[sum] * inv_std[at];
        shift[i] = before(shift, i) + sum_dz[sum];
        scale[i] = before(scale, i) + (r ? of_batch * r[at] + sum_dz[sum] * d[at] : of_batch);
      }
    };
    if (groups > 0)
      add_group(0, [](const double*, int64_t) { return 0.0; });
    else
      for (int64_t i = 0; i < count; ++i) scale[i] = shift[i] = 0;
    for (int64_t g = 1; g < groups; ++g) add_group(g, [](const double* sums, int64_t i) { return sums[i]; });
    const auto store = [&](void* to, const double* __restrict sums) {
      if (!to) return;
      update_params<W>(to, type, c, count, true, [&](W* __restrict values) {
        for (int64_t i = 0; i < count; ++i) values[i] = static_cast<W>(sums[i]);
      });
    };
    store(dscale, scale);
    store(dshift, shift);
  });
}
