// SPDX-License-Identifier: Apache-2.0
// What the steps of one call share: its arguments, workspace, and views of tiles.
#pragma once
#include <algorithm>

#include "plan.hh"
#include "tiles.hh"
#include "validate.hh"

namespace bnorm {

/// The caller's workspace, or `bytes` from the plan's allocator for the time of the call.
class Scratch {
 public:
  Scratch(const bnorm_plan& handle, const Call& call, size_t bytes)
      : allocator_(handle.allocator), bytes_(bytes), memory_(call.workspace) {
    if (memory_) return;
    owned_ = allocator_.allocate(allocator_.context, bytes);
    memory_ = owned_;
  }
  ~Scratch() {
    if (owned_) allocator_.release(allocator_.context, owned_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* memory() const { return memory_; }
  bnorm_status refuse(Call& call) const {
    return call.report.say(BNORM_OUT_OF_MEMORY, "workspace = NULL: the allocator has no %zu bytes", bytes_);
  }

 private:
  const bnorm_allocator& allocator_;
  size_t bytes_;
  void* memory_;
  void* owned_ = nullptr;
};

// Channels worked on at once outside of kernels, on the stack: calls for 16 each cost as much as their arithmetic.
constexpr int64_t kChannelRun = 128;

/// f64 copies of `count` values from `begin` on of an f64 or f32 array, and back.
void load_values(const void* from, int64_t begin, int64_t count, bool f64, double* to);
void store_values(void* to, int64_t begin, int64_t count, bool f64, const double* from);

/// `elements` further on; NULL stays NULL.
inline const void* advance(const void* array, int64_t elements, int64_t bytes) {
  return array ? static_cast<const char*>(array) + elements * bytes : nullptr;
}

/// No tensor of the call has an element.
inline bool is_empty(const Plan& plan, const Call& call) {
  return call.batch == 0 || plan.desc.spatial == 0 || plan.all_channels() == 0;
}

/// What the steps of one call share.
struct Run {
  const Plan& plan;
  Call& call;
  Order order;
  Workspace w;    // without memory nothing but `first`, NULL: clearing it took a sixth of a call on 256 values
  int64_t bytes;  // traffic of all tensors together
  int64_t bytes_per_channel;  // that two passes keep in cache: the widest tensor, twice
  const void* weights;        // those given, or room for those that lengths make; NULL: all count 1

  Run(const Plan& p, Call& c, void* memory);

  const bnorm_desc& desc() const { return plan.desc; }
  const KernelTable& table() const { return *plan.table; }
  int64_t channels() const { return desc().channels; }
  int64_t blocks() const { return block_count(order); }
  /// Positions of a group.
  double positions() const { return static_cast<double>(order.batch) * static_cast<double>(order.spatial); }
  bool empty() const { return is_empty(plan, call); }
  /// What a group counts, or a block of it: positions, or their weights.
  double count(int64_t g) const { return weights ? w.group_weight[weight_group(g)] : positions(); }
  double block_count_of(int64_t g, int64_t b) const {
    return weights ? w.block_weight[weight_group(g) * blocks() + b] : static_cast<double>(block_length(order, b));
  }
  int64_t weight_group(int64_t g) const { return desc().channel_block ? 0 : g; }
  /// A group's weights as a tensor.
  View weights_of(int64_t g) const;
  /// Whether the saved statistics of the workspace are the caller's arrays themselves.
  bool statistics_in_place() const { return call.mean && desc().stats_type == BNORM_F64 && !desc().from_output; }

  /// Distance between the partials of two groups.
  int64_t group_stride() const { return std::max<int64_t>(blocks(), 1) * channels(); }
  /// `Array`: void* or const void*.
  template <class Array>
  void coefficients_at(int64_t g, int64_t c, Array* to) const {
    for (int k = 0; k < kCoefficients; ++k)
      to[k] = const_cast<void*>(advance(w.coefficient[k], g * channels() + c, plan.arithmetic_bytes()));
  }

  /// The piece's channels; neither blocks nor positions yet.
  Tile tile(const Piece& p, Family family, const Form& form) const;
};

}  // namespace bnorm
