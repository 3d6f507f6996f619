/* SPDX-License-Identifier: Apache-2.0
 * The layout of every public struct on LP64, as numbers: fields may be appended, nothing else may change. Compiled as
 * strict C99, which proves the header to be C as well. */
#include <bnorm/bnorm.h>
#include <stdio.h>

static int failures = 0;

static void expect(const char* what, size_t actual, size_t expected) {
  if (actual == expected) return;
  printf("%s is %lu, expected %lu\n", what, (unsigned long)actual, (unsigned long)expected);
  ++failures;
}

#define STRUCT(type, bytes) expect("sizeof(" #type ")", sizeof(type), bytes)
#define FIELD(type, field, bytes) expect("offsetof(" #type ", " #field ")", offsetof(type, field), bytes)

static void bnorm_error_layout(void) {
  STRUCT(bnorm_error, 256);
  FIELD(bnorm_error, struct_size, 0);
  FIELD(bnorm_error, status, 4);
  FIELD(bnorm_error, message, 8);
}

static void bnorm_strides_layout(void) {
  STRUCT(bnorm_strides, 32);
  FIELD(bnorm_strides, g, 0);
  FIELD(bnorm_strides, n, 8);
  FIELD(bnorm_strides, c, 16);
  FIELD(bnorm_strides, s, 24);
}

static void bnorm_allocator_layout(void) {
  STRUCT(bnorm_allocator, 32);
  FIELD(bnorm_allocator, struct_size, 0);
  FIELD(bnorm_allocator, reserved, 4);
  FIELD(bnorm_allocator, context, 8);
  FIELD(bnorm_allocator, allocate, 16);
  FIELD(bnorm_allocator, release, 24);
}

static void bnorm_desc_layout(void) {
  STRUCT(bnorm_desc, 352);
  FIELD(bnorm_desc, struct_size, 0);
  FIELD(bnorm_desc, data_type, 4);
  FIELD(bnorm_desc, output_type, 8);
  FIELD(bnorm_desc, param_type, 12);
  FIELD(bnorm_desc, stats_type, 16);
  FIELD(bnorm_desc, channel_block, 20);
  FIELD(bnorm_desc, groups, 24);
  FIELD(bnorm_desc, batch, 32);
  FIELD(bnorm_desc, channels, 40);
  FIELD(bnorm_desc, spatial, 48);
  FIELD(bnorm_desc, x, 56);
  FIELD(bnorm_desc, y, 88);
  FIELD(bnorm_desc, residual, 120);
  FIELD(bnorm_desc, dx, 152);
  FIELD(bnorm_desc, dy, 184);
  FIELD(bnorm_desc, dresidual, 216);
  FIELD(bnorm_desc, activation, 248);
  FIELD(bnorm_desc, residual_added, 252);
  FIELD(bnorm_desc, running_mode, 256);
  FIELD(bnorm_desc, biased_running_var, 260);
  FIELD(bnorm_desc, params_per_group, 264);
  FIELD(bnorm_desc, frozen, 268);
  FIELD(bnorm_desc, guard, 272);
  FIELD(bnorm_desc, renorm, 276);
  FIELD(bnorm_desc, clip_lower, 280);
  FIELD(bnorm_desc, clip_upper, 288);
  FIELD(bnorm_desc, leaky_slope, 296);
  FIELD(bnorm_desc, elu_alpha, 304);
  FIELD(bnorm_desc, epsilon, 312);
  FIELD(bnorm_desc, average_factor, 320);
  FIELD(bnorm_desc, allocator, 328);
  FIELD(bnorm_desc, from_output, 336);
  FIELD(bnorm_desc, weighting, 340);
  FIELD(bnorm_desc, from_mask, 344);
  FIELD(bnorm_desc, from_residual, 348);
}

static void bnorm_executor_layout(void) {
  STRUCT(bnorm_executor, 24);
  FIELD(bnorm_executor, struct_size, 0);
  FIELD(bnorm_executor, concurrency, 4);
  FIELD(bnorm_executor, context, 8);
  FIELD(bnorm_executor, parallel_for, 16);
}

static void bnorm_exchange_layout(void) {
  STRUCT(bnorm_exchange, 40);
  FIELD(bnorm_exchange, struct_size, 0);
  FIELD(bnorm_exchange, ranks, 4);
  FIELD(bnorm_exchange, context, 8);
  FIELD(bnorm_exchange, allgather, 16);
  FIELD(bnorm_exchange, buffer, 24);
  FIELD(bnorm_exchange, buffer_count, 32);
}

static void bnorm_infer_args_layout(void) {
  STRUCT(bnorm_infer_args, 112);
  FIELD(bnorm_infer_args, struct_size, 0);
  FIELD(bnorm_infer_args, reserved, 4);
  FIELD(bnorm_infer_args, batch, 8);
  FIELD(bnorm_infer_args, x, 16);
  FIELD(bnorm_infer_args, residual, 24);
  FIELD(bnorm_infer_args, y, 32);
  FIELD(bnorm_infer_args, scale, 40);
  FIELD(bnorm_infer_args, shift, 48);
  FIELD(bnorm_infer_args, running_mean, 56);
  FIELD(bnorm_infer_args, running_var, 64);
  FIELD(bnorm_infer_args, workspace, 72);
  FIELD(bnorm_infer_args, workspace_bytes, 80);
  FIELD(bnorm_infer_args, executor, 88);
  FIELD(bnorm_infer_args, error, 96);
  FIELD(bnorm_infer_args, mask, 104);
}

static void bnorm_train_args_layout(void) {
  STRUCT(bnorm_train_args, 192);
  FIELD(bnorm_train_args, struct_size, 0);
  FIELD(bnorm_train_args, reserved, 4);
  FIELD(bnorm_train_args, batch, 8);
  FIELD(bnorm_train_args, x, 16);
  FIELD(bnorm_train_args, residual, 24);
  FIELD(bnorm_train_args, y, 32);
  FIELD(bnorm_train_args, scale, 40);
  FIELD(bnorm_train_args, shift, 48);
  FIELD(bnorm_train_args, mean, 56);
  FIELD(bnorm_train_args, inv_std, 64);
  FIELD(bnorm_train_args, running_mean, 72);
  FIELD(bnorm_train_args, running_var, 80);
  FIELD(bnorm_train_args, average_factor, 88);
  FIELD(bnorm_train_args, workspace, 96);
  FIELD(bnorm_train_args, workspace_bytes, 104);
  FIELD(bnorm_train_args, executor, 112);
  FIELD(bnorm_train_args, error, 120);
  FIELD(bnorm_train_args, exchange, 128);
  FIELD(bnorm_train_args, renorm_r_max, 136);
  FIELD(bnorm_train_args, renorm_d_max, 144);
  FIELD(bnorm_train_args, renorm_r, 152);
  FIELD(bnorm_train_args, renorm_d, 160);
  FIELD(bnorm_train_args, weights, 168);
  FIELD(bnorm_train_args, lengths, 176);
  FIELD(bnorm_train_args, mask, 184);
}

static void bnorm_backward_args_layout(void) {
  STRUCT(bnorm_backward_args, 208);
  FIELD(bnorm_backward_args, struct_size, 0);
  FIELD(bnorm_backward_args, reserved, 4);
  FIELD(bnorm_backward_args, batch, 8);
  FIELD(bnorm_backward_args, x, 16);
  FIELD(bnorm_backward_args, y, 24);
  FIELD(bnorm_backward_args, residual, 32);
  FIELD(bnorm_backward_args, dy, 40);
  FIELD(bnorm_backward_args, scale, 48);
  FIELD(bnorm_backward_args, shift, 56);
  FIELD(bnorm_backward_args, mean, 64);
  FIELD(bnorm_backward_args, inv_std, 72);
  FIELD(bnorm_backward_args, running_mean, 80);
  FIELD(bnorm_backward_args, running_var, 88);
  FIELD(bnorm_backward_args, dx, 96);
  FIELD(bnorm_backward_args, dresidual, 104);
  FIELD(bnorm_backward_args, dscale, 112);
  FIELD(bnorm_backward_args, dshift, 120);
  FIELD(bnorm_backward_args, workspace, 128);
  FIELD(bnorm_backward_args, workspace_bytes, 136);
  FIELD(bnorm_backward_args, executor, 144);
  FIELD(bnorm_backward_args, error, 152);
  FIELD(bnorm_backward_args, exchange, 160);
  FIELD(bnorm_backward_args, renorm_r, 168);
  FIELD(bnorm_backward_args, renorm_d, 176);
  FIELD(bnorm_backward_args, weights, 184);
  FIELD(bnorm_backward_args, lengths, 192);
  FIELD(bnorm_backward_args, mask, 200);
}

static void bnorm_prepare_args_layout(void) {
  STRUCT(bnorm_prepare_args, 80);
  FIELD(bnorm_prepare_args, struct_size, 0);
  FIELD(bnorm_prepare_args, reserved, 4);
  FIELD(bnorm_prepare_args, mean, 8);
  FIELD(bnorm_prepare_args, inv_std, 16);
  FIELD(bnorm_prepare_args, running_mean, 24);
  FIELD(bnorm_prepare_args, running_var, 32);
  FIELD(bnorm_prepare_args, scale, 40);
  FIELD(bnorm_prepare_args, shift, 48);
  FIELD(bnorm_prepare_args, error, 56);
  FIELD(bnorm_prepare_args, renorm_r, 64);
  FIELD(bnorm_prepare_args, renorm_d, 72);
}

static void bnorm_normalize_args_layout(void) {
  STRUCT(bnorm_normalize_args, 72);
  FIELD(bnorm_normalize_args, struct_size, 0);
  FIELD(bnorm_normalize_args, reserved, 4);
  FIELD(bnorm_normalize_args, batch, 8);
  FIELD(bnorm_normalize_args, x, 16);
  FIELD(bnorm_normalize_args, residual, 24);
  FIELD(bnorm_normalize_args, y, 32);
  FIELD(bnorm_normalize_args, coefficients, 40);
  FIELD(bnorm_normalize_args, executor, 48);
  FIELD(bnorm_normalize_args, error, 56);
  FIELD(bnorm_normalize_args, mask, 64);
}

static void bnorm_fold_args_layout(void) {
  STRUCT(bnorm_fold_args, 176);
  FIELD(bnorm_fold_args, struct_size, 0);
  FIELD(bnorm_fold_args, order, 4);
  FIELD(bnorm_fold_args, weight_type, 8);
  FIELD(bnorm_fold_args, bias_type, 12);
  FIELD(bnorm_fold_args, outputs, 16);
  FIELD(bnorm_fold_args, inputs, 24);
  FIELD(bnorm_fold_args, taps, 32);
  FIELD(bnorm_fold_args, layer_groups, 40);
  FIELD(bnorm_fold_args, output_stride, 48);
  FIELD(bnorm_fold_args, input_stride, 56);
  FIELD(bnorm_fold_args, tap_stride, 64);
  FIELD(bnorm_fold_args, weight, 72);
  FIELD(bnorm_fold_args, bias, 80);
  FIELD(bnorm_fold_args, folded_weight, 88);
  FIELD(bnorm_fold_args, folded_bias, 96);
  FIELD(bnorm_fold_args, mean, 104);
  FIELD(bnorm_fold_args, inv_std, 112);
  FIELD(bnorm_fold_args, running_mean, 120);
  FIELD(bnorm_fold_args, running_var, 128);
  FIELD(bnorm_fold_args, scale, 136);
  FIELD(bnorm_fold_args, shift, 144);
  FIELD(bnorm_fold_args, most_digits_lost, 152);
  FIELD(bnorm_fold_args, digits_lost, 160);
  FIELD(bnorm_fold_args, error, 168);
}

/* The INIT macros set the size and the defaults that are not zero. */
static void initializers(void) {
  const bnorm_error error = BNORM_ERROR_INIT;
  const bnorm_allocator allocator = BNORM_ALLOCATOR_INIT;
  const bnorm_desc desc = BNORM_DESC_INIT;
  const bnorm_executor executor = BNORM_EXECUTOR_INIT;
  const bnorm_infer_args infer = BNORM_INFER_ARGS_INIT;
  const bnorm_train_args train = BNORM_TRAIN_ARGS_INIT;
  const bnorm_backward_args backward = BNORM_BACKWARD_ARGS_INIT;
  const bnorm_prepare_args prepare = BNORM_PREPARE_ARGS_INIT;
  const bnorm_normalize_args normalize = BNORM_NORMALIZE_ARGS_INIT;
  const bnorm_fold_args fold = BNORM_FOLD_ARGS_INIT;
  expect("error.struct_size", error.struct_size, sizeof error);
  expect("allocator.struct_size", allocator.struct_size, sizeof allocator);
  expect("desc.struct_size", desc.struct_size, sizeof desc);
  expect("executor.struct_size", executor.struct_size, sizeof executor);
  expect("infer.struct_size", infer.struct_size, sizeof infer);
  expect("train.struct_size", train.struct_size, sizeof train);
  expect("backward.struct_size", backward.struct_size, sizeof backward);
  expect("prepare.struct_size", prepare.struct_size, sizeof prepare);
  expect("normalize.struct_size", normalize.struct_size, sizeof normalize);
  expect("fold.struct_size", fold.struct_size, sizeof fold);
  expect("fold.taps", (size_t)fold.taps, 1);
  expect("fold.layer_groups", (size_t)fold.layer_groups, 1);
  expect("fold.most_digits_lost == 2", fold.most_digits_lost == 2, 1);
  expect("desc.groups", (size_t)desc.groups, 1);
  expect("desc.spatial", (size_t)desc.spatial, 1);
  expect("desc.epsilon == 1e-5", desc.epsilon == 1e-5, 1);
  expect("desc.average_factor == 0.1", desc.average_factor == 0.1, 1);
  expect("executor.concurrency", (size_t)executor.concurrency, 1);
  expect("infer.batch == BNORM_PLAN_BATCH", infer.batch == BNORM_PLAN_BATCH, 1);
  expect("train.batch == BNORM_PLAN_BATCH", train.batch == BNORM_PLAN_BATCH, 1);
  expect("train.renorm_r_max == 1", train.renorm_r_max == 1, 1);
  expect("train.renorm_d_max == 0", train.renorm_d_max == 0, 1);
  expect("train.average_factor == BNORM_PLAN_FACTOR", train.average_factor == BNORM_PLAN_FACTOR, 1);
  expect("backward.batch == BNORM_PLAN_BATCH", backward.batch == BNORM_PLAN_BATCH, 1);
  expect("normalize.batch == BNORM_PLAN_BATCH", normalize.batch == BNORM_PLAN_BATCH, 1);
}

int main(void) {
  bnorm_error_layout();
  bnorm_strides_layout();
  bnorm_allocator_layout();
  bnorm_desc_layout();
  bnorm_executor_layout();
  bnorm_exchange_layout();
  bnorm_infer_args_layout();
  bnorm_train_args_layout();
  bnorm_backward_args_layout();
  bnorm_prepare_args_layout();
  bnorm_normalize_args_layout();
  bnorm_fold_args_layout();
  initializers();
  expect("bnorm_version()", (size_t)bnorm_version(),
         BNORM_VERSION_MAJOR * 1000000 + BNORM_VERSION_MINOR * 1000 + BNORM_VERSION_PATCH);
  expect("bnorm_numerics_version()", (size_t)bnorm_numerics_version(), BNORM_NUMERICS_VERSION);
  return failures > 0;
}
