// The traffic floor: what the unavoidable memory traffic of one call costs, measured with an arithmetic-free twin.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "row.hh"
#include "turns.hh"
#include "twin.hh"

namespace benchmark {
class State;
}

namespace bnorm_bench {

/// What a call moves, and in which buffers.
struct Traffic {
  std::vector<Tensors> sets;                                  ///< one hot set, or several to rotate over
  std::shared_ptr<Turns> turns = std::make_shared<Turns>(1);  ///< of the sets, whoever makes the next call
  size_t tensor_bytes = 0;                                    ///< of each tensor
  int reads = 1;  ///< 2: a pass over the first `first_pass_ins` inputs precedes that which writes
  int first_pass_ins = 0;
  size_t tile_bytes = 0;  ///< smallest part of one tensor that holds whole channels; both passes go over one tile
  const std::byte* parameters = nullptr;  ///< as many bytes as the parameters read
  size_t parameter_bytes = 0;
  std::byte* statistics = nullptr;  ///< room for the statistics or parameter gradients written
  size_t statistics_bytes = 0;
};

/// Bytes of a data cache of that level, 0 if the system tells of none.
size_t cache_bytes(int level);
/// Bytes of the last-level cache.
size_t last_level_cache_bytes();

/// Bytes that a call touches.
int64_t working_set_bytes(const Traffic& traffic);
/// Bytes that a call cannot avoid moving.
int64_t floor_bytes(const Traffic& traffic);

/// One way to move the traffic.
struct FloorVariant {
  std::string name;
  std::function<void(benchmark::State&)> body;
};
/// The ways among which the floor is the best: 1, 2, 4, ... and `threads` threads, regular and non-temporal stores,
/// beyond L2 with and without fetching ahead. `traffic` must outlive them.
std::vector<FloorVariant> floor_variants(const Traffic& traffic, int threads);

}  // namespace bnorm_bench
