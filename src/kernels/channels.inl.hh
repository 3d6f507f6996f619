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

/// 1 / sqrt(var + epsilon) to 2 roundings (docs/numerics.md), 0 where the sum is 0 or infinite, NaN where it is
/// negative. Newton's steps double the digits of a first guess from the bits, within 3.5 %: multiplications, where
/// square root and division take 5 cycles a channel on AVX-512. For f32 those two are faster.
static inline double inverse_std(double var, double epsilon) {
  constexpr uint64_t guess = 0x5fe6eb50c7b537a9u;
  constexpr double small = 0x1p-1000, up = 0x1p200, up_root = 0x1p100;
  const double sum = var + epsilon;
  const double v = sum < small ? sum * up : sum, half = v * 0.5;
  double y = __builtin_bit_cast(double, guess - (__builtin_bit_cast(uint64_t, v) >> 1));
  each<0, 3>([&](auto) BNORM_IN_LOOP { y = y * (1.5 - half * y * y); });
  y = y + y * (0.5 - half * y * y);
  // One choice a line: a choice of two conditions is not vectorized.
  y = sum < small ? y * up_root : y;
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

static void finalize(double count, double epsilon, bool round_to_f32, const double* mean, const double* m2,
                     double* saved_mean, double* saved_inv_std, int64_t channels) {
  if (count == 0) {
    for (int64_t c = 0; c < channels; ++c) saved_mean[c] = saved_inv_std[c] = 0;
    return;
  }
  const double weight = 1 / count;
  for (int64_t c = 0; c < channels; ++c) {
    const double m = mean[c], var = m2[c] * weight;
    saved_mean[c] = rounded(m, round_to_f32);
    saved_inv_std[c] = rounded(inverse_std(var, epsilon), round_to_f32);
  }
}

static void running_entry(double count, bool biased, const double* mean, const double* m2,
                          double* __restrict entry_mean, double* __restrict entry_var, int64_t channels) {
  const double divisor = !biased && count >= 2 ? count - 1 : count;
  for (int64_t c = 0; c < channels; ++c) {
    entry_mean[c] = mean[c];
    entry_var[c] = m2[c] / divisor;
  }
}

template <class P>
static void blend(double factor, const double* entry, void* running, int64_t channels) {
  P* __restrict const values = static_cast<P*>(running);
  if (factor == 0) return;
  for (int64_t c = 0; c < channels; ++c) {
    const double old = static_cast<double>(values[c]);
    values[c] = static_cast<P>(factor == 1 ? entry[c] : old + factor * (entry[c] - old));
  }
}

// Channels taken at a time, so that what stands for parameters that were not given fits on the stack.
constexpr int64_t kParams = 64;

/// `count` parameters from channel c on; where there are none, `otherwise`, which `filled` has room for.
template <class P>
static inline const P* params_at(const void* values, int64_t c, int64_t count, P otherwise, P* filled) {
  if (values) return static_cast<const P*>(values) + c;
  for (int64_t i = 0; i < count; ++i) filled[i] = otherwise;
  return filled;
}

/// Calls body(c, count, scale, shift) for runs of channels, with the parameters of channel c + i at [i].
template <class P, class Body>
static inline void each_params(const Affine& affine, int64_t channels, Body body) {
  P ones[kParams], zeros[kParams];
  for (int64_t c = 0; c < channels; c += kParams) {
    const int64_t count = channels - c < kParams ? channels - c : kParams;
    body(c, count, params_at<P>(affine.scale, c, count, 1, ones), params_at<P>(affine.shift, c, count, 0, zeros));
  }
}

template <class P, class A>
static void prepare_saved(const double* mean, const double* inv_std, const Affine& affine, void* const* coefficient,
                          int64_t channels) {
  A* __restrict const center = static_cast<A*>(coefficient[kCenter]);
  A* __restrict const gain = static_cast<A*>(coefficient[kGain]);
  A* __restrict const offset = static_cast<A*>(coefficient[kOffset]);
  each_params<P>(affine, channels, [=](int64_t c, int64_t count, const P* scale, const P* shift) {
    for (int64_t i = 0; i < count; ++i) {
      const double m = mean[c + i];
      const A m_a = static_cast<A>(m), k = static_cast<A>(static_cast<double>(scale[i]) * inv_std[c + i]);
      center[c + i] = m_a;
      gain[c + i] = k;
      offset[c + i] =
          static_cast<A>(static_cast<double>(shift[i]) - (m - static_cast<double>(m_a)) * static_cast<double>(k));
    }
  });
}

/// 1 / sqrt in f32 where both types are f32, else in f64.
template <class P, class A>
static void prepare_running(const void* mean, const void* var, double epsilon, const Affine& affine,
                            void* const* coefficient, int64_t channels) {
  using Wide = decltype(P() + A());
  A* __restrict const center = static_cast<A*>(coefficient[kCenter]);
  A* __restrict const gain = static_cast<A*>(coefficient[kGain]);
  A* __restrict const offset = static_cast<A*>(coefficient[kOffset]);
  const P* const means = static_cast<const P*>(mean);
  const P* const vars = static_cast<const P*>(var);
  const Wide wide_epsilon = static_cast<Wide>(epsilon);
  each_params<P>(affine, channels, [=](int64_t c, int64_t count, const P* scale, const P* shift) {
    for (int64_t i = 0; i < count; ++i) {
      const Wide m = means[c + i], inv_std = inverse_std(static_cast<Wide>(vars[c + i]), wide_epsilon);
      const A m_a = static_cast<A>(m), k = static_cast<A>(static_cast<Wide>(scale[i]) * inv_std);
      center[c + i] = m_a;
      gain[c + i] = k;
      offset[c + i] = static_cast<A>(static_cast<Wide>(shift[i]) - (m - static_cast<Wide>(m_a)) * static_cast<Wide>(k));
    }
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

template <class P>
static void param_gradients(int64_t groups, int64_t stride, const double* sum_dz, const double* sum_dz_x,
                            const double* inv_std, void* dscale, void* dshift, int64_t channels) {
  for (int64_t c = 0; c < channels; c += kParams) {
    const int64_t count = channels - c < kParams ? channels - c : kParams;
    double scale[kParams] = {}, shift[kParams] = {};
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t i = 0; i < count; ++i) {
        shift[i] += sum_dz[g * stride + c + i];
        scale[i] += sum_dz_x[g * stride + c + i] * inv_std[g * channels + c + i];
      }
    for (int64_t i = 0; dscale && i < count; ++i) static_cast<P*>(dscale)[c + i] = static_cast<P>(scale[i]);
    for (int64_t i = 0; dshift && i < count; ++i) static_cast<P*>(dshift)[c + i] = static_cast<P>(shift[i]);
  }
}
