// SPDX-License-Identifier: Apache-2.0
#include "plan.hh"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <limits>

namespace bnorm {
namespace {

/// Bytes of a cache of this machine; `otherwise` where the system does not say.
int64_t cache_bytes(int name, int64_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<int64_t>(bytes) : otherwise;
}

/// Sizes that tiles and paths depend on.
void take_caches(Plan& p) {
  static const int64_t l1 = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, int64_t{32} << 10);
  static const int64_t l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, int64_t{1} << 20);
  p.l1_bytes = l1;
  p.tile_bytes = l2 / 2;  // the other half holds outputs and coefficients
}

/// What strides say of an axis that has one element or none: nothing.
bool is_stride(int64_t stride, int64_t wanted, int64_t size) { return size <= 1 || stride == wanted; }

bool fits_rows(const bnorm_desc& d, const bnorm_strides& t) { return d.spatial > kOctet && t.s == 1; }

bool fits_columns(const bnorm_desc& d, const bnorm_strides& t) { return is_stride(t.c, 1, d.channels); }

// Rows of one position leave lanes empty at their end: with several positions in a row 8x33x784 infers in 0.47 of
// the time and trains in 0.55, 8x100x784 in 0.69 and 0.82 (AVX2). Below as many positions, that costs less than
// making the pattern of coefficients: 1x19x49 infers in 1.4 of the time with it, 1x19x196 in 0.94.
constexpr int64_t kPatternPositions = 128;

// Multiples of 16 channels fill their lanes anyhow: reductions alone gain, by fewer classes of rows, and beyond as many
// channels nothing. Moments of nChw16c 8x64x784 take 0.85 of the time, of channels-last 8x32x784 0.88, of 80 to 112
// channels 0.94 to 1.01.
constexpr int64_t kFullNarrowChannels = 64;

bool fits_narrow(const bnorm_desc& d, const bnorm_strides& t) {
  const bool few = d.channels <= (d.channels % 16 == 0 ? kFullNarrowChannels : kNarrowChannels) &&
                   (d.channels < 16 || d.batch * d.spatial >= kPatternPositions);
  // Octets of small samples go from one to the next.
  return few && fits_columns(d, t) && is_stride(t.s, d.channels, d.spatial) &&
         (d.spatial > kOctet || is_stride(t.n, d.channels * d.spatial, d.batch));
}

// Beyond an octet only maps take it: reductions prefer rows, which fit then, too.
bool fits_planar(const bnorm_desc& d, const bnorm_strides& t) {
  return d.spatial >= 2 && d.spatial < kStrip && t.s == 1 && is_stride(t.c, d.spatial, d.channels);
}

// Those without gaps in samples before the general ones. Scattered suits every tensor.
constexpr Family kPreference[] = {kRows, kColumnsNarrow, kColumnsPlanar, kColumns};

/// The families of kPreference that suit a tensor, a bit each.
unsigned families_of(const bnorm_desc& d, const bnorm_strides& t) {
  return unsigned{fits_rows(d, t)} << kRows | unsigned{fits_narrow(d, t)} << kColumnsNarrow |
         unsigned{fits_planar(d, t)} << kColumnsPlanar | unsigned{fits_columns(d, t)} << kColumns;
}

/// Chooses the families of passes.
// Rows shorter than a strip, which leave lanes empty, are mapped as columns where they adjoin: 8x64x9 infers in 0.46 of
// the time and trains in 0.83, in bf16 in 0.23 and 0.59; of one sample, where it takes as long to spread the
// coefficients, bf16 1x512x9 in 0.46 and 0.72, but f32 would infer in 1.2 (AVX2).
class Chooser {
 public:
  explicit Chooser(const bnorm_desc& d)
      : weighted_{d.weighting ? 1u << kRows | 1u << kColumns : ~0u},
        mapped_{d.channels % 16 == 0 ? ~(1u << kColumnsNarrow) : ~0u},
        joins_rows_{d.spatial > kOctet && (d.batch > 1 || bytes_of(element_type(d.data_type)) == 2)},
        fits_{families_of(d, d.x)} {
    for (int t = kX + 1; t < kTensors; ++t) {
      const bnorm_strides& strides = strides_of(d, static_cast<Tensor>(t));
      fits_[t] = strides == d.x ? fits_[kX] : families_of(d, strides);
    }
    if (!d.residual_added) fits_[kResidual] = fits_[kDresidual] = ~0u;  // which the plan does not have
  }
  /// The best family that suits all the given tensors. With weights reductions and backward have kernels for some only.
  Family reduction(std::initializer_list<Tensor> tensors) const { return best(tensors, weighted_); }
  /// Maps of multiples of 16 channels are never narrow (kFullNarrowChannels).
  Family forward_map(std::initializer_list<Tensor> tensors) const { return map(tensors, mapped_); }
  Family backward_map(std::initializer_list<Tensor> tensors) const { return map(tensors, mapped_ & weighted_); }
  /// The one of all passes with a mask, whose bits lie as its lanes do.
  Family masked() const { return best({kX, kY, kResidual, kDx, kDy, kDresidual}, weighted_ & ~(1u << kColumnsNarrow)); }

 private:
  Family map(std::initializer_list<Tensor> tensors, unsigned fits) const {
    const bool planar = joins_rows_ && (common(tensors, fits) >> kColumnsPlanar & 1u) != 0;
    return planar ? kColumnsPlanar : best(tensors, fits);
  }
  unsigned common(std::initializer_list<Tensor> tensors, unsigned fits) const {
    for (const Tensor t : tensors) fits &= fits_[t];
    return fits;
  }
  Family best(std::initializer_list<Tensor> tensors, unsigned fits) const {
    fits = common(tensors, fits);
    for (const Family f : kPreference)
      if ((fits >> f & 1u) != 0) return f;
    return kScattered;
  }

  unsigned weighted_, mapped_;
  bool joins_rows_;
  unsigned fits_[kTensors];
};

Passes choose_forward(const bnorm_desc& d, const Chooser& choose) {
  if (d.from_mask) return {choose.reduction({kX}), choose.masked()};
  return {choose.reduction({kX}), choose.forward_map({kX, kResidual, kY})};
}

Passes choose_backward(const bnorm_desc& d, const Chooser& choose, Tensor other) {
  if (d.from_mask) return {choose.masked(), choose.masked()};
  const Tensor x = d.from_output ? kY : kX;
  return {choose.reduction({x, kDy, other}), choose.backward_map({x, kDy, other, kDx, kDresidual})};
}

void choose_types(Plan& p) {
  const bnorm_desc& d = p.desc;
  const ElementType in = element_type(d.data_type), out = element_type(d.output_type);
  for (int i = 0; i < kTensors; ++i) {
    const ElementType type = i == kX || i == kDx ? in : out;
    const bnorm_strides& s = strides_of(d, static_cast<Tensor>(i));
    p.view[i] = {nullptr, s.n, s.c, s.s, type};
    p.group_bytes[i] = s.g * bytes_of(type);
  }
  p.data = in == kF64 ? kAllF64 : (in == kF32 && out == kF32 ? kAllF32 : kMixed);
  p.arithmetic = in == kF64 ? 1 : 0;
  p.param_type = element_type(d.param_type);
  p.param = p.param_type == kF64 ? 1 : 0;
}

// ------------------------------------------------------------------------------------------------ activation --

struct ActivationRule {
  const char* name;
  Shape shape;
  CurveName curve;  // of kCurve
};

constexpr ActivationRule kActivations[] = {
    {"identity", kRelu, kCurves},        // BNORM_IDENTITY
    {"relu", kRelu, kCurves},            // BNORM_RELU
    {"clip", kClip, kCurves},            // BNORM_CLIP
    {"leaky_relu", kLeaky, kCurves},     // BNORM_LEAKY_RELU
    {"elu", kCurve, kElu},               // BNORM_ELU
    {"sigmoid", kCurve, kSigmoid},       // BNORM_SIGMOID
    {"tanh", kCurve, kTanh},             // BNORM_TANH
    {"silu", kCurve, kSilu},             // BNORM_SILU
    {"hard_swish", kCurve, kHardSwish},  // BNORM_HARD_SWISH
    {"gelu", kCurve, kGelu},             // BNORM_GELU
    {"gelu_tanh", kCurve, kGeluTanh},    // BNORM_GELU_TANH
};

Derivative derivative_of(const Plan& p) {
  const ActivationRule& rule = kActivations[p.desc.activation];
  if (p.desc.activation == BNORM_IDENTITY) return kOne;
  if (p.desc.from_mask) return kOfMask;
  if (p.desc.from_output) return kOfY;
  if (!p.desc.residual_added) return kOfX;
  const bool y_tells = rule.shape != kCurve || p.table->derivative_of_y[p.arithmetic][rule.curve] != nullptr;
  return y_tells && !p.desc.from_residual ? kOfY : kOfXPlus;
}

/// What both directions share.
Form common_form(const Plan& p) {
  const bnorm_desc& d = p.desc;
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  Form f = {};
  f.residual = d.residual_added != 0;
  f.frozen = d.frozen != 0;
  f.derivative = derivative_of(p);
  f.shape = kActivations[d.activation].shape;
  f.lower = d.activation == BNORM_RELU ? 0 : (d.activation == BNORM_CLIP ? d.clip_lower : none);
  f.upper = d.activation == BNORM_CLIP ? d.clip_upper : none;
  f.parameter = d.activation == BNORM_ELU ? d.elu_alpha : d.leaky_slope;
  return f;
}

Style forward_style(const Form& f) {
  if (f.shape == kCurve || f.derivative == kOfMask) return kCurved;
  if (f.shape == kRelu) return f.residual ? kWithResidual : kBare;
  return f.residual ? kPiecewise : (f.shape == kClip ? kClipped : kLeaking);
}

Style backward_style(const Form& f) {
  constexpr Style styles[] = {kBare, kActivated, kCurved, kPiecewise, kWithResidual};  // by derivative
  if (f.shape == kCurve || f.derivative == kOfMask) return kCurved;
  if (f.frozen) return kPiecewise;
  if (f.shape == kRelu) return styles[f.derivative];
  return f.derivative == kOfX ? kBent : kPiecewise;
}

void choose_forms(Plan& p) {
  p.forward_form = p.backward_form = common_form(p);
  if (p.backward_form.shape == kClip && p.backward_form.derivative == kOfY)  // what y is where z was clipped
    for (double* const limit : {&p.backward_form.lower, &p.backward_form.upper})
      *limit = as_element(*p.table, p.view[kY].type, *limit);
  p.backward_form.from_output = p.desc.from_output != 0;
  p.backward_form.inverse = 1 / p.desc.leaky_slope;
  const bool of_y = p.backward_form.derivative == kOfY || p.desc.from_output;
  p.other = of_y ? kY : (p.backward_form.derivative == kOfXPlus ? kResidual : kX);
  p.forward_style = forward_style(p.forward_form);
  p.backward_style = p.desc.weighting ? kWeighted : backward_style(p.backward_form);
  if (p.forward_form.shape != kCurve) return;
  const CurveName curve = kActivations[p.desc.activation].curve;
  p.forward_form.curve = p.table->activation[p.arithmetic][curve];
  p.backward_form.curve =
      (p.backward_form.derivative == kOfY ? p.table->derivative_of_y : p.table->derivative_of_z)[p.arithmetic][curve];
  p.backward_form.inverse_curve = p.table->inverse[p.arithmetic][curve];
}

// ------------------------------------------------------------------------------------------------- workspace --

/// Hands out consecutive arrays, each on a cache line of its own; with no memory it only counts.
class Layout {
 public:
  explicit Layout(void* memory) : base_(memory ? static_cast<char*>(first_line(memory)) : nullptr) {}
  void* take(int64_t elements, int64_t element_bytes) {
    void* const array = base_ ? base_ + used_ : nullptr;
    used_ += in_whole_lines(elements * element_bytes);
    return array;
  }
  double* take_doubles(int64_t elements) { return static_cast<double*>(take(elements, 8)); }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

Workspace lay_out(const Plan& plan, Layout& layout) {
  const int64_t channels = plan.all_channels();
  const int64_t partials = plan.desc.groups * std::max<int64_t>(plan.workspace_blocks, 1) * plan.desc.channels;
  Workspace w;
  w.first = layout.take_doubles(partials);
  w.second = layout.take_doubles(partials);
  w.saved_mean = layout.take_doubles(channels);
  w.saved_inv_std = layout.take_doubles(channels);
  for (void*& c : w.coefficient) c = layout.take(channels, plan.arithmetic_bytes());
  for (double** const array : {&w.renorm_r, &w.renorm_d}) *array = layout.take_doubles(plan.desc.renorm ? channels : 0);
  for (double** const array : {&w.scale, &w.shift})
    *array = layout.take_doubles(plan.desc.renorm || plan.desc.from_output ? channels : 0);
  const int64_t groups = plan.desc.weighting ? plan.weight_groups() : 0;
  for (double** const array : {&w.block_weight, &w.block_square})
    *array = layout.take_doubles(groups * plan.workspace_blocks);
  for (double** const array : {&w.group_weight, &w.group_square}) *array = layout.take_doubles(groups);
  w.weights = layout.take(groups * plan.desc.batch * plan.desc.spatial, plan.arithmetic_bytes());
  return w;
}

const char* const kFamilyNames[kFamilies] = {
    "rows (a run of one channel's positions at a time)", "columns (a lane for each channel)",
    "narrow columns (lanes over position and channel: up to 127 channels, channels-last without gaps in samples)",
    "planar columns (lanes over channel and position: no gaps, 2 <= S <= 8; in maps S <= 15, of one sample if 16-bit)",
    "scattered (one element at a time: these strides have no contiguous axis in common)"};

}  // namespace

double as_element(const KernelTable& table, ElementType type, double value) {
  constexpr double replaced = 1;
  double element = 0;
  table.blend[type == kF64](replaced, &value, 1, &element, type, 1);
  table.load_params[type == kF64](&element, type, 0, &value, 1);
  return value;
}

/// Axes in the order of the lanes, whose rows begin at multiples of 16 bits.
View Plan::mask() const {
  const auto whole = [](int64_t bits) { return (bits + kStrip - 1) / kStrip * kStrip; };
  View m = {};
  if (forward.map == kColumns) {
    m.c = 1;
    m.s = whole(desc.channels);
    m.n = desc.spatial * m.s;
  } else {
    m.s = 1;
    m.c = forward.map == kColumnsPlanar ? desc.spatial : whole(desc.spatial);
    m.n = whole(desc.channels * m.c);
  }
  return m;
}

int64_t Plan::channel_grain(Family family) const {
  switch (family) {
    case kColumns:
      return 64;  // a run of 4 cache lines of f32
    case kColumnsNarrow:
      return std::max<int64_t>(desc.channels, 1);
    case kColumnsPlanar:
      return desc.from_mask ? kStrip : 1;  // whole groups of lanes, as a mask has them
    default:
      return 1;
  }
}

void make_plan(const KernelTable* table, Plan* plan) {
  Plan& p = *plan;
  const bnorm_desc& d = p.desc;
  p.table = table;
  choose_types(p);
  choose_forms(p);
  const Chooser choose(d);
  p.forward = choose_forward(d, choose);
  p.backward = choose_backward(d, choose, p.other);
  take_caches(p);
  p.workspace_blocks = block_count(make_order(d.batch, d.spatial));
  Layout layout(nullptr);
  lay_out(p, layout);
  p.workspace_bytes = static_cast<size_t>(layout.used() + kCacheLine);
}

Workspace map_workspace(const Plan& plan, void* memory) {
  Layout layout(memory);
  return lay_out(plan, layout);
}

size_t describe(const Plan& p, char* buffer, size_t bytes) {
  static const char* const types[] = {"f32", "f64", "bf16", "f16"};
  const bnorm_desc& d = p.desc;
  const int length = std::snprintf(
      buffer, bytes,
      "bnorm %d.%d.%d, numerics %d, %s kernels\n"
      "geometry: groups %lld%s, batch %lld, channels %lld, spatial %lld\n"
      "types: data %s, output %s, parameters %s, saved statistics %s\n"
      "activation: %s%s%s%s%s%s\n"
      "forward statistics: %s\nforward normalize: %s\nbackward sums: %s\nbackward dx: %s\n"
      "reduction blocks per group and channel: %lld\n"
      "channels of a tile: %lld bytes, half of L2, or more where their parts of samples or rows would be short\n"
      "workspace: %zu bytes; coefficients: %zu bytes\n",
      BNORM_VERSION_MAJOR, BNORM_VERSION_MINOR, BNORM_VERSION_PATCH, BNORM_NUMERICS_VERSION, p.table->name,
      static_cast<long long>(d.groups), d.channel_block ? " (the blocks of channels)" : "",
      static_cast<long long>(d.batch), static_cast<long long>(d.channels), static_cast<long long>(d.spatial),
      types[p.view[kX].type], types[p.view[kY].type], types[p.param_type], types[d.stats_type == BNORM_F64],
      kActivations[d.activation].name, d.residual_added ? ", behind a residual" : "",
      d.renorm ? "; batch renormalization" : "", d.from_output ? "; backward from the output" : "",
      d.from_mask ? "; backward from a mask" : "", d.weighting ? "; weighted positions" : "",
      kFamilyNames[p.forward.reduce], kFamilyNames[p.forward.map], kFamilyNames[p.backward.reduce],
      kFamilyNames[p.backward.map], static_cast<long long>(p.workspace_blocks), static_cast<long long>(p.tile_bytes),
      p.workspace_bytes, p.coefficients_bytes());
  return static_cast<size_t>(std::max(length, 0));
}

}  // namespace bnorm
