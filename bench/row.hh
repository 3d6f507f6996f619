// What one row of the report measures.
#pragma once

#include <bnorm/bnorm.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bnorm_bench {

/// moments and sums: the first phase alone of training and of backward. fold: into a layer of C outputs with S weights
/// each, which take the place of x and y.
enum class Operation { infer, prepared, train, backward, simple, moments, sums, fold };
/// Outputs that backward is asked for.
enum class Gradients { all, dx, params };
/// blocked: nChw16c, blocked8: nChw8c.
enum class Layout { planar, channels_last, blocked, blocked8 };
/// Channels of a block, 0: there are none.
constexpr int64_t channel_block(Layout layout) {
  return layout == Layout::blocked ? 16 : (layout == Layout::blocked8 ? 8 : 0);
}
enum class Dtype { f32, f64, bf16, f16 };

struct Shape {
  int64_t batch, channels, spatial;
};

/// One measurement to make: the operation and everything that decides its time.
struct Row {
  Operation operation;
  Layout layout;
  Dtype dtype;
  int64_t groups;
  Shape shape;
  int threads;
  std::string isa;
  bnorm_activation activation;
  bool residual;
  bool cold;            ///< rotate over buffers of 4 x the last-level cache
  int64_t depth = 1;    ///< of 3-D images, whose spatial positions are depth x height x width
  bool frozen = false;  ///< backward is that of inference
  Gradients gradients = Gradients::all;
  Dtype output_dtype = Dtype::f32;   ///< of y, residual and their gradients; `dtype` is that of x and dx
  bool weighted = false;             ///< positions have weights
  bool renorm = false;               ///< batch renormalization
  bool from_output = false;          ///< backward reads y in place of x
  bool from_mask = false;            ///< forward keeps a mask, which backward reads in place of y or the residual
  bool from_residual = false;        ///< backward reads the residual in place of y
  bool slice = false;                ///< tensors are the first half of the channels of ones twice as wide
  bool lengths = false;              ///< samples are padded to their positions
  std::optional<Dtype> param_dtype;  ///< another than f32, of f64 data f64
  int64_t ranks = 1;  ///< above 1: statistics over so many, all of this batch, by copies in memory that no floor counts

  /// Channels in memory, those between the row's own included.
  int64_t width() const { return slice ? 2 * shape.channels : shape.channels; }
  int64_t elements() const { return groups * shape.batch * shape.channels * shape.spatial; }
};

/// Rows that differ only in layout. They are timed in the same rounds, so that each can be compared with every peer.
using RowGroup = std::vector<Row>;

/// Of paired ratios: the median and the quartiles around it.
struct Spread {
  double low, median, high;
};

/// A peer's time, and how much longer it took than bnorm in the same round.
struct PeerTime {
  double ns;
  Spread ratio;                ///< over rounds, peer / bnorm
  std::string implementation;  ///< what the peer says it ran
  std::string version;         ///< of which library
};

/// One measured row.
struct Result {
  Row row;
  double ns;             ///< median over rounds
  int64_t bytes;         ///< unavoidable traffic of one call
  double floor_ns;       ///< median of the best twin
  Spread fraction;       ///< over rounds, floor / bnorm
  int reads;             ///< times the floor reads the input tensors: 1, or 2 where they don't stay in cache
  std::string floor_is;  ///< the best twin: threads and kind of store
  int64_t working_set;   ///< bytes of the tensors and parameters that the call touches
  std::map<std::string, PeerTime> peers;
};

std::string to_string(Layout layout);
/// Data type, and that of outputs if it is another: "bf16>f32".
std::string types_of(const Row& row);
/// Name of a row's operation with what is fused behind it, e.g. "train+relu".
std::string operation_name(const Row& row);

}  // namespace bnorm_bench
