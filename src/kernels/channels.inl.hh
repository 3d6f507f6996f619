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

/// 1 / sqrt(var + epsilon), 0 where the sum is 0.
template <class A>
static inline A inverse_std(A var, A epsilon) {
  const A sum = var + epsilon;
  return sum == 0 ? A(0) : A(1) / static_cast<A>(__builtin_sqrt(sum));
}
template <>
inline float inverse_std(float var, float epsilon) {
  const float sum = var + epsilon;
  return sum == 0 ? 0.0f : 1.0f / __builtin_sqrtf(sum);
}

static void finalize(double count, double epsilon, bool round_to_f32, const double* mean, const double* m2,
                     double* saved_mean, double* saved_inv_std, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) {
    const double inv_std = count > 0 ? inverse_std(m2[c] / count, epsilon) : 0;
    const double rounded_mean = round_to_f32 ? static_cast<double>(static_cast<float>(mean[c])) : mean[c];
    saved_mean[c] = count > 0 ? rounded_mean : 0;
    saved_inv_std[c] = round_to_f32 ? static_cast<double>(static_cast<float>(inv_std)) : inv_std;
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

// Parameters are copied this many at a time, so that a loop has no NULL to ask for.
constexpr int64_t kParams = 64;

template <class P>
static inline void copy_params(const void* values, int64_t c, int64_t count, P otherwise, P* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = values ? static_cast<const P*>(values)[c + i] : otherwise;
}

/// Calls body(c, count, scale, shift) for runs of channels, with the parameters of channel c + i at [i].
template <class P, class Body>
static inline void each_params(const Affine& affine, int64_t channels, Body body) {
  P scale[kParams], shift[kParams];
  for (int64_t c = 0; c < channels; c += kParams) {
    const int64_t count = channels - c < kParams ? channels - c : kParams;
    copy_params<P>(affine.scale, c, count, 1, scale);
    copy_params<P>(affine.shift, c, count, 0, shift);
    body(c, count, scale, shift);
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
      const Wide m = means[c + i], inv_std = inverse_std<Wide>(vars[c + i], wide_epsilon);
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
  for (int64_t c = 0; c < channels; ++c) {
    const double k = static_cast<double>(gain[c]);
    const double dscale = sum_dz_x[c] * inv_std[c];
    slope[c] = static_cast<A>(-(k * inv_std[c] * dscale / count));
    const double rest = mean[c] - static_cast<double>(center[c]);
    bias[c] = static_cast<A>(-(k * sum_dz[c] / count) - rest * static_cast<double>(slope[c]));
  }
}
