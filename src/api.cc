// SPDX-License-Identifier: Apache-2.0
// The extern "C" border: check -> plan or execute, nothing else. No exception passes it.
#include <bnorm/bnorm.h>

#include <cstdlib>
#include <new>

#include "coefficients.hh"
#include "dispatch.hh"
#include "exchange.hh"
#include "execute.hh"
#include "fold.hh"
#include "plan.hh"
#include "validate.hh"

using bnorm::Call;
using bnorm::Report;

namespace {

void* allocate_default(void*, size_t bytes) { return std::malloc(bytes); }
void release_default(void*, void* pointer, size_t) { std::free(pointer); }

/// Decides the rest of a handle whose plan has its descriptor as the caller gave it.
bnorm_status make_handle(bnorm_plan* handle, Report& report) {
  if (const bnorm_status status = bnorm::check_desc(&handle->plan, report); status != BNORM_OK) return status;
  const char* asked;
  const bnorm::KernelTable* const table = bnorm::select_kernels(&asked);
  if (!table) {
    char names[64];
    bnorm::list_isas(names, sizeof names);
    return report.say(BNORM_UNSUPPORTED, "BNORM_ISA = %s: must be one that this machine and build have: %s", asked,
                      names);
  }
  bnorm::make_plan(table, &handle->plan);
  const bnorm_allocator* const given = handle->plan.desc.allocator;
  handle->allocator =
      given ? *given : bnorm_allocator{sizeof(bnorm_allocator), 0, nullptr, allocate_default, release_default};
  return BNORM_OK;
}

/// The plan of a simple call, for its time, and room for a small workspace: malloc and free of one were 6 % of the
/// instructions of a call on 256 values.
struct Simple {
  bnorm_plan handle;
  alignas(64) char room[16384];

  static void* allocate(void* self, size_t bytes) {
    return bytes <= sizeof room ? static_cast<Simple*>(self)->room : std::malloc(bytes);
  }
  static void release(void* self, void* pointer, size_t) {
    if (pointer != static_cast<Simple*>(self)->room) std::free(pointer);
  }
};

bnorm_status make_simple(int64_t batch, int64_t channels, int64_t spatial, double epsilon, double factor,
                         Simple* simple) {
  bnorm_desc& desc = simple->handle.plan.desc;
  desc = BNORM_DESC_INIT;
  desc.batch = batch;
  desc.channels = channels;
  desc.spatial = spatial;
  desc.epsilon = epsilon;
  desc.average_factor = factor;
  Report report;
  const bnorm_status status = make_handle(&simple->handle, report);
  simple->handle.allocator = {sizeof(bnorm_allocator), 0, simple, Simple::allocate, Simple::release};
  return status;
}

}  // namespace

extern "C" {

int32_t bnorm_version(void) noexcept {
  return BNORM_VERSION_MAJOR * 1000000 + BNORM_VERSION_MINOR * 1000 + BNORM_VERSION_PATCH;
}

int32_t bnorm_numerics_version(void) noexcept { return BNORM_NUMERICS_VERSION; }

const char* bnorm_isa(void) noexcept {
  const bnorm::KernelTable* const table = bnorm::select_kernels(nullptr);
  return table ? table->name : "";
}

// ------------------------------------------------------------------------------------------ simple calls --

bnorm_status bnorm_infer_f32(int64_t batch, int64_t channels, int64_t spatial, const float* x, float* y,
                             const float* scale, const float* shift, const float* running_mean,
                             const float* running_var, double epsilon) noexcept {
  Simple simple;
  if (const bnorm_status status = make_simple(batch, channels, spatial, epsilon, 0, &simple); status != BNORM_OK)
    return status;
  bnorm_infer_args args = BNORM_INFER_ARGS_INIT;
  args.x = x;
  args.y = y;
  args.scale = scale;
  args.shift = shift;
  args.running_mean = running_mean;
  args.running_var = running_var;
  return bnorm_infer(&simple.handle, &args);
}

bnorm_status bnorm_train_f32(int64_t batch, int64_t channels, int64_t spatial, const float* x, float* y,
                             const float* scale, const float* shift, double* mean, double* inv_std, float* running_mean,
                             float* running_var, double epsilon, double average_factor) noexcept {
  Simple simple;
  if (const bnorm_status status = make_simple(batch, channels, spatial, epsilon, average_factor, &simple);
      status != BNORM_OK)
    return status;
  bnorm_train_args args = BNORM_TRAIN_ARGS_INIT;
  args.x = x;
  args.y = y;
  args.scale = scale;
  args.shift = shift;
  args.mean = mean;
  args.inv_std = inv_std;
  args.running_mean = running_mean;
  args.running_var = running_var;
  return bnorm_train(&simple.handle, &args);
}

bnorm_status bnorm_backward_f32(int64_t batch, int64_t channels, int64_t spatial, const float* x, const float* dy,
                                const float* scale, const double* mean, const double* inv_std, float* dx, float* dscale,
                                float* dshift) noexcept {
  Simple simple;
  if (const bnorm_status status = make_simple(batch, channels, spatial, 0, 0, &simple); status != BNORM_OK)
    return status;
  bnorm_backward_args args = BNORM_BACKWARD_ARGS_INIT;
  args.x = x;
  args.dy = dy;
  args.scale = scale;
  args.mean = mean;
  args.inv_std = inv_std;
  args.dx = dx;
  args.dscale = dscale;
  args.dshift = dshift;
  return bnorm_backward(&simple.handle, &args);
}

// ---------------------------------------------------------------------------------- descriptor and plan --

bnorm_status bnorm_desc_set_layout(bnorm_desc* desc, bnorm_layout layout) noexcept {
  Report report;
  return bnorm::set_layout(desc, layout, report);
}

bnorm_status bnorm_desc_set_axis(bnorm_desc* desc, const int64_t* shape, int32_t rank, int32_t axis) noexcept {
  Report report;
  return bnorm::set_array(desc, nullptr, shape, nullptr, rank, axis, report);
}

bnorm_status bnorm_desc_set_array(bnorm_desc* desc, bnorm_strides* tensor, const int64_t* shape, const int64_t* strides,
                                  int32_t rank, int32_t axis) noexcept {
  Report report;
  return bnorm::set_array(desc, tensor, shape, strides, rank, axis, report);
}

bnorm_status bnorm_plan_create(bnorm_plan** plan, const bnorm_desc* desc, bnorm_error* error) noexcept {
  Report report;
  if (const bnorm_status status = bnorm::check_create(plan, desc, error, report); status != BNORM_OK) return status;
  bnorm_plan made;
  made.plan.desc = *desc;
  if (const bnorm_status status = make_handle(&made, report); status != BNORM_OK) return status;
  void* const memory = made.allocator.allocate(made.allocator.context, sizeof(bnorm_plan));
  if (!memory) return report.say(BNORM_OUT_OF_MEMORY, "plan: the allocator has no %zu bytes", sizeof(bnorm_plan));
  *plan = new (memory) bnorm_plan(made);
  return BNORM_OK;
}

void bnorm_plan_destroy(bnorm_plan* plan) noexcept {
  if (!plan) return;
  const bnorm_allocator allocator = plan->allocator;
  allocator.release(allocator.context, plan, sizeof(bnorm_plan));
}

size_t bnorm_plan_workspace_size(const bnorm_plan* plan) noexcept { return plan ? plan->plan.workspace_bytes : 0; }

size_t bnorm_plan_mask_size(const bnorm_plan* plan) noexcept {
  return plan ? static_cast<size_t>(plan->plan.mask_bytes()) : 0;
}

size_t bnorm_plan_coefficients_size(const bnorm_plan* plan) noexcept {
  return plan ? plan->plan.coefficients_bytes() : 0;
}

size_t bnorm_plan_partials_count(const bnorm_plan* plan) noexcept {
  return plan ? static_cast<size_t>(plan->plan.partials_doubles()) : 0;
}

size_t bnorm_plan_exchange_count(const bnorm_plan* plan, int32_t ranks) noexcept {
  return plan && ranks >= 1 ? static_cast<size_t>(plan->plan.exchange_doubles(ranks)) : 0;
}

size_t bnorm_plan_describe(const bnorm_plan* plan, char* buffer, size_t bytes) noexcept {
  return plan ? bnorm::describe(plan->plan, buffer, bytes) : 0;
}

// -------------------------------------------------------------------------------------------- full calls --

bnorm_status bnorm_infer(const bnorm_plan* plan, const bnorm_infer_args* args) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_infer(plan, args, &call);
  return status == BNORM_OK ? bnorm::run_infer(*plan, call) : status;
}

bnorm_status bnorm_train(const bnorm_plan* plan, const bnorm_train_args* args) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_train(plan, args, bnorm::TrainPart::kWhole, nullptr, &call);
  return status == BNORM_OK ? bnorm::run_train(*plan, call) : bnorm::withdraw(plan, call, status);
}

bnorm_status bnorm_backward(const bnorm_plan* plan, const bnorm_backward_args* args) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_backward(plan, args, bnorm::BackwardPart::kWhole, nullptr, &call);
  return status == BNORM_OK ? bnorm::run_backward(*plan, call) : bnorm::withdraw(plan, call, status);
}

// ------------------------------------------------------------------------------------ prepared inference --

bnorm_status bnorm_prepare(const bnorm_plan* plan, const bnorm_prepare_args* args, void* coefficients) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_prepare(plan, args, coefficients, &call);
  if (status == BNORM_OK) bnorm::fill_coefficients(plan->plan, call, coefficients);
  return status;
}

bnorm_status bnorm_normalize(const bnorm_plan* plan, const bnorm_normalize_args* args) noexcept {
  Call call;
  const void* coefficients;
  const bnorm_status status = bnorm::check_normalize(plan, args, &call, &coefficients);
  return status == BNORM_OK ? bnorm::run_normalize(plan->plan, call, coefficients) : status;
}

// ------------------------------------------------------------------------------------------------- parts --

bnorm_status bnorm_moments(const bnorm_plan* plan, const bnorm_train_args* args, double* moments) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_train(plan, args, bnorm::TrainPart::kMoments, moments, &call);
  return status == BNORM_OK ? bnorm::run_moments(*plan, call, moments) : status;
}

bnorm_status bnorm_moments_merge(const bnorm_plan* plan, int64_t n, const double* const* parts, double* merged,
                                 bnorm_error* error) noexcept {
  Report report;
  const bnorm_status status = bnorm::check_merge(plan, n, parts, merged, error, report);
  if (status == BNORM_OK) bnorm::merge_buffers(plan->plan, bnorm::PartialKind::kMoments, n, parts, merged);
  return status;
}

bnorm_status bnorm_moments_finalize(const bnorm_plan* plan, const double* moments,
                                    const bnorm_train_args* args) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_train(plan, args, bnorm::TrainPart::kFinalize, moments, &call);
  return status == BNORM_OK ? bnorm::run_finalize(*plan, call, moments) : status;
}

bnorm_status bnorm_backward_sums(const bnorm_plan* plan, const bnorm_backward_args* args, double* sums) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_backward(plan, args, bnorm::BackwardPart::kSums, sums, &call);
  return status == BNORM_OK ? bnorm::run_sums(*plan, call, sums) : status;
}

bnorm_status bnorm_sums_merge(const bnorm_plan* plan, int64_t n, const double* const* parts, double* merged,
                              bnorm_error* error) noexcept {
  Report report;
  const bnorm_status status = bnorm::check_merge(plan, n, parts, merged, error, report);
  if (status == BNORM_OK) bnorm::merge_buffers(plan->plan, bnorm::PartialKind::kSums, n, parts, merged);
  return status;
}

bnorm_status bnorm_backward_apply(const bnorm_plan* plan, const bnorm_backward_args* args,
                                  const double* sums) noexcept {
  Call call;
  const bnorm_status status = bnorm::check_backward(plan, args, bnorm::BackwardPart::kApply, sums, &call);
  return status == BNORM_OK ? bnorm::run_apply(*plan, call, sums) : status;
}

// ----------------------------------------------------------------------------------------------- folding --

bnorm_status bnorm_fold(const bnorm_plan* plan, const bnorm_fold_args* args) noexcept {
  Call call;
  bnorm::Layer layer;
  const bnorm_status status = bnorm::check_fold(plan, args, &call, &layer);
  return status == BNORM_OK ? bnorm::run_fold(plan->plan, call, layer) : status;
}

}  // extern "C"
