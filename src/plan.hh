// SPDX-License-Identifier: Apache-2.0
// The plan: pure decisions from a valid descriptor and the machine. No memory is allocated, no thread asked.
#pragma once
#include <bnorm/bnorm.h>

#include <cstddef>

#include "kernel_table.hh"
#include "overlap.hh"

namespace bnorm {

constexpr int64_t kCacheLine = 64;

/// `bytes` and what fills their last cache line.
constexpr int64_t in_whole_lines(int64_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

/// The first byte of `memory` that begins a cache line.
inline void* first_line(void* memory) {
  constexpr uintptr_t line = kCacheLine;
  return static_cast<char*>(memory) + -reinterpret_cast<uintptr_t>(memory) % line;
}

/// Whether consecutive positions of all channels are a run of memory.
inline bool is_channels_last(Family f) { return f == kColumns || f == kColumnsNarrow; }

/// Families of an operation's two passes.
struct Passes {
  Family reduce, map;
};

/// Arrays that a call needs besides the caller's, all in one workspace.
struct Workspace {
  double* first = nullptr;  // [G][blocks][C]: results of the reductions, merged into block 0
  double* second;
  // [G][C], as rounded to stats_type: the caller's own arrays if they are f64, then read only in backward.
  double* saved_mean;
  double* saved_inv_std;
  void* coefficient[kCoefficients];  // [G][C] of the arithmetic type
  // [G][C], of desc.renorm: the corrections. Of that and desc.from_output: scale and shift with them.
  double* renorm_r;
  double* renorm_d;
  double* scale;
  double* shift;
  // Of desc.weighting: sums of weights and of their squares, [G][blocks] and [G], and the weights that lengths make,
  // [G][N][S] of the arithmetic type.
  double* block_weight;
  double* block_square;
  double* group_weight;
  double* group_square;
  void* weights;
};

struct Plan {
  bnorm_desc desc;          // types resolved, strides filled in
  Extent extent[kTensors];  // of a full batch
  const KernelTable* table;
  Data data;
  int param, arithmetic;  // indices into the table: 0 for f32, 1 for f64
  ElementType param_type;
  View view[kTensors];            // without data
  int64_t group_bytes[kTensors];  // from one group's view to the next one's
  Form forward_form, backward_form;
  Style forward_style, backward_style;
  Tensor other;  // of backward
  Passes forward, backward;
  int64_t l1_bytes;          // first-level data cache
  int64_t tile_bytes;        // of channels of one tile between their two passes, unless their parts would be short
  int64_t workspace_blocks;  // blocks of a full batch
  size_t workspace_bytes;

  /// Elements of an array with one for each channel of each group.
  int64_t all_channels() const { return desc.groups * desc.channels; }
  int64_t arithmetic_bytes() const { return arithmetic == 0 ? 4 : 8; }
  int64_t element_bytes(int tensor) const { return bytes_of(view[tensor].type); }
  int64_t param_bytes() const { return bytes_of(param_type); }
  /// Of one coefficient in bnorm_prepare's buffer, and of all. Whole cache lines: inference of 16x1001, where they
  /// begin one, would take 1.13 of the time without (AVX2).
  int64_t coefficient_stride() const {
    return in_whole_lines(all_channels() * arithmetic_bytes()) / int64_t{sizeof(double)};
  }
  int64_t coefficients_doubles() const { return (kOffset + 1) * coefficient_stride(); }
  size_t coefficients_bytes() const { return static_cast<size_t>(coefficients_doubles()) * sizeof(double); }
  /// Doubles of a partials buffer, and of the messages of an exchange: a status before the partials of each rank, and
  /// once more for what this one sends.
  int64_t partials_doubles() const { return desc.groups * (1 + has_squares()) + 2 * all_channels(); }
  /// Whether a partials buffer ends in the sums of the weights' squares.
  bool has_squares() const { return desc.weighting == BNORM_RELIABILITY_WEIGHTS; }
  /// Groups that have weights of their own: blocks of channels share theirs.
  int64_t weight_groups() const { return desc.channel_block ? 1 : desc.groups; }
  /// The mask of desc.from_mask as a tensor of bits, without data.
  View mask() const;
  int64_t mask_group_bytes() const { return desc.batch * mask().n / 8; }
  int64_t mask_bytes() const { return desc.from_mask ? desc.groups * mask_group_bytes() : 0; }
  int64_t exchange_doubles(int64_t ranks) const {
    int64_t count;
    return __builtin_mul_overflow(ranks + 1, 1 + partials_doubles(), &count) ? INT64_MAX : count;
  }
  /// Channels that a piece of work may be split at.
  int64_t channel_grain(Family) const;
};

/// Of a valid type, not the default.
inline ElementType element_type(bnorm_type type) {
  constexpr ElementType types[] = {kF32, kF32, kF64, kBf16, kF16};
  return types[type];
}

inline constexpr bnorm_strides bnorm_desc::*kStridesOf[kTensors] = {
    &bnorm_desc::x, &bnorm_desc::y, &bnorm_desc::residual, &bnorm_desc::dx, &bnorm_desc::dy, &bnorm_desc::dresidual};

/// `Desc`: bnorm_desc, const or not.
template <class Desc>
auto& strides_of(Desc& desc, Tensor tensor) {
  return desc.*kStridesOf[tensor];
}

/// A number as an element of that type holds it, by way of f32.
double as_element(const KernelTable& table, ElementType type, double value);
/// Decides everything but `desc` and `extent`, which check_desc has filled.
void make_plan(const KernelTable* table, Plan* plan);
/// Lays out `memory` of plan.workspace_bytes, any alignment.
Workspace map_workspace(const Plan& plan, void* memory);
/// What was chosen and why, as bnorm_plan_describe.
size_t describe(const Plan& plan, char* buffer, size_t bytes);

}  // namespace bnorm
