// SPDX-License-Identifier: Apache-2.0
// Every rule for arguments, each with its message. What comes out needs no further check.
#pragma once
#include <bnorm/bnorm.h>

#include "messages.hh"
#include "plan.hh"

namespace bnorm {

/// The arguments of any call in one form. NULL: not given.
struct Call {
  int64_t batch = 0;
  void* tensor[kTensors] = {};
  Affine affine = {};
  void* mean = nullptr;
  void* inv_std = nullptr;
  void* running_mean = nullptr;
  void* running_var = nullptr;
  void* dscale = nullptr;
  void* dshift = nullptr;
  double average_factor = 0;
  double renorm_r_max = 1, renorm_d_max = 0;
  void* renorm_r = nullptr;
  void* renorm_d = nullptr;
  void* mask = nullptr;           // of desc.from_mask; written by forward calls, read by backward
  const void* weights = nullptr;  // these or lengths, if desc.weighting
  const int64_t* lengths = nullptr;
  void* workspace = nullptr;  // NULL: to be allocated
  const bnorm_executor* executor = nullptr;
  const bnorm_exchange* exchange = nullptr;  // set as soon as it is found valid: others may be waiting
  Report report;
};

/// The layer of bnorm_fold.
struct Layer {
  bnorm_fold_order order;
  ElementType weight_type, bias_type;
  int64_t outputs, inputs, taps, groups;
  bnorm_strides strides;  // n: output, c: input, s: tap
  const void* weight;
  const void* bias;
  void* folded_weight;
  void* folded_bias;
  double most_digits_lost;
  double* digits_lost;
};

/// Checks the fields of a plan's desc, resolves types and strides, and finds the extents.
bnorm_status check_desc(Plan* plan, Report& report);
/// bnorm_desc_set_layout and bnorm_desc_set_array.
bnorm_status set_layout(bnorm_desc* desc, bnorm_layout layout, Report& report);
bnorm_status set_array(bnorm_desc* desc, bnorm_strides* tensor, const int64_t* shape, const int64_t* strides,
                       int32_t rank, int32_t axis, Report& report);
/// The arguments of bnorm_plan_create, up to the fields of `desc`.
bnorm_status check_create(bnorm_plan** plan, const bnorm_desc* desc, bnorm_error* error, Report& report);

/// Which arguments a call of these kinds takes.
enum class TrainPart { kWhole, kMoments, kFinalize };
enum class BackwardPart { kWhole, kSums, kApply };

bnorm_status check_infer(const bnorm_plan* plan, const bnorm_infer_args* args, Call* call);
bnorm_status check_train(const bnorm_plan* plan, const bnorm_train_args* args, TrainPart part, const double* moments,
                         Call* call);
bnorm_status check_backward(const bnorm_plan* plan, const bnorm_backward_args* args, BackwardPart part,
                            const double* sums, Call* call);
bnorm_status check_prepare(const bnorm_plan* plan, const bnorm_prepare_args* args, const void* coefficients,
                           Call* call);
bnorm_status check_normalize(const bnorm_plan* plan, const bnorm_normalize_args* args, Call* call,
                             const void** coefficients);
bnorm_status check_fold(const bnorm_plan* plan, const bnorm_fold_args* args, Call* call, Layer* layer);
bnorm_status check_merge(const bnorm_plan* plan, int64_t n, const double* const* parts, const double* merged,
                         bnorm_error* error, Report& report);

}  // namespace bnorm

/// The opaque handle of the C ABI.
struct bnorm_plan {
  bnorm::Plan plan;
  bnorm_allocator allocator;  // as the descriptor gave it, or malloc and free
};
// Above it glibc keeps no freed blocks at hand: creation takes 350 instructions more.
static_assert(sizeof(bnorm_plan) <= 1032);
