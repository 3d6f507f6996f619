// SPDX-License-Identifier: Apache-2.0
// One batch-normalization problem: a case (what varies), its inputs, and how every operation of the C ABI is run on it.
#pragma once
#include <bnorm/bnorm.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/activation.hh"
#include "tensor.hh"

namespace bnorm_tests {

using bnorm_support::activation;
using bnorm_support::Activation;

enum class Operation { kInfer, kPrepared, kTrain, kParts, kBackward, kBackwardParts };
constexpr int kOperations = 6;

/// Strides of the six tensors. kApart is planar or channels-last, the samples of every second tensor apart. kMixed
/// gives each tensor a different one of the first four.
enum class Layout { kPlanar, kChannelsLast, kSlices, kPermuted, kReversed, kApart, kMixed };
constexpr int kLayouts = 7;

/// Optional arguments that a case leaves NULL.
enum : unsigned {
  kNoScale = 1,
  kNoShift = 2,
  kNoSaved = 4,
  kNoRunningMean = 8,
  kNoRunningVar = 16,
  kNoDx = 32,
  kNoDresidual = 64,
  kNoDscale = 128,
  kNoDshift = 256,
};

enum class Values {
  kNormal,   // N(mu, sigma)
  kIntegers  // small dyadic fractions made by integer arithmetic: the same on every machine and libm
};

/// Weights of positions. Of kOnes they are all 1, of the next two random, a quarter of them 0.
enum class Weights { kNone, kOnes, kFrequency, kReliability, kLengths };

struct Case {
  Shape shape;         // n: the plan's batch
  int64_t batch = -1;  // of the call; -1: the plan's
  bnorm_type data = BNORM_F32, param = BNORM_F32, stats = BNORM_F64;
  bnorm_type output = BNORM_TYPE_DEFAULT;  // that of data
  Layout layout = Layout::kPlanar;
  bnorm_activation activation = BNORM_IDENTITY;
  bool residual = false, in_place = false, params_per_group = false, frozen = false;
  bool biased = false, guard = false, give_workspace = true;
  bnorm_running_mode mode = BNORM_RUNNING_UNSET;
  unsigned nulls = 0;
  size_t misalignment = 0;  // elements
  Placement placement = Placement::kHeap;
  Values values = Values::kNormal;
  Weights weights = Weights::kNone;
  bool mask = false;                         // backward from a mask, where the activation can have one
  bool from_residual = false;                // backward makes z of x and the residual, where it has one and no mask
  bool renorm = false, from_output = false;  // of which the reference in long double knows nothing
  double clip_lower = 0, clip_upper = 6, leaky_slope = 0.01, elu_alpha = 1;
  double mu = 0, sigma = 1, epsilon = 1e-5, average_factor = 0.1;
  double far = 0;  // added to x in every third channel: beside others, sums around a pivot
  uint64_t seed = 1;
};

/// Whether backward of a case reads a mask.
inline bool from_mask(const Case& c) {
  return c.mask && c.activation >= BNORM_RELU && c.activation <= BNORM_LEAKY_RELU;
}

inline bool from_residual(const Case& c) { return c.from_residual && c.residual && !from_mask(c); }

constexpr int kActivations = 11;
inline bnorm_activation relu_if(bool condition) { return condition ? BNORM_RELU : BNORM_IDENTITY; }

/// Of y, residual and their gradients.
inline bnorm_type output_type(const Case& c) { return c.output == BNORM_TYPE_DEFAULT ? c.data : c.output; }

/// In-place partners of y and dx, in turn those of the same type.
inline bool y_is_residual(const Case& c) { return c.residual && (c.seed % 2 == 1 || c.data != output_type(c)); }
inline bool dx_is_x(const Case& c) { return !c.from_output && (c.seed % 2 == 1 || c.data != output_type(c)); }
/// Beside dx in x; dx that takes dy leaves it none.
inline bool dresidual_is_dy(const Case& c) { return c.residual && c.in_place && dx_is_x(c); }
inline bool has_partner_of_y(const Case& c) { return c.residual || c.data == output_type(c); }

/// Text that names a case in a failure.
std::string describe(const Case& c);

/// Whether gradient sums are taken of x itself, not x - mean (docs/numerics.md).
inline bool is_raw(bnorm_type data, long double mean, long double inv_std) {
  return data != BNORM_F64 && mean * inv_std <= 64 && mean * inv_std >= -64;
}

/// Logical values, [g][n][c][s] or [g][c]; empty where the case has none.
struct Inputs {
  std::vector<double> x, residual, dy, y;
  std::vector<double> scale, shift, running_mean, running_var;
  std::vector<double> mean, inv_std;  // for backward: of x, rounded to stats_type
  std::vector<double> renorm_r, renorm_d;
  std::vector<double> weights;   // [g][n][s], those that lengths make too
  std::vector<int64_t> lengths;  // [g][n]
};

struct Outputs {
  bnorm_status status = BNORM_OK;
  std::vector<double> y, mean, inv_std, running_mean, running_var, renorm_r, renorm_d, dx, dresidual, dscale, dshift;
};

/// "" if both hold the same bits, else the name and index of the first difference.
std::string difference(const Outputs& a, const Outputs& b);

class Problem {
 public:
  explicit Problem(const Case& c);

  /// The same problem with its buffers elsewhere.
  Problem placed(Placement placement) const {
    Problem r = *this;
    r.case_.placement = placement;
    return r;
  }

  const Case& config() const { return case_; }
  const bnorm_desc& desc() const { return desc_; }
  Inputs& inputs() { return inputs_; }
  const Inputs& inputs() const { return inputs_; }
  /// Shape of the call.
  const Shape& shape() const { return shape_; }

  bool has(unsigned null) const { return (case_.nulls & null) == 0; }
  size_t param_index(int64_t g, int64_t c) const {
    return static_cast<size_t>((case_.params_per_group ? g * shape_.c : 0) + c);
  }
  size_t running_index(int64_t g, int64_t c) const {
    return static_cast<size_t>((case_.mode == BNORM_RUNNING_PER_GROUP ? g * shape_.c : 0) + c);
  }
  size_t index(int64_t g, int64_t n, int64_t c, int64_t s) const {
    return static_cast<size_t>(((g * shape_.n + n) * shape_.c + c) * shape_.s + s);
  }
  double weight(int64_t g, int64_t n, int64_t s) const {
    return inputs_.weights.empty() ? 1 : inputs_.weights[static_cast<size_t>((g * shape_.n + n) * shape_.s + s)];
  }
  /// Calls visit(i, weight) for the positions of a group and channel that have a weight.
  template <class Visit>
  void each_counted(int64_t g, int64_t c, Visit visit) const {
    for (int64_t n = 0; n < shape_.n; ++n)
      for (int64_t s = 0; s < shape_.s; ++s)
        if (const double w = weight(g, n, s); w > 0) visit(index(g, n, c, s), w);
  }

  /// Runs one operation with the ISA of the moment on fresh buffers, and fails the current test if the call does not
  /// return OK (NONFINITE with a guard) or has touched anything but its outputs.
  Outputs run(Operation operation, const bnorm_executor* executor) const;

 private:
  void make_inputs();
  void make_weights();
  void make_saved_statistics();
  void make_forward_output();

  Case case_;
  Shape shape_;
  bnorm_desc desc_;
  Inputs inputs_;
};

}  // namespace bnorm_tests
