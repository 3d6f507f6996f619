/* bnorm and DLPack: tensors of other libraries as geometry, strides and data. Header only, C99; needs dlpack/dlpack.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *   bnorm_desc desc = BNORM_DESC_INIT;
 *   bnorm_desc_set_dlpack(&desc, NULL, &x->dl_tensor, 1, &error);    // NCHW, in whatever memory order it has
 *   bnorm_desc_set_dlpack(&desc, &desc.y, &y->dl_tensor, 1, &error); // y has strides of its own
 *   args.x = bnorm_dlpack_data(&x->dl_tensor);
 */
#ifndef BNORM_DLPACK_H
#define BNORM_DLPACK_H

#include <bnorm/bnorm.h>
#include <dlpack/dlpack.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Element type of `tensor` (not NULL), or BNORM_TYPE_DEFAULT if bnorm has none of its kind. */
static inline bnorm_type bnorm_dlpack_type(const DLTensor* tensor) {
  const DLDataType type = tensor->dtype;
  if (type.lanes != 1) return BNORM_TYPE_DEFAULT;
  if (type.code == kDLBfloat) return type.bits == 16 ? BNORM_BF16 : BNORM_TYPE_DEFAULT;
  if (type.code != kDLFloat) return BNORM_TYPE_DEFAULT;
  if (type.bits == 16) return BNORM_F16;
  if (type.bits == 32) return BNORM_F32;
  return type.bits == 64 ? BNORM_F64 : BNORM_TYPE_DEFAULT;
}

/** The first element of `tensor` (not NULL), or NULL if it has no memory, as one of no elements may. */
static inline void* bnorm_dlpack_data(const DLTensor* tensor) {
  return tensor->data ? (char*)tensor->data + tensor->byte_offset : NULL;
}

/** Keeps what bnorm_desc_set_dlpack has to say. */
static inline bnorm_status bnorm_dlpack_refuse(bnorm_error* error, bnorm_status status, const char* message) {
  if (error) {
    error->status = status;
    (void)snprintf(error->message, sizeof error->message, "%s", message);
  }
  return status;
}

/** bnorm_desc_set_array for a tensor, and its element type.
 *  @param desc     initialized
 *  @param strides  NULL: sets geometry, all strides and data_type; one of the six in `desc`: sets that one alone, and
 *                  the type must be the one that `desc` has for it: data_type for x and dx, for the others output_type
 *                  (which stands for data_type while it is 0)
 *  @param tensor   of f32, f64, bf16 or f16, in memory of the CPU (kDLCPU, kDLCUDAHost); its strides may be NULL
 *  @param axis     that of the channels, in [-ndim, ndim)
 *  @param error    NULL, or initialized: the message of any refusal, which has changed nothing. bnorm_last_error has
 *                  those of bnorm_desc_set_array alone. */
static inline bnorm_status bnorm_desc_set_dlpack(bnorm_desc* desc, bnorm_strides* strides, const DLTensor* tensor,
                                                 int32_t axis, bnorm_error* error) {
  bnorm_type type;
  bnorm_status status;
  if (error && error->struct_size < sizeof *error) return BNORM_INVALID_ARGUMENT;
  if (!desc || !tensor)
    return bnorm_dlpack_refuse(error, BNORM_INVALID_ARGUMENT,
                               desc ? "tensor = NULL: must be given" : "desc = NULL: must be given");
  type = bnorm_dlpack_type(tensor);
  if (tensor->device.device_type != kDLCPU && tensor->device.device_type != kDLCUDAHost)
    return bnorm_dlpack_refuse(error, BNORM_UNSUPPORTED, "device: must be kDLCPU or kDLCUDAHost");
  if (type == BNORM_TYPE_DEFAULT)
    return bnorm_dlpack_refuse(error, BNORM_UNSUPPORTED, "dtype: must be float16, bfloat16, float32 or float64");
  if (strides) {
    const int of_data = strides == &desc->x || strides == &desc->dx || !desc->output_type;
    const bnorm_type data_type = desc->data_type ? desc->data_type : BNORM_F32;
    if (type != (of_data ? data_type : desc->output_type))
      return bnorm_dlpack_refuse(error, BNORM_INVALID_ARGUMENT,
                                 "dtype: must be the type that desc has for this tensor");
  }
  status = bnorm_desc_set_array(desc, strides, tensor->shape, tensor->strides, tensor->ndim, axis);
  if (status != BNORM_OK) return bnorm_dlpack_refuse(error, status, bnorm_last_error());
  if (!strides) desc->data_type = type;
  return BNORM_OK;
}

#ifdef __cplusplus
}
#endif
#endif /* BNORM_DLPACK_H */
