// SPDX-License-Identifier: Apache-2.0
// The border between the library and its kernels: plain data, function pointers, and the order of reduction. The only
// header that files compiled with ISA flags share with the rest, so every function here has internal linkage.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace bnorm {

// ---------------------------------------------------------------------------------------- order of reduction --

/// Positions (n, s) of one group and channel in the order in which they are summed (docs/numerics.md): octets of at
/// most 8 positions, two octets a strip, kQuadStrips strips a quad, kBlockStrips strips a block. For S > 8 octets and
/// strips belong to one sample; for S <= 8 an octet is 8 / S whole samples. Nothing but S and N decides it.
struct Order {
  int64_t batch, spatial;
  int64_t octet_samples;      // S <= 8: samples in an octet, a power of two; else 0
  int64_t strips_per_sample;  // S > 8; else 0
};

// 64 strips: 1024 positions where 16 divides S, 4 KB of f32. Large enough to hide the fold at its end (measured 4 %
// in L1), small enough that no summand goes through more than 69 additions.
constexpr int64_t kBlockStrips = 64;
constexpr int64_t kOctet = 8;
constexpr int64_t kStrip = 2 * kOctet;
// Strips summed in registers before their sum joins that of the block: chains of 8 terms hide behind each other.
constexpr int64_t kQuadStrips = 4;
constexpr int64_t kQuad = kQuadStrips * kStrip;

static inline Order make_order(int64_t batch, int64_t spatial) {
  if (spatial > kOctet) return {batch, spatial, 0, (spatial + kStrip - 1) / kStrip};
  constexpr signed char octet_samples[kOctet + 1] = {1, 8, 4, 2, 2, 1, 1, 1, 1};
  return {batch, spatial, octet_samples[spatial], 0};
}

// Calls at batch 1 go through here a dozen times: no divisions on their way.
static inline int64_t strip_count(const Order& o) {
  if (o.batch == 0 || o.spatial == 0) return 0;
  if (o.strips_per_sample > 0) return o.batch * o.strips_per_sample;
  return (o.batch + 2 * o.octet_samples - 1) >> __builtin_ctzll(static_cast<uint64_t>(2 * o.octet_samples));
}

static inline int64_t block_count(const Order& o) { return (strip_count(o) + kBlockStrips - 1) / kBlockStrips; }

/// A position by sample and place in it.
struct Position {
  int64_t n, s;
};

/// The first position of a strip; (N, 0) from the end on.
static inline Position strip_position(const Order& o, int64_t strip) {
  if (strip >= strip_count(o)) return {o.batch, 0};
  if (strip == 0) return {0, 0};
  if (o.strips_per_sample == 0) return {strip * 2 * o.octet_samples, 0};
  const int64_t n = strip / o.strips_per_sample;
  return {n, (strip - n * o.strips_per_sample) * kStrip};
}

/// Position n * S + s at which a strip begins; N * S from the end on.
static inline int64_t strip_begin(const Order& o, int64_t strip) {
  const Position p = strip_position(o, strip);
  return p.n * o.spatial + p.s;
}

static inline int64_t block_begin(const Order& o, int64_t block) { return strip_begin(o, block * kBlockStrips); }

/// Positions of a block.
static inline int64_t block_length(const Order& o, int64_t block) {
  return block_begin(o, block + 1) - block_begin(o, block);
}

// ---------------------------------------------------------------------------------------------------- tiles --

enum Tensor { kX, kY, kResidual, kDx, kDy, kDresidual, kTensors };

/// Tensors of a call, and in kernels three more: what backward reads besides x and dy, y or the residual; the weights
/// of the positions, of the arithmetic type, the same for all channels; and the mask, whose elements are bits: those of
/// the 16 lanes that a kernel works on lie side by side and begin a byte, which no other lanes share.
constexpr int kOther = kTensors, kWeights = kOther + 1, kMask = kWeights + 1;

/// Types of elements and parameters.
enum ElementType { kF32, kF64, kBf16, kF16, kElementTypes };
static constexpr signed char kElementBytes[kElementTypes] = {4, 8, 2, 2};
static inline int64_t bytes_of(ElementType type) { return kElementBytes[type]; }

/// Element types of all tensors of a call, as kernels are compiled for them.
enum Data {
  kAllF32,
  kAllF64,
  kMixed,  // f32, bf16 and f16, each tensor its own; arithmetic in f32
  kDatas
};

/// One tensor of one group: data and element strides.
struct View {
  void* data;
  int64_t n, c, s;
  ElementType type;
};

/// How a kernel walks memory; all give the same bits.
enum Family {
  kRows,           // stride_s = 1 and S > 8: lanes are positions of one channel
  kColumns,        // stride_c = 1: lanes are channels
  kColumnsNarrow,  // channels-last, samples without gaps, up to kNarrowChannels: lanes are (position, channel)
  kColumnsPlanar,  // planar without gaps, 2 <= S <= 8, maps up to 15: lanes are (channel, position)
  kScattered,      // any strides: strips are packed one element at a time
  kFamilies
};

// The most channels that kColumnsNarrow takes: 8 positions of 128, which fill their lanes anyhow, would fit a tile of
// 1,024 lanes, too.
constexpr int64_t kNarrowChannels = 127;

/// Coefficient arrays of one group in the arithmetic type, indexed by channel.
enum Coefficient { kCenter, kGain, kOffset, kSlope, kBias, kCoefficients };

/// How activations are evaluated.
enum Shape {
  kRelu,   // z < lower ? lower : z; NaN for identity, since no comparison with NaN holds
  kClip,   // z < lower ? lower : z > upper ? upper : z
  kLeaky,  // z < 0 ? z * parameter : z
  kCurve   // by a function
};

/// Where backward finds activation'(z).
enum Derivative {
  kOne,      // nowhere: it is 1
  kOfX,      // z is made of x again
  kOfMask,   // in the mask that normalize has kept: bits of 1 where it is 1
  kOfXPlus,  // z is made of x and the residual (kOther)
  kOfY       // in y (kOther)
};

/// Activations that kCurve evaluates.
enum CurveName { kElu, kSigmoid, kTanh, kSilu, kHardSwish, kGelu, kGeluTanh, kCurves };

/// f(v, parameter) in place of 16 values v of the arithmetic type.
using Curve = void (*)(void* values, double parameter);

/// What is done to all elements of a call alike. As a rule branches of the kernels, always foreseen; the most frequent
/// forms have kernels of their own (Style).
struct Form {
  bool residual;          // normalize: z includes one
  bool frozen;            // gradient: dx = dz * gain
  Derivative derivative;  // gradients
  Shape shape;
  bool from_output;     // gradients: kX holds y, of which z is made; of kRelu it is z
  double inverse;       // then of kLeaky: z = y < 0 ? y * inverse : y
  Curve inverse_curve;  // and of kCurve
  double lower, upper, parameter;
  Curve curve;  // of normalize the activation, of gradients its derivative by z, or by y for kOfY
};

/// What a kernel knows of the form when it is compiled. Those behind kPiecewise: not frozen, and of shape kRelu but for
/// the last three.
enum Style {
  kWeighted,      // gradients only: with weights, any shape, and any derivative
  kCurved,        // shape kCurve, a call in the loop, or a mask: either would cost the others their registers
  kPiecewise,     // any other
  kBare,          // no residual, gradients of identity: kOne
  kWithResidual,  // and gradients of y: kOfY
  kActivated,     // gradients only: kOfX
  kBent,          // gradients only: kOfX, kClip or kLeaky
  kClipped,       // normalize only, no residual: kClip
  kLeaking,       // likewise: kLeaky
  kStyles
};

/// A serial piece of work on one group: channels [c0, c1); reductions take the blocks [b0, b1), maps the positions
/// [begin, end), which start a strip.
struct Tile {
  Order order;
  int64_t channels;
  int64_t c0, c1, b0, b1, begin, end;
  Family family;
  // Of the pass's direction. Reads that the form leaves out have the view of another; writes and no mask: data NULL.
  View tensor[kMask + 1];
  const void* coefficient[kCoefficients];
  const double* mean;  // gradient sums: saved statistics by channel
  const double* inv_std;
  const double* count;  // with weights: their sum by block
  int64_t l1_bytes;     // maps: first-level data cache
  int64_t l2_bytes;     // reductions of columns: second-level cache
  bool in_l2;           // all data
  bool in_memory;       // more data than caches keep: fetched further ahead, the first output stored around them
  bool from_memory;     // maps: as a rule no pass before left in L2 what is read, so it is fetched ahead
  const Form* form;
  // Reductions: results of block b and channel c at [b * channels + c]. Moments: mean and M2. Gradient sums: sum(dz),
  // sum(dz * (x - mean)).
  double* first;
  double* second;
};

using TileKernel = void (*)(const Tile&);

// ---------------------------------------------------------------------------------------- per-channel steps --

/// Scale and shift by channel; NULL means 1 and 0.
struct Affine {
  const void* scale;
  const void* shift;
  ElementType type;
};

struct KernelTable {
  const char* name;
  // Styles without a kernel of their own have that of kPiecewise. With weights, families whose lanes are positions of
  // several channels have none.
  TileKernel moments[kDatas][kFamilies];
  TileKernel weighted_moments[kDatas][kFamilies];
  TileKernel gradient_sums[kDatas][kStyles][kFamilies];
  TileKernel normalize[kDatas][kStyles][kFamilies];
  TileKernel gradient[kDatas][kStyles][kFamilies];
  // By arithmetic type (0: f32, 1: f64).
  Curve activation[2][kCurves];
  Curve derivative_of_z[2][kCurves];
  Curve derivative_of_y[2][kCurves];  // NULL where y does not tell it
  Curve inverse[2][kCurves];          // z of y; NULL where it is not known

  /// (mean_a, m2_a) of count_a values <- merged with (mean_b, m2_b) of count_b > 0.
  void (*merge_moments)(double count_a, double count_b, double* mean_a, double* m2_a, const double* mean_b,
                        const double* m2_b, int64_t channels);
  /// a += b for both sums.
  void (*merge_sums)(double* first_a, double* second_a, const double* first_b, const double* second_b,
                     int64_t channels);
  /// What is saved of the moments of `count` values: mean and inv_std, rounded to stats_type; 0 for count 0. Not in
  /// place.
  void (*finalize)(double count, double epsilon, bool round_to_f32, const double* mean, const double* m2,
                   double* saved_mean, double* saved_inv_std, int64_t channels);
  // By working type of parameters, f64 for f64 and f32 for all others, and arithmetic type. `type`: of parameters.
  void (*prepare_saved[2][2])(const double* mean, const double* inv_std, const Affine&, void* const* coefficient,
                              int64_t channels);
  void (*prepare_running[2][2])(const void* mean, const void* var, double epsilon, const Affine&,
                                void* const* coefficient, int64_t channels);
  /// `count` parameters from channel c on, as f64.
  void (*load_params[2])(const void* values, ElementType type, int64_t c, double* to, int64_t count);
  /// running <- running + factor * (entry / divisor - running). Factor 1 replaces whatever was there, NaN and the
  /// difference's rounding included; factor 0 keeps it.
  void (*blend[2])(double factor, const double* entry, double divisor, void* running, ElementType type,
                   int64_t channels);
  /// Slope and bias of dx from the sums over `count` values.
  void (*prepare_gradient[2])(double count, const double* mean, const double* inv_std, const double* sum_dz,
                              const double* sum_dz_x, void* const* coefficient, int64_t channels);
  /// dscale and dshift, either may be NULL, added over `groups` groups whose sums are `stride` apart, and their inv_std
  /// `channels`, as are r and d of batch renormalization (NULL: none).
  void (*param_gradients[2])(int64_t groups, int64_t stride, const double* sum_dz, const double* sum_dz_x,
                             const double* inv_std, const double* r, const double* d, void* dscale, void* dshift,
                             ElementType type, int64_t channels);
};

extern const KernelTable kernels_generic, kernels_sse42, kernels_avx2, kernels_avx512, kernels_neon64;

}  // namespace bnorm
