// The memory traffic that a row's call cannot avoid, in the call's own tensors, for the twin to move.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "cases.hh"
#include "element.hh"
#include "uses.hh"

namespace bnorm_bench {
namespace {

/// Bytes of the smallest part of a tensor that holds whole channels of a group, at least a cache line wide since
/// memory moves in lines.
size_t tile_bytes(const Row& row) {
  const auto [batch, channels, spatial] = row.shape;
  const bool last = row.layout == Layout::channels_last;
  const size_t element = std::min(element_bytes(row.dtype), element_bytes(row.output_dtype));
  const auto runs = static_cast<size_t>(last ? batch * spatial : batch);
  const int64_t together = std::max<int64_t>(channel_block(row.layout), 1);
  const size_t run_bytes = static_cast<size_t>(last ? 1 : spatial * together) * element;
  const size_t row_bytes = run_bytes * static_cast<size_t>(channels / together);
  return runs * std::min(row_bytes, std::max(run_bytes, kLineBytes));
}

/// The twin's tensors, all of `bytes`, that make up one: in whole lines, so that the last part may reach into the line
/// behind the buffer.
std::vector<std::byte*> parts_of(const Buffer& buffer, size_t bytes) {
  std::vector<std::byte*> parts;
  const size_t step = (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
  for (size_t i = 0; i < buffer.bytes() / bytes; ++i) parts.push_back(buffer.data() + i * step);
  return parts;
}

}  // namespace

void Case::make_traffic() {
  traffic_.tensor_bytes = std::min(tensor_bytes(row_, row_.dtype), tensor_bytes(row_, row_.output_dtype));
  const size_t part_bytes = std::min(memory_bytes(row_, row_.dtype), memory_bytes(row_, row_.output_dtype));
  for (const TensorSet& set : sets_) {
    Tensors tensors = {};
    if (row_.slice) tensors.run_bytes = slice_run_bytes(row_);
    const auto add_in = [&](const Buffer& buffer) {
      for (std::byte* part : parts_of(buffer, part_bytes)) tensors.in[tensors.ins++] = part;
    };
    const auto add_out = [&](const Buffer& buffer) {
      for (std::byte* part : parts_of(buffer, part_bytes)) tensors.out[tensors.outs++] = part;
    };
    if (reads_x(row_)) add_in(set.x);
    if (reads_dy(row_)) {
      add_in(set.dy);
      if (needs_y(row_)) add_in(set.y);
      if (reads_residual(row_)) add_in(set.residual);
      if (wants_dx(row_)) add_out(set.dx);
      if (wants_dx(row_) && row_.residual) add_out(set.dresidual);
    } else if (writes_y(row_)) {
      if (reads_residual(row_)) add_in(set.residual);
      add_out(set.y);
    }
    traffic_.sets.push_back(tensors);
  }
  traffic_.turns = std::make_shared<Turns>(sets_.size());
  const auto parts_of_x = static_cast<int>(parts_of(sets_.front().x, part_bytes).size());
  traffic_.first_pass_ins = reads_dy(row_) ? traffic_.sets.front().ins : parts_of_x;
  traffic_.tile_bytes = tile_bytes(row_);
  // A tile that fits the last-level cache is still there when its statistics are known.
  const bool stays = traffic_.tile_bytes * static_cast<size_t>(traffic_.first_pass_ins) <= last_level_cache_bytes();
  traffic_.reads = has_statistics_pass(row_) && !stays ? 2 : 1;
  make_twin_parameters();
}

void Case::make_twin_parameters() {
  const size_t parameter = element_bytes(parameter_dtype(row_));
  const size_t per_channel = static_cast<size_t>(row_.shape.channels) * parameter;
  const size_t running = 2 * static_cast<size_t>(statistics_of(row_)) * parameter;
  const size_t saved = 2 * static_cast<size_t>(statistics_of(row_)) * sizeof(double);
  switch (row_.operation) {
    case Operation::infer:
    case Operation::simple:
      traffic_.parameter_bytes = 2 * per_channel + running;
      break;
    case Operation::prepared:
      traffic_.parameter_bytes = coefficients_.bytes();
      break;
    case Operation::fold:
      traffic_.parameter_bytes = 2 * per_channel + running;
      traffic_.statistics_bytes = per_channel;  // the bias
      break;
    case Operation::train:
      traffic_.parameter_bytes = 2 * per_channel + running;
      traffic_.statistics_bytes = saved + running;
      break;
    case Operation::backward:
      traffic_.parameter_bytes = per_channel * (needs_affine(row_) ? 2 : 1);
      traffic_.parameter_bytes += row_.frozen ? running : saved;
      traffic_.statistics_bytes = wants_params(row_) ? 2 * per_channel : 0;
      break;
    case Operation::moments:
      traffic_.statistics_bytes = partials_.size() * sizeof(double);
      break;
    case Operation::sums:
      traffic_.parameter_bytes = saved + (needs_affine(row_) ? 2 * per_channel : 0);
      traffic_.statistics_bytes = partials_.size() * sizeof(double);
      break;
  }
  traffic_.parameter_bytes += weights_.bytes() + lengths_.size() * sizeof(int64_t);
  (reads_dy(row_) ? traffic_.parameter_bytes : traffic_.statistics_bytes) += sets_.front().mask.bytes();
  twin_parameters_ = Buffer(traffic_.parameter_bytes);
  if (twin_parameters_.bytes() > 0) std::memset(twin_parameters_.data(), 1, twin_parameters_.bytes());
  twin_statistics_ = Buffer(traffic_.statistics_bytes);
  traffic_.parameters = twin_parameters_.data();
  traffic_.statistics = twin_statistics_.data();
}

}  // namespace bnorm_bench
