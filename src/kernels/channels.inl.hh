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

template <class P>
static inline P param_at(const void* values, int64_t c, P otherwise) {
  return values ? static_cast<const P*>(values)[c] : otherwise;
}

template <class P, class A>
static void prepare_saved(const double* mean, const double* inv_std, const Affine& affine, void* const* coefficient,
                          int64_t channels) {
  A* const center = static_cast<A*>(coefficient[kCenter]);
  A* const gain = static_cast<A*>(coefficient[kGain]);
  A* const offset = static_cast<A*>(coefficient[kOffset]);
  for (int64_t c = 0; c < channels; ++c) {
    const double scale = param_at<P>(affine.scale, c, 1), shift = param_at<P>(affine.shift, c, 0);
    center[c] = static_cast<A>(mean[c]);
    gain[c] = static_cast<A>(scale * inv_std[c]);
    const double rest = mean[c] - static_cast<double>(center[c]);
    offset[c] = static_cast<A>(shift - rest * static_cast<double>(gain[c]));
  }
}

/// 1 / sqrt in f32 where both types are f32, else in f64.
template <class P, class A>
static void prepare_running(const void* mean, const void* var, double epsilon, const Affine& affine,
                            void* const* coefficient, int64_t channels) {
  using Wide = decltype(P() + A());
  A* const center = static_cast<A*>(coefficient[kCenter]);
  A* const gain = static_cast<A*>(coefficient[kGain]);
  A* const offset = static_cast<A*>(coefficient[kOffset]);
  for (int64_t c = 0; c < channels; ++c) {
    const Wide mean_c = static_cast<const P*>(mean)[c], var_c = static_cast<const P*>(var)[c];
    const Wide scale = param_at<P>(affine.scale, c, 1), shift = param_at<P>(affine.shift, c, 0);
    center[c] = static_cast<A>(mean_c);
    gain[c] = static_cast<A>(scale * inverse_std<Wide>(var_c, static_cast<Wide>(epsilon)));
    const Wide rest = mean_c - static_cast<Wide>(center[c]);
    offset[c] = static_cast<A>(shift - rest * static_cast<Wide>(gain[c]));
  }
}

/// dx = gain * (dz - (dshift + (x - mean) * inv_std * dscale) / count), ordered by powers of (x - center).
template <class A>
static void prepare_gradient(double count, const double* mean, const double* inv_std, const double* sum_dz,
                             const double* sum_dz_x, void* const* coefficient, int64_t channels) {
  const A* const center = static_cast<const A*>(coefficient[kCenter]);
  const A* const gain = static_cast<const A*>(coefficient[kGain]);
  A* const slope = static_cast<A*>(coefficient[kSlope]);
  A* const bias = static_cast<A*>(coefficient[kBias]);
  for (int64_t c = 0; c < channels; ++c) {
    const double k = static_cast<double>(gain[c]);
    const double dscale = sum_dz_x[c] * inv_std[c];
    slope[c] = static_cast<A>(-(k * inv_std[c] * dscale / count));
    const double rest = mean[c] - static_cast<double>(center[c]);
    bias[c] = static_cast<A>(-(k * sum_dz[c] / count) - rest * static_cast<double>(slope[c]));
  }
}
