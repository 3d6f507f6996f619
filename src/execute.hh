// SPDX-License-Identifier: Apache-2.0
// Walks a plan: cuts a checked call into tiles, runs kernels on them, and puts partial results together in order.
#pragma once
#include "partials.hh"
#include "plan.hh"
#include "validate.hh"

namespace bnorm {

bnorm_status run_infer(const bnorm_plan& handle, Call& call);
bnorm_status run_normalize(const Plan& plan, Call& call, const void* coefficients);
bnorm_status run_train(const bnorm_plan& handle, Call& call);
bnorm_status run_backward(const bnorm_plan& handle, Call& call);

bnorm_status run_moments(const bnorm_plan& handle, Call& call, double* moments);
bnorm_status run_finalize(const bnorm_plan& handle, Call& call, const double* moments);
bnorm_status run_sums(const bnorm_plan& handle, Call& call, double* sums);
bnorm_status run_apply(const bnorm_plan& handle, Call& call, const double* sums);

}  // namespace bnorm
