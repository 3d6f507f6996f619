/* bnorm: batch normalization for CPUs. This header is the whole manual of the C ABI.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Contents
 *   1. Version, status, messages
 *   2. Simple calls: packed f32, plain arguments, one call
 *   3. Descriptor, plan, executor, exchange
 *   4. Full calls: bnorm_infer, bnorm_train, bnorm_backward
 *   5. Prepared inference: bnorm_prepare, bnorm_normalize
 *   6. Parts: moments, merge, finalize; gradient sums, apply
 *   7. Folding into a convolution or dense layer
 *
 * Vocabulary. Papers and frameworks call `scale` and `shift` gamma and beta, or weight and bias.
 *
 * Geometry. Every tensor is [G][N][C][S]: groups, batch, channels, spatial positions. Statistics belong to a group
 * and channel, over its M = N*S values. Most users have G = 1; groups are time steps, ghost batches or instances.
 *
 * Formulas (source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1 and section 3):
 *   mean = sum(x) / M        var = sum((x - mean)^2) / M        inv_std = 1 / sqrt(var + epsilon)
 *   z = (x - mean) * inv_std * scale + shift (+ residual)       y = activation(z)
 *   running <- running + average_factor * (batch - running)
 *   dz = dy * activation'(z)       dshift = sum(dz)       dscale = sum(dz * (x - mean)) * inv_std
 *   batch statistics:   dx = scale * inv_std * (dz - (dshift + (x - mean) * inv_std * dscale) / M)
 *   frozen statistics:  dx = scale * inv_std * dz                                       dresidual = dz
 *   var + epsilon = 0 gives inv_std = 0.
 *   With weights w of positions (bnorm_desc.weighting): M = sum(w), mean = sum(w * x) / M,
 *   var = sum(w * (x - mean)^2) / M, dx = scale * inv_std * (dz - w * (dshift + (x - mean) * inv_std * dscale) / M).
 *   renormalized:       (x - mean) * inv_std * r + d in place of (x - mean) * inv_std (bnorm_desc.renorm)
 *
 * Rules that hold for every function, unless it says otherwise
 *   - Refused calls (BNORM_INVALID_ARGUMENT, BNORM_UNSUPPORTED, BNORM_OUT_OF_MEMORY) have written no output. The
 *     message names the field, its value and the rule.
 *   - No function prints, aborts, throws or locks, except that the first plan (or bnorm_isa) of a process and its first
 *     call on oneTBB initialize static variables under guards. With a workspace no call allocates. oneTBB does,
 *     for its threads, arenas and task pools: in the first call that it runs for the process and for each calling
 *     thread; later calls reuse them (rarely a pool grows). Small work (bnorm_executor), BNORM_SERIAL and the caller's
 *     executor never enter oneTBB. Where this library was loaded by dlopen, a C library may allocate (and without
 *     memory abort) when a thread has its first message.
 *   - A pointer is required unless its comment, or that of its pair, says when it may be NULL. A tensor of no elements
 *     may be NULL.
 *   - Pointers need the natural alignment of their element type, nothing more; a workspace needs none.
 *     Nothing outside the elements that geometry and strides name is read or written.
 *   - Aliasing: an output tensor may be the very same tensor as an input of the call, with elements of equal size and
 *     equal strides (y == x, dx == dy); otherwise no output overlaps another output or any input. What can be proved
 *     to overlap is refused. Parameters and statistics never overlap an output, running_* being in-out apart.
 *   - Same bits: for given inputs the outputs are the same to the last bit for any executor, thread count, ISA,
 *     strides, alignment, and whether done in one call or in such parts as bnorm_moments_merge names (round to nearest,
 *     no flush to zero; sign and payload of NaN excepted). docs/numerics.md fixes them under BNORM_NUMERICS_VERSION.
 *   - Threads: a plan is immutable and may be used by any number of threads at once. Calls take less than 256 KB of the
 *     stack of each thread that runs them (some C libraries give threads less by default).
 *   - Everything here exists since version 1.0.
 */
#ifndef BNORM_BNORM_H
#define BNORM_BNORM_H

#include <stddef.h>
#include <stdint.h>

#if defined(BNORM_STATIC)
#define BNORM_API
#else
#define BNORM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
#define BNORM_NOEXCEPT noexcept
extern "C" {
#else
#define BNORM_NOEXCEPT
#endif

/* ------------------------------------------------------------------ 1. Version, status, messages -- */

#define BNORM_VERSION_MAJOR 1
#define BNORM_VERSION_MINOR 0
#define BNORM_VERSION_PATCH 0
/** Number of the rules that fix result bits (docs/numerics.md). */
#define BNORM_NUMERICS_VERSION 4

/** What a call came to. */
typedef int32_t bnorm_status;
enum {
  BNORM_OK = 0,
  BNORM_INVALID_ARGUMENT = 1, /**< an argument breaks a rule: nothing written */
  BNORM_UNSUPPORTED = 2,      /**< valid, but not in this version or on this CPU: nothing written */
  BNORM_OUT_OF_MEMORY = 3,    /**< the allocator returned NULL: nothing written */
  BNORM_EXECUTION_FAILED = 4, /**< the executor broke its contract, or oneTBB failed: outputs unspecified, running_*
                                   untouched. The exchange failed: nothing written */
  BNORM_NONFINITE = 5         /**< the guard found NaN or Inf: all written, running_* of those channels kept */
};

/** Details of a call that did not return BNORM_OK, in memory of the caller. Set struct_size before the call; written
 *  only when the status is not BNORM_OK. For callers whose tasks move between threads. */
typedef struct bnorm_error {
  uint32_t struct_size; /**< sizeof(bnorm_error) */
  bnorm_status status;
  char message[248]; /**< NUL-terminated, cut if longer */
} bnorm_error;
#define BNORM_ERROR_INIT                           \
  {                                                \
    (uint32_t)sizeof(bnorm_error), BNORM_OK, { 0 } \
  }

/** Version of the loaded library: major * 1000000 + minor * 1000 + patch. */
BNORM_API int32_t bnorm_version(void) BNORM_NOEXCEPT;
/** Numerics version of the loaded library; compare with BNORM_NUMERICS_VERSION. */
BNORM_API int32_t bnorm_numerics_version(void) BNORM_NOEXCEPT;
/** Name of a status, e.g. "INVALID_ARGUMENT"; "UNKNOWN" for any other number. Never NULL. */
BNORM_API const char* bnorm_status_name(bnorm_status status) BNORM_NOEXCEPT;
/** Message of the last call on this thread that did not return BNORM_OK; "" if there was none. Never NULL; valid until
 *  the next bnorm call on this thread. */
BNORM_API const char* bnorm_last_error(void) BNORM_NOEXCEPT;
/** Instruction set that plans made now would use: "avx512", "avx2", "sse42", "neon64" or "generic": the best this CPU
 *  and operating system have, or the one named by the environment variable BNORM_ISA (empty: as if unset; read at
 *  every plan creation, which refuses a name that this machine lacks; as with any getenv, no other thread may change
 *  the environment then).
 *  With such a refused name: "". */
BNORM_API const char* bnorm_isa(void) BNORM_NOEXCEPT;

/* ------------------------------------------------------------------------------ 2. Simple calls -- */

/* Each makes a plan, and so reads BNORM_ISA (BNORM_UNSUPPORTED). Its workspace lies on the stack, or, if it needs more
 * than 16 KB, comes from one malloc (BNORM_OUT_OF_MEMORY). */

/** Inference on packed f32 tensors [batch][channels][spatial] (channels-last users: full calls).
 *  y = (x - running_mean) / sqrt(running_var + epsilon) * scale + shift.
 *  @param x, y           [batch][channels][spatial]; y may be x
 *  @param scale, shift   [channels]; NULL means 1 and 0
 *  @param running_mean, running_var  [channels], not NULL
 *  @param epsilon        finite, >= 0
 *  Sizes are >= 0. Runs on oneTBB in the caller's arena unless the work is small (bnorm_executor).
 *  Numerics: 1/sqrt in f32, each operation rounded once; bound in docs/numerics.md. */
BNORM_API bnorm_status bnorm_infer_f32(int64_t batch, int64_t channels, int64_t spatial, const float* x, float* y,
                                       const float* scale, const float* shift, const float* running_mean,
                                       const float* running_var, double epsilon) BNORM_NOEXCEPT;

/** Training forward on packed f32 tensors: batch statistics, y, and the update of the running statistics.
 *  @param mean, inv_std  [channels] out: saved statistics for bnorm_backward_f32 (f64: a mean such as 1e7 does not fit
 *                        f32); both or neither NULL
 *  @param running_mean, running_var  [channels] in-out, each may be NULL; the unbiased variance enters
 *  @param average_factor weight of the new batch, in [0, 1]: PyTorch's momentum, 1 - momentum of Keras and ONNX
 *  Other parameters as bnorm_infer_f32. M = 1: var = 0, y = shift (while scale / sqrt(epsilon) fits
 *  f32: docs/numerics.md, "Bounds"). M = 0: statistics 0, running_* untouched. */
BNORM_API bnorm_status bnorm_train_f32(int64_t batch, int64_t channels, int64_t spatial, const float* x, float* y,
                                       const float* scale, const float* shift, double* mean, double* inv_std,
                                       float* running_mean, float* running_var, double epsilon,
                                       double average_factor) BNORM_NOEXCEPT;

/** Gradients of bnorm_train_f32.
 *  @param x, dy          [batch][channels][spatial]; the forward input and the gradient of its output
 *  @param scale          [channels]; NULL means 1
 *  @param mean, inv_std  [channels] as saved by bnorm_train_f32, not NULL
 *  @param dx             [batch][channels][spatial] or NULL; may be dy or x
 *  @param dscale, dshift [channels], each may be NULL
 *  Sums are in f64. */
BNORM_API bnorm_status bnorm_backward_f32(int64_t batch, int64_t channels, int64_t spatial, const float* x,
                                          const float* dy, const float* scale, const double* mean,
                                          const double* inv_std, float* dx, float* dscale,
                                          float* dshift) BNORM_NOEXCEPT;

/* ---------------------------------------------------- 3. Descriptor, plan, executor, exchange -- */

/** Element types. */
typedef int32_t bnorm_type;
enum {
  BNORM_TYPE_DEFAULT = 0, /**< see each field */
  BNORM_F32 = 1,
  BNORM_F64 = 2,
  BNORM_BF16 = 3, /**< 16-bit brain float, held in uint16_t; computed in f32, rounded to nearest even */
  BNORM_F16 = 4   /**< IEEE binary16, likewise */
};

/** Activation fused behind the normalization (and the residual). NaN stays NaN. Infinite z gives the limit. From
 *  BNORM_ELU on they are called curved; their errors: docs/numerics.md, "Activations". */
typedef int32_t bnorm_activation;
enum {
  BNORM_IDENTITY = 0,
  BNORM_RELU = 1,       /**< z < 0 ? 0 : z; derivative 0 at z <= 0 */
  BNORM_CLIP = 2,       /**< z between clip_lower and clip_upper (0 and 6: ReLU6); derivative 0 on and beyond both */
  BNORM_LEAKY_RELU = 3, /**< z < 0 ? z * leaky_slope : z; derivative leaky_slope at z <= 0 */
  BNORM_ELU = 4,        /**< z > 0 ? z : elu_alpha * (exp(z) - 1); derivative elu_alpha * exp(z) at z <= 0 */
  BNORM_SIGMOID = 5,    /**< 1 / (1 + exp(-z)) */
  BNORM_TANH = 6,
  BNORM_SILU = 7,       /**< z * sigmoid(z), also called swish */
  BNORM_HARD_SWISH = 8, /**< z * clip(z + 3, 0, 6) / 6; derivative 0 at z <= -3, 1 at z >= 3 */
  BNORM_GELU = 9,       /**< z * Phi(z), Phi the distribution function of N(0, 1): the form by erf */
  BNORM_GELU_TANH = 10  /**< z * (1 + tanh(u)) / 2, u = sqrt(2 / pi) * (z + 0.044715 * z^3) */
};

/** How groups > 1 share running statistics. */
typedef int32_t bnorm_running_mode;
enum {
  BNORM_RUNNING_UNSET = 0,      /**< fine with one group; with more, a call that gives running_* is refused */
  BNORM_RUNNING_PER_GROUP = 1,  /**< running_* are [G][C] */
  BNORM_RUNNING_SEQUENTIAL = 2, /**< running_* are [C], updated by group 0, 1, ... in turn */
  BNORM_RUNNING_MEAN = 3        /**< running_* are [C], one update with the average over the groups that have values */
};

/** Weights of positions in statistics: bnorm_train and bnorm_backward then take `weights` or `lengths`. The two kinds
 *  differ in the variance that enters running_var, M2 = sum(w * (x - mean)^2) over what is unbiased for each. */
typedef int32_t bnorm_weighting;
enum {
  BNORM_UNWEIGHTED = 0,
  BNORM_FREQUENCY_WEIGHTS = 1,  /**< how often a position counts; masks: M2 / (M - 1) for M >= 2, else M2 / M */
  BNORM_RELIABILITY_WEIGHTS = 2 /**< how much it is relied on, in any unit: with q = sum(w^2) / M, M2 / (M - q) for
                                     M >= 2 * q, else M2 / M */
};

/** Element strides of one tensor [G][N][C][S]. All zero: packed planar in that order (NCHW). A stride is an element
 *  count and may be negative; an output may not overlap itself: sorted by size, each stride covers the axes below. */
typedef struct bnorm_strides {
  int64_t g, n, c, s;
} bnorm_strides;

/** Caller's allocator for the plan and for workspaces that a call was not given; called by several threads at once
 *  where they share the plan. Like all functions of the caller's, these must not throw. */
typedef struct bnorm_allocator {
  uint32_t struct_size; /**< sizeof(bnorm_allocator) */
  uint32_t reserved;    /**< 0 */
  void* context;        /**< handed to both functions */
  /** At least `bytes` bytes (> 0) aligned to max_align_t, or NULL. */
  void* (*allocate)(void* context, size_t bytes);
  /** Takes back what allocate returned; never NULL. */
  void (*release)(void* context, void* pointer, size_t bytes);
} bnorm_allocator;
#define BNORM_ALLOCATOR_INIT \
  { (uint32_t)sizeof(bnorm_allocator), 0, NULL, NULL, NULL }

/** What to normalize, fixed in a plan. Start from BNORM_DESC_INIT; fields that it does not set default to zero. */
typedef struct bnorm_desc {
  uint32_t struct_size;   /**< sizeof(bnorm_desc) of the caller's header */
  bnorm_type data_type;   /**< x, dx: F32 (default), F64, BF16 or F16 */
  bnorm_type output_type; /**< y, residual, dy, dresidual; default data_type. F64 goes with F64 alone, others mix */
  bnorm_type param_type;  /**< scale, shift, running_*, dscale, dshift: any; default F64 for F64 data else F32 */
  bnorm_type stats_type;  /**< saved mean and inv_std: F64 (default) or F32 (frameworks); they are used as rounded */
  int32_t channel_block;  /**< 0; 8 or 16: tensors are [N][C / block][S][block] (nChw8c, nChw16c), see below */
  int64_t groups;         /**< G >= 0; INIT sets 1 */
  int64_t batch;          /**< N >= 0: the largest batch of any call */
  int64_t channels;       /**< C >= 0 */
  int64_t spatial;        /**< S >= 0; INIT sets 1 */
  bnorm_strides x;        /**< strides; likewise the next five, each of its own tensor */
  bnorm_strides y;
  bnorm_strides residual;
  bnorm_strides dx;
  bnorm_strides dy;
  bnorm_strides dresidual;
  bnorm_activation activation;
  int32_t residual_added; /**< 1: z includes a residual, and calls must give it; 0: none */
  bnorm_running_mode running_mode;
  int32_t biased_running_var; /**< 0: var * M / (M - 1) enters running_var for M >= 2 (of weights: see
                                   bnorm_weighting); 1: var enters */
  int32_t params_per_group; /**< 0: scale, shift and gradients are [C] (gradients summed over g in order); 1: [G][C] */
  int32_t frozen;           /**< 1: backward is that of bnorm_infer (running statistics), 0: that of bnorm_train */
  int32_t guard;            /**< 1: channels whose batch mean or variance is not finite in param_type keep their
                                 running_*, and the call returns BNORM_NONFINITE */
  int32_t renorm;           /**< 1: batch renormalization, see bnorm_train; not with frozen */
  double clip_lower;        /**< of BNORM_CLIP, finite; INIT sets 0 */
  double clip_upper;        /**< of BNORM_CLIP, finite, > clip_lower; INIT sets 6 */
  double leaky_slope;       /**< of BNORM_LEAKY_RELU, finite, > 0 (for 0: BNORM_RELU), in f32 too unless data is F64;
                                 INIT sets 0.01 */
  double elu_alpha;         /**< of BNORM_ELU, finite, >= 0, likewise; INIT sets 1 */
  double epsilon;           /**< finite, >= 0, literal; INIT sets 1e-5 */
  double average_factor;    /**< weight of the new batch in [0, 1], literal; INIT sets 0.1. For a cumulative average
                                 pass args.average_factor = 1 / (k + 1) for batch k = 0, 1, ... */
  const bnorm_allocator* allocator; /**< NULL: malloc and free. Copied; its context must outlive the plan. */
  int32_t from_output; /**< 1: bnorm_backward finds what it needs of x in y, see there, so that y may take x's place;
                            needs BNORM_IDENTITY, BNORM_LEAKY_RELU (leaky_slope with a finite inverse) or BNORM_ELU
                            (elu_alpha > 0), both in f32 too unless data is F64, and no residual */
  bnorm_weighting weighting; /**< positions that count differently: then calls must give weights or lengths */
  int32_t from_mask; /**< 1: backward reads a mask, a bit of each element kept by the forward call, and neither y nor
                          the residual; needs BNORM_RELU, BNORM_CLIP or BNORM_LEAKY_RELU, and no from_output */
  int32_t from_residual; /**< 1: bnorm_backward makes z of x and the residual, whatever the activation, and never
                              reads y, which need not be kept; needs residual_added, and no from_mask */
} bnorm_desc;
/* Blocked layouts: one group, C a multiple of the block (pad to it). Strides of zero are packed; others mean n, s, and
 * c from a block to the next, while channels of a block are neighbours. Per-channel arrays are plain [C]. A partials
 * buffer has one count (and sum of squares) for each block in place of count[G]. */
#define BNORM_STRIDES_PACKED \
  { 0, 0, 0, 0 }
#define BNORM_DESC_INIT                                                                                              \
  {                                                                                                                  \
    (uint32_t)sizeof(bnorm_desc), BNORM_F32, BNORM_TYPE_DEFAULT, BNORM_TYPE_DEFAULT, BNORM_TYPE_DEFAULT, 0, 1, 0, 0, \
        1, BNORM_STRIDES_PACKED, BNORM_STRIDES_PACKED, BNORM_STRIDES_PACKED, BNORM_STRIDES_PACKED,                   \
        BNORM_STRIDES_PACKED, BNORM_STRIDES_PACKED, BNORM_IDENTITY, 0, BNORM_RUNNING_UNSET, 0, 0, 0, 0, 0, 0.0, 6.0, \
        0.01, 1.0, 1e-5, 0.1, NULL, 0, 0, 0, 0                                                                       \
  }

/** Memory layouts that bnorm_desc_set_layout knows. Packed, in the order of the letters; G is outermost. */
typedef int32_t bnorm_layout;
enum {
  BNORM_PLANAR = 0,       /**< NC, NCHW, NCDHW: [G][N][C][S] */
  BNORM_CHANNELS_LAST = 1 /**< NHWC, NDHWC: [G][N][S][C] */
};

/** Fills the strides of all six tensors of `desc` for a packed layout of its geometry (set the sizes before).
 *  Refuses NULL, a struct_size as bnorm_plan_create does, negative sizes, more than 2^52 elements, an unknown layout,
 *  or a channel_block (whose packed layout is that of strides 0). */
BNORM_API bnorm_status bnorm_desc_set_layout(bnorm_desc* desc, bnorm_layout layout) BNORM_NOEXCEPT;

/** Fills geometry (G = 1) and the strides of all six tensors for a contiguous row-major array whose axis `axis` is the
 *  channels: axes before it become N, axes behind it S. NHWC: rank 4, axis 3 (or -1). Refuses what
 *  bnorm_desc_set_layout does, and what breaks the rules below.
 *  @param shape  [rank] sizes >= 0;  @param rank >= 1;  @param axis in [-rank, rank) */
BNORM_API bnorm_status bnorm_desc_set_axis(bnorm_desc* desc, const int64_t* shape, int32_t rank,
                                           int32_t axis) BNORM_NOEXCEPT;

/** The same for a strided array of any rank, as NumPy, PyTorch and DLPack describe one (bnorm/dlpack.h): slices,
 *  transposed axes, channels-last memory behind an NCHW shape. Axes that become one, N or S, must be one in memory:
 *  stride[i] = shape[i + 1] * stride[i + 1], axes of size 1 apart; other arrays are refused, and have to be copied.
 *  So are strides that all are 0 (broadcast), which in `desc` mean packed.
 *  @param tensor   NULL: sets geometry (G = 1) and the strides of all six tensors; one of the six in `desc`, e.g.
 *                  &desc->y: sets that one alone, and the sizes must be those of `desc`, its groups 1
 *  @param shape    [rank] sizes >= 0
 *  @param strides  [rank] in elements, may be negative; NULL: row-major without gaps
 *  @param rank, axis  as bnorm_desc_set_axis */
BNORM_API bnorm_status bnorm_desc_set_array(bnorm_desc* desc, bnorm_strides* tensor, const int64_t* shape,
                                            const int64_t* strides, int32_t rank, int32_t axis) BNORM_NOEXCEPT;

/** A validated descriptor with everything decided: ISA, kernels, tiles, workspace. Immutable. */
typedef struct bnorm_plan bnorm_plan;

/** Makes a plan. *plan is written only on BNORM_OK. `error` may be NULL.
 *  Refuses: a struct_size too small; any field outside its rule; an output stride that overlaps; strides that span
 *  2^58 elements or more; more than 2^52 elements. BNORM_UNSUPPORTED: a larger struct_size with a non-zero tail; F64
 *  beside other types of tensors; from_output or from_mask with another activation; channel_block with other groups
 *  than 1; a BNORM_ISA this machine lacks. BNORM_OUT_OF_MEMORY: no room for the plan. */
BNORM_API bnorm_status bnorm_plan_create(bnorm_plan** plan, const bnorm_desc* desc, bnorm_error* error) BNORM_NOEXCEPT;
/** Frees a plan; NULL is fine. No call may still be using it. */
BNORM_API void bnorm_plan_destroy(bnorm_plan* plan) BNORM_NOEXCEPT;
/** Bytes of workspace that suffice for any full call or part with this plan; 0 for NULL. */
BNORM_API size_t bnorm_plan_workspace_size(const bnorm_plan* plan) BNORM_NOEXCEPT;
/** Bytes of a coefficients buffer (bnorm_prepare), a multiple of sizeof(double); 0 for NULL. Contents mean nothing
 *  outside this plan and version. */
BNORM_API size_t bnorm_plan_coefficients_size(const bnorm_plan* plan) BNORM_NOEXCEPT;
/** Bytes of the mask of desc.from_mask: a bit for each element, each row filled up to a multiple of 16 bits. A row is
 *  the channels of a position in channels-last, else the positions of a channel, or planar with 2 to 8 positions,
 *  without gaps or weighting, the values of a sample. 0 without desc.from_mask, and for NULL. Contents mean nothing
 *  outside this plan and version. */
BNORM_API size_t bnorm_plan_mask_size(const bnorm_plan* plan) BNORM_NOEXCEPT;
/** Doubles in one partials buffer (moments or gradient sums): G + 2*G*C, and G more for reliability weights (with
 *  desc.channel_block: G blocks of C channels each); 0 for NULL. */
BNORM_API size_t bnorm_plan_partials_count(const bnorm_plan* plan) BNORM_NOEXCEPT;
/** Writes a NUL-terminated text of what was chosen and why into `buffer`, cut to `bytes`. Returns the length of the
 *  whole text without NUL (as snprintf); `buffer` may be NULL if bytes is 0. 0 for a NULL plan. */
BNORM_API size_t bnorm_plan_describe(const bnorm_plan* plan, char* buffer, size_t bytes) BNORM_NOEXCEPT;

/** One task of a parallel loop. Never throws. */
typedef void (*bnorm_task)(void* argument, int64_t index);

/** The caller's threads. NULL in a call means oneTBB in the caller's arena (task_arena and global_control hold); builds
 *  without oneTBB, and children forked after a call ran on it, run on the calling thread. */
typedef struct bnorm_executor {
  uint32_t struct_size; /**< sizeof(bnorm_executor) */
  int32_t concurrency;  /**< threads that may run tasks at once, >= 1: limits the splitting; 1: no task is handed out */
  void* context;        /**< handed to parallel_for */
  /** Runs task(argument, i) exactly once for each i in [0, n), in any order, on any thread, and returns 0 after all
   *  have ended and their writes are visible. Any other result, or a task not run once, is BNORM_EXECUTION_FAILED.
   *  n is at most 256. Small work, in version 1.0 loops that move up to 768 KiB, runs on the calling thread. */
  int32_t (*parallel_for)(void* context, int64_t n, bnorm_task task, void* argument);
} bnorm_executor;
#define BNORM_EXECUTOR_INIT \
  { (uint32_t)sizeof(bnorm_executor), 1, NULL, NULL }

/** The executor that runs everything on the calling thread. */
BNORM_API const bnorm_executor* bnorm_serial_executor(void) BNORM_NOEXCEPT;
#define BNORM_SERIAL (bnorm_serial_executor())

/** Statistics over several callers ("ranks"): processes, or threads of one. Each gives its own batch, which may be
 *  empty, and gets the statistics or gradient sums of the joined one. bnorm/mpi.h makes one of an MPI communicator.
 *
 *  All ranks make the same calls in the same order, with plans equal in groups, channels, channel_block, types,
 *  weighting and from_output. One allgather in bnorm_train, one in bnorm_backward: a status and a partials buffer
 *  (counts, means and M2, or gradient sums), all f64: 8 bytes for each of 1 + bnorm_plan_partials_count numbers a rank.
 *  They are merged by the tree of bnorm_moments_merge in the order of ranks: every rank gets the same bits, and those
 *  of one process on the joined batch where that function promises it.
 *
 *  A rank whose call is refused, or whose executor fails before the message, still takes part: it returns its own
 *  status, the others BNORM_EXECUTION_FAILED, and no rank has written an output. Only where the plan or the
 *  exchange is refused, args is NULL or its struct_size too small, or the buffer overlaps an array of the call, can it
 *  not: these are the caller's to check. An executor that fails behind the message is known to its own rank alone. */
typedef struct bnorm_exchange {
  uint32_t struct_size; /**< sizeof(bnorm_exchange) */
  int32_t ranks;        /**< >= 1 */
  void* context;        /**< handed to allgather */
  /** Gives `count` doubles of this rank to all and brings received[ranks][count] of all, in the order of ranks. Returns
   *  0, or anything else on failure: the call is then BNORM_EXECUTION_FAILED, with no output written. */
  int32_t (*allgather)(void* context, const double* sent, double* received, int64_t count);
  double* buffer; /**< the messages, written by a refused rank too. Must not overlap any array of the call, which is
                       checked behind all other rules but those of the values of weights, lengths and scale */
  int64_t buffer_count; /**< doubles in it, at least bnorm_plan_exchange_count */
} bnorm_exchange;
#define BNORM_EXCHANGE_INIT \
  { (uint32_t)sizeof(bnorm_exchange), 1, NULL, NULL, NULL, 0 }

/** Doubles that an exchange over so many ranks needs: (ranks + 1) * (1 + bnorm_plan_partials_count); 0 for NULL or
 *  ranks < 1. */
BNORM_API size_t bnorm_plan_exchange_count(const bnorm_plan* plan, int32_t ranks) BNORM_NOEXCEPT;

/** `batch` of the arguments below: the plan's own batch (INIT sets it). Any other value is literal: 0 is empty. */
#define BNORM_PLAN_BATCH (-1)
/** `average_factor` of the arguments below: the descriptor's (INIT sets it). */
#define BNORM_PLAN_FACTOR (-1.0)

/* ---------------------------------------------------------------------------------- 4. Full calls -- */

/* Common to the argument structs: start from the INIT macro; a struct_size that is too small is BNORM_INVALID_ARGUMENT,
 * one beyond this library's with a non-zero tail BNORM_UNSUPPORTED. Structs only ever grow at their end, and the sizes
 * of earlier versions go on being accepted. `workspace` of at least bnorm_plan_workspace_size bytes, or NULL with
 * workspace_bytes 0: the call then allocates once from the plan's allocator. `executor` as above. `error` may be NULL.
 * [C or G][C] below means [C], or [G][C] where the descriptor says per group. */

/** Arguments of bnorm_infer. */
typedef struct bnorm_infer_args {
  uint32_t struct_size;
  uint32_t reserved;        /**< 0 */
  int64_t batch;            /**< <= the plan's, or BNORM_PLAN_BATCH */
  const void* x;            /**< of the batch: sizes, strides and type as `desc` has them, as all tensors */
  const void* residual;     /**< required if desc.residual_added, else NULL */
  void* y;                  /**< may be residual, or x of equal size, with equal strides */
  const void* scale;        /**< [C or G][C], NULL: 1 */
  const void* shift;        /**< [C or G][C], NULL: 0 */
  const void* running_mean; /**< [C], or [G][C] for BNORM_RUNNING_PER_GROUP; required */
  const void* running_var;  /**< likewise */
  void* workspace;
  size_t workspace_bytes;
  const bnorm_executor* executor;
  bnorm_error* error;
  void* mask; /**< of desc.from_mask: bnorm_plan_mask_size bytes, any alignment, out, for bnorm_backward; NULL: not
                 kept */
} bnorm_infer_args;
#define BNORM_INFER_ARGS_INIT                                                                                         \
  {                                                                                                                   \
    (uint32_t)sizeof(bnorm_infer_args), 0, BNORM_PLAN_BATCH, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, \
        NULL, NULL                                                                                                    \
  }

/** Inference: y = activation((x - running_mean) * inv_std * scale + shift (+ residual)) with the given statistics.
 *  [C] statistics serve all groups. Numerics: y = (x - center) * gain + offset, coefficients as bnorm_prepare. */
BNORM_API bnorm_status bnorm_infer(const bnorm_plan* plan, const bnorm_infer_args* args) BNORM_NOEXCEPT;

/** Arguments of bnorm_train. */
typedef struct bnorm_train_args {
  uint32_t struct_size;
  uint32_t reserved; /**< this and what follows up to shift: as in bnorm_infer_args */
  int64_t batch;
  const void* x;
  const void* residual;
  void* y;
  const void* scale;
  const void* shift;
  void* mean;            /**< [G][C] of stats_type, out; NULL: not saved */
  void* inv_std;         /**< likewise; both or neither */
  void* running_mean;    /**< in-out, NULL: none. [C] or [G][C] by running_mode */
  void* running_var;     /**< likewise, independent of running_mean */
  double average_factor; /**< in [0, 1], or BNORM_PLAN_FACTOR */
  void* workspace;
  size_t workspace_bytes;
  const bnorm_executor* executor;
  bnorm_error* error;
  const bnorm_exchange* exchange; /**< NULL: statistics of this batch alone */
  double renorm_r_max;            /**< of desc.renorm: >= 1, may be INFINITY; INIT sets 1 */
  double renorm_d_max;            /**< likewise: >= 0; INIT sets 0: batch normalization until told otherwise */
  void* renorm_r;                 /**< [G][C] of stats_type, out, for bnorm_backward; NULL: not saved, or no renorm */
  void* renorm_d;                 /**< likewise; both or neither */
  const void* weights;            /**< of desc.weighting, [G][N][S] without gaps, N the plan's (channel_block: [N][S]):
                                       f32, of F64 data f64; each 0, or in [2^-64, 2^64]. These or lengths, else NULL */
  const int64_t* lengths; /**< [G][N], N the plan's, each in [0, S]: so many first positions of a sample weigh 1 */
  void* mask;             /**< as in bnorm_infer_args */
} bnorm_train_args;
#define BNORM_TRAIN_ARGS_INIT                                                                                      \
  {                                                                                                                \
    (uint32_t)sizeof(bnorm_train_args), 0, BNORM_PLAN_BATCH, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
        BNORM_PLAN_FACTOR, NULL, 0, NULL, NULL, NULL, 1.0, 0.0, NULL, NULL, NULL, NULL, NULL                       \
  }

/** Training forward: statistics of the batch, y from them (as rounded to stats_type), and the running update.
 *  average_factor 1 replaces running_* (whatever they held), 0 keeps them.
 *  One value: var = 0, y = activation(shift + residual), but for what F32 stats_type rounds off the mean of F64 data.
 *  M = 0: BNORM_OK, saved statistics 0, running_* untouched.
 *  desc.renorm: batch renormalization (Ioffe 2017, arXiv:1702.03275, algorithm 1). running_mean and running_var are
 *  required; as they were before the call, with sigma = sqrt(running_var + epsilon) (1 / sigma is 0 where that is 0),
 *    r = clip(1 / inv_std / sigma, 1 / renorm_r_max, renorm_r_max)     (inv_std 0: 0 in place of 1 / inv_std)
 *    d = clip((mean - running_mean) / sigma, -renorm_d_max, renorm_d_max)        y of scale * r and shift + scale * d
 *  in f64, rounded to stats_type (M = 0: r = 1, d = 0); constants to bnorm_backward, whose dscale is
 *    sum(dz * ((x - mean) * inv_std * r + d)).
 *  Groups that share running statistics all take those from before the call. The running update is the usual one, of
 *  the variance (the paper's averages sigma).
 *  desc.weighting: positions of weight 0 (padding) enter no sum, whatever they hold, NaN too; y is normalized there as
 *  anywhere. Weights of 1 give the bits of no weights. No weight above 0: as M = 0, with y = activation(shift +
 *  residual) where x is finite.
 *  Numerics: mean and variance in f64 of data of any type, blocked and merged by Chan, Golub and LeVeque (1979). */
BNORM_API bnorm_status bnorm_train(const bnorm_plan* plan, const bnorm_train_args* args) BNORM_NOEXCEPT;

/** Arguments of bnorm_backward. */
typedef struct bnorm_backward_args {
  uint32_t struct_size;
  uint32_t reserved;
  int64_t batch;
  const void* x; /**< the forward input; may be NULL, and is not read, if dscale, exchange and (unless frozen) dx are
                    NULL and z is not needed (identity, from_mask) or y tells its derivative (residual_added, no
                    from_residual, an activation named at y); from_output: unused */
  const void* y; /**< the forward output: required if desc.from_output (of identity only where x would be), or
                    residual_added with an activation whose derivative it tells (ReLU, clip, leaky ReLU, ELU, sigmoid,
                    tanh) and neither from_mask nor from_residual; else unused */
  const void* residual; /**< as in the forward call: required if desc.residual_added with from_residual and any
                           activation but identity, or with SiLU, hard-swish or GELU; else unused */
  const void* dy;       /**< of y's sizes */
  const void* scale;    /**< as in the forward call */
  const void* shift;    /**< as in the forward call; read to find z again, and always if desc.from_output */
  const void* mean;     /**< [G][C] stats_type, saved by bnorm_train; NULL if frozen, else required */
  const void* inv_std;
  const void* running_mean; /**< frozen: as in bnorm_infer, required; else NULL */
  const void* running_var;
  void* dx;        /**< NULL: not wanted; may be x, or dy of equal size, with equal strides */
  void* dresidual; /**< NULL: not wanted (NULL unless residual_added); may be dy with equal strides */
  void* dscale;    /**< [C or G][C] of param_type, overwritten; NULL: not wanted */
  void* dshift;
  void* workspace;
  size_t workspace_bytes;
  const bnorm_executor* executor;
  bnorm_error* error;
  const bnorm_exchange* exchange; /**< as in the forward call: then dscale and dshift are those of the joined batch, the
                                       same on every rank; NULL: this batch alone */
  const void* renorm_r;           /**< [G][C] stats_type, saved by bnorm_train; required if desc.renorm, else NULL */
  const void* renorm_d;
  const void* weights; /**< as in the forward call */
  const int64_t* lengths;
  const void* mask; /**< kept by the forward call, with this plan; required if desc.from_mask, else NULL */
} bnorm_backward_args;
#define BNORM_BACKWARD_ARGS_INIT                                                                                      \
  {                                                                                                                   \
    (uint32_t)sizeof(bnorm_backward_args), 0, BNORM_PLAN_BATCH, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
        NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL                         \
  }

/** Gradients of bnorm_train, or of bnorm_infer if desc.frozen. activation'(z) is found from x; where a residual was
 *  added, from y if that tells it, else or with from_residual from x and residual; from_output: from y; from_mask: from
 *  the mask. M = 0: dscale = dshift = 0.
 *  desc.from_mask: bits of 1 where activation'(z) is 1, of z before y is rounded to its type. One read of an element
 *  less where a residual was added (x, dy and a bit in place of x, dy and y), for a bit written in the forward call.
 *  The bits of dx are those of a backward from y wherever y rounds no z to a limit. Channels-last of less than 128
 *  channels without gaps (of multiples of 16: of at most 64, reductions alone), and tensors of several layouts in one
 *  plan, take longer with a mask.
 *  desc.from_output (Rota Bulo, Porzi and Kontschieder 2018, arXiv:1712.02616): (x - mean) * inv_std, below x-hat, is
 *  (z - shift) / scale with z = y, or where y < 0 y / leaky_slope or log(1 + y / elu_alpha). Every scale must be
 *  finite, not 0, and have a finite inverse, or bnorm_train, bnorm_backward and its parts refuse it (where r of
 *  desc.renorm makes it 0, x-hat counts as 0). Inference, prepared too, takes any: an x that it overwrites under such
 *  a scale is lost to backward. A rounding of y is one of z: x-hat is wrong by up to roundoff * |z / scale|, the
 *  roundoff of y's type (of leaky ReLU 4 times that where y < 0), so the smaller the scales beside the shifts, the less
 *  is left of it. Of ELU it is roundoff * |y / (y + elu_alpha) / scale|: below log(roundoff) nothing is left of z, but
 *  nor is there any dz. The second sum of bnorm_backward_sums is sum(dz * (z - shift)).
 *  desc.weighting: sums leave out positions of weight 0, where dx = scale * inv_std * dz; a loss that masks them has
 *  dy = 0 there, and all gradients are exact. (NaN in padding behind a curved activation makes NaN of dx and
 *  dresidual, there alone.) Statistics may be frozen: dscale and dshift then leave those positions out too.
 *  Numerics: sums in f64; dx = dz*gain + (x - center)*slope + bias. */
BNORM_API bnorm_status bnorm_backward(const bnorm_plan* plan, const bnorm_backward_args* args) BNORM_NOEXCEPT;

/* ------------------------------------------------------------------------- 5. Prepared inference -- */

/** Statistics and parameters that make coefficients. */
typedef struct bnorm_prepare_args {
  uint32_t struct_size;
  uint32_t reserved;
  const void* mean; /**< [G][C] stats_type with inv_std, as bnorm_moments_finalize made them, or both NULL */
  const void* inv_std;
  const void* running_mean; /**< with running_var, as in bnorm_infer, or both NULL; exactly one pair is given */
  const void* running_var;
  const void* scale; /**< as in bnorm_infer */
  const void* shift;
  bnorm_error* error;
  const void* renorm_r; /**< [G][C] stats_type with mean, as bnorm_moments_finalize made them: required with mean if
                             desc.renorm, else NULL */
  const void* renorm_d;
} bnorm_prepare_args;
#define BNORM_PREPARE_ARGS_INIT \
  { (uint32_t)sizeof(bnorm_prepare_args), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL }

/** Makes the coefficients of bnorm_normalize: with center = mean rounded to the arithmetic type,
 *  gain = scale * inv_std, offset = shift - (mean - center) * gain. From running statistics 1/sqrt is in f64
 *  for f64 data or parameters, else in f32; from saved ones everything is in f64 and rounded once.
 *  @param coefficients  bnorm_plan_coefficients_size bytes, aligned for double */
BNORM_API bnorm_status bnorm_prepare(const bnorm_plan* plan, const bnorm_prepare_args* args,
                                     void* coefficients) BNORM_NOEXCEPT;

/** Arguments of bnorm_normalize. */
typedef struct bnorm_normalize_args {
  uint32_t struct_size;
  uint32_t reserved;
  int64_t batch; /**< this and the tensors: as in bnorm_infer_args */
  const void* x;
  const void* residual;
  void* y;
  const void* coefficients; /**< made by bnorm_prepare with this plan; required */
  const bnorm_executor* executor;
  bnorm_error* error;
  void* mask; /**< as in bnorm_infer_args */
} bnorm_normalize_args;
#define BNORM_NORMALIZE_ARGS_INIT \
  { (uint32_t)sizeof(bnorm_normalize_args), 0, BNORM_PLAN_BATCH, NULL, NULL, NULL, NULL, NULL, NULL, NULL }

/** y = activation((x - center) * gain + offset (+ residual)): no workspace or allocation, and no square root or
 *  division but those of a curved activation. */
BNORM_API bnorm_status bnorm_normalize(const bnorm_plan* plan, const bnorm_normalize_args* args) BNORM_NOEXCEPT;

/* ------------------------------------------------------------------------------------- 6. Parts -- */

/* A training step in parts, for statistics over micro-batches, or over processes where an exchange does not fit:
 *   bnorm_moments -> bnorm_moments_merge -> bnorm_moments_finalize -> bnorm_prepare -> bnorm_normalize
 *   bnorm_backward_sums -> bnorm_sums_merge -> bnorm_backward_apply
 * gives the bits of bnorm_train and bnorm_backward where bnorm_moments_merge promises it. A partials buffer is one flat
 * run of bnorm_plan_partials_count doubles, ready to send: count[G], then two arrays [G][C]. Moments: mean and M2 =
 * sum((x - mean)^2). Gradient sums: sum(dz) and sum(dz * (x - mean)). With weights, counts are their sums, and M2 is
 * weighted; of reliability weights sum(w^2) comes last, [G]. Counts and these must be finite and >= 0 where they are
 * read. */

/** Moments of a batch. Reads batch, x, weights, lengths, workspace, executor and error of `args`; the other pointers
 *  must be NULL (for all parts: `exchange` too), other fields within their rules.
 *  @param moments  out, partials buffer */
BNORM_API bnorm_status bnorm_moments(const bnorm_plan* plan, const bnorm_train_args* args,
                                     double* moments) BNORM_NOEXCEPT;

/** Merges n >= 1 partial moments, in order, along the tree of docs/numerics.md (adjacent pairs, level by level) by
 *  Chan's formula; parts with count 0 add nothing.
 *  @param parts   [n] pointers to partials buffers (none NULL)
 *  @param merged  out; may be parts[0] but no other part
 *  Same bits as one process if every part but the last holds the same 2^k whole reduction blocks, the last no more (a
 *  block is 64 strips of up to 16 positions, 1024 positions where 16 divides S: docs/numerics.md). */
BNORM_API bnorm_status bnorm_moments_merge(const bnorm_plan* plan, int64_t n, const double* const* parts,
                                           double* merged, bnorm_error* error) BNORM_NOEXCEPT;

/** Statistics from moments: writes mean and inv_std (and renorm_*), updates running_*. Reads mean, inv_std, running_*,
 *  renorm_*, average_factor and error of `args`; batch, workspace and executor are ignored, x, y, residual, scale,
 *  shift, weights, lengths and mask NULL. desc.renorm: running_* are required. */
BNORM_API bnorm_status bnorm_moments_finalize(const bnorm_plan* plan, const double* moments,
                                              const bnorm_train_args* args) BNORM_NOEXCEPT;

/** Gradient sums of a batch. Reads all inputs of `args`, always x (from_output: y), but writes only `sums`; dx,
 *  dresidual, dscale, dshift NULL. */
BNORM_API bnorm_status bnorm_backward_sums(const bnorm_plan* plan, const bnorm_backward_args* args,
                                           double* sums) BNORM_NOEXCEPT;
/** Merges n >= 1 gradient sums along the same tree as bnorm_moments_merge; same rules. */
BNORM_API bnorm_status bnorm_sums_merge(const bnorm_plan* plan, int64_t n, const double* const* parts, double* merged,
                                        bnorm_error* error) BNORM_NOEXCEPT;
/** From the sums (and counts) of all: dx and dresidual of this batch; dscale and dshift of the joined one, the same for
 *  every part of it, so not to be added up. Reads all inputs of `args`; which are required is as in bnorm_backward. */
BNORM_API bnorm_status bnorm_backward_apply(const bnorm_plan* plan, const bnorm_backward_args* args,
                                            const double* sums) BNORM_NOEXCEPT;

/* ------------------------------------------------------------------------------------ 7. Folding -- */

/** Which of the two comes first: what is folded together. */
typedef int32_t bnorm_fold_order;
enum {
  BNORM_LAYER_FIRST = 0, /**< z = normalize(layer(v)): channels are the layer's outputs */
  BNORM_LAYER_LAST = 1   /**< layer(normalize(v)): channels are the layer's inputs. A convolution that padded z with 0
                              must now pad v with -offset / gain of each channel */
};

/** A convolution or dense layer: out[o] = bias[o] + sum over i, t of weight[o][i][t] * in[i][t].
 *  Strides (output, input, tap) of common layouts, T = taps: OIHW, OI: all 0. OHWI: T*I, 1, I. HWIO: 1, O, I*O.
 *  IO (Keras): 1, O, 0. IOHW (transposed): T, O*T, 1. Depthwise [C][T]: layer_groups C, inputs 1.
 *  A transposed convolution in groups has no such strides: fold each group by itself, with a plan of its channels. */
typedef struct bnorm_fold_args {
  uint32_t struct_size;
  bnorm_fold_order order;
  bnorm_type weight_type; /**< of weight and folded_weight: any; default F32 */
  bnorm_type bias_type;   /**< of bias and folded_bias: any; default F32 */
  int64_t outputs;        /**< >= 0 */
  int64_t inputs;         /**< of one layer group, >= 0 */
  int64_t taps;           /**< positions of the kernel, >= 0; INIT sets 1 */
  int64_t layer_groups;   /**< of a grouped convolution, >= 1, a divisor of outputs; INIT sets 1 */
  int64_t output_stride;  /**< in elements; all three 0: packed [outputs][inputs][taps] */
  int64_t input_stride;
  int64_t tap_stride;
  const void* weight;  /**< [outputs][inputs][taps] by the strides above */
  const void* bias;    /**< [outputs], NULL: 0 */
  void* folded_weight; /**< out, strides as weight; may be weight */
  void* folded_bias;   /**< [outputs], out; may be bias */
  const void* mean;    /**< statistics and parameters as in bnorm_prepare_args */
  const void* inv_std;
  const void* running_mean;
  const void* running_var;
  const void* scale;
  const void* shift;
  double most_digits_lost; /**< >= 0, INFINITY: fold whatever is lost; INIT sets 2 */
  double* digits_lost;     /**< out, NULL: not wanted */
  bnorm_error* error;
} bnorm_fold_args;
#define BNORM_FOLD_ARGS_INIT                                                                                         \
  {                                                                                                                  \
    (uint32_t)sizeof(bnorm_fold_args), 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
        NULL, NULL, 2.0, NULL, NULL                                                                                  \
  }

/** Weights and bias of the one layer that does what layer and normalization did (layer first: activation and residual
 *  stay behind it): with gain = scale * inv_std and offset = shift - mean * gain of a channel,
 *    layer first: weight * gain[o],  bias * gain[o] + offset[o]
 *    layer last:  weight * gain[i],  bias + sum over i, t of weight * offset[i]
 *  in f64, each result rounded once to its type (16-bit: through f32). The plan has one group and gives channels,
 *  epsilon, param_type and stats_type; its tensors and batch do not matter. Layer last: it has neither activation nor
 *  residual, which would stand in between. With desc.renorm only running statistics can be folded. A setup call: it
 *  allocates nothing and runs on the calling thread.
 *
 *  digits_lost: decimal digits by which rounding errors of the folded layer may exceed those of its types, log10 of the
 *  worst over outputs of
 *    - the sum of the weights' rounding errors over roundoff times the sum of their sizes (subnormals, overflow), and
 *    - the bias, or the terms it is a sum of, over the size of the results: |scale[o]| + |shift[o]|, layer last:
 *      |bias| + sum of |weight| * (|scale[i]| + |shift[i]|). Means of 1000 deviations lose three digits here.
 *  A fold that would lose more than most_digits_lost is refused (BNORM_INVALID_ARGUMENT), with the figure in the
 *  message, and writes nothing. NaN and overflow count as infinitely many.
 *  Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2 (layer first). */
BNORM_API bnorm_status bnorm_fold(const bnorm_plan* plan, const bnorm_fold_args* args) BNORM_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif /* BNORM_BNORM_H */
