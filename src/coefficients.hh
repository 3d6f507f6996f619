// SPDX-License-Identifier: Apache-2.0
// What lies between statistics and the kernels' coefficients, forward and backward, and what callers get of it.
#pragma once
#include "run.hh"

namespace bnorm {

/// Coefficient arrays inside the buffer of bnorm_prepare.
void map_coefficients(const Plan& plan, const void* buffer, void** coefficient);
/// Fills that buffer.
void fill_coefficients(const Plan& plan, const Call& call, void* buffer);

/// Saved statistics and coefficients of channels from the moments of `count` values.
void finish_statistics(const Run& run, int64_t g, int64_t c0, int64_t c1, double count, const double* mean,
                       const double* m2);
/// Puts the saved statistics where the caller wants them, if they are not there already.
void store_statistics(const Run& run);

/// The coefficients of the forward call, for all groups, and the saved statistics that backward needs.
void prepare_backward(const Run& run);
/// The coefficients of the gradient of channels, from their sums over `count` values.
void prepare_gradient(const Run& run, int64_t g, int64_t c0, int64_t c1, double count, const double* sum_dz,
                      const double* sum_dz_x);
/// dscale and dshift, for each group its own or summed over all, from sums with [group * stride + channel]; sum_dz is
/// NULL where there were no values.
void store_param_gradients(const Run& run, const double* sum_dz, const double* sum_dz_x, int64_t stride);

}  // namespace bnorm
