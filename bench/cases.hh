// The timed calls: buffers, plan and arguments of one row, made outside the timed loop.
#pragma once

#include <bnorm/bnorm.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "data.hh"
#include "floor.hh"
#include "row.hh"

namespace benchmark {
class State;
}

namespace bnorm_bench {

/// Memory aligned to a cache line, with another line behind it.
class Buffer {
 public:
  explicit Buffer(size_t bytes = 0);
  std::byte* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Release {
    void operator()(std::byte* data) const;
  };
  size_t bytes_;
  std::unique_ptr<std::byte, Release> data_;
};

/// The tensors that a row's call reads and writes: names in the order of the calls' own arguments.
struct TensorSet {
  Buffer x, y, residual, dy, dx, dresidual, mask;
};

/// Bytes of one tensor of a row: of one in that type.
size_t tensor_bytes(const Row& row, Dtype dtype);
/// Bytes between two gaps of a slice, which are as long.
size_t slice_run_bytes(const Row& row);
/// Bytes of all tensors of one set in memory.
size_t set_bytes(const Row& row);
/// What a row's plan is made of, but for the layout.
bnorm_desc desc_of(const Row& row);
/// Sets that a row rotates over: 1, or enough for 4 x the last-level cache.
size_t sets_of(const Row& row);

struct Channel;  // of verify.cc

/// One row ready to be called. Threads: 1 is BNORM_SERIAL, more are oneTBB in an arena of that size; the simple tier
/// has no executor, so its calls run in an arena for 1 as well.
class Case {
 public:
  /// Throws std::runtime_error with bnorm's message if it refuses the plan.
  explicit Case(const Row& row);
  ~Case();
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  /// Warms up, then the timed loop.
  void time(benchmark::State& state);
  const Traffic& traffic() const { return traffic_; }

  /// Spoils the output, makes the timed call once, and compares up to eight channels with the formula evaluated in
  /// long double. Throws std::runtime_error naming the first wrong element.
  void verify();
  /// Output element (y, or dx of backward) at a logical position [G][N][C][S], of an operation that has one.
  double output(int64_t position) const;

 private:
  void make_plan();
  void fill();
  void fill_tensor(const Buffer& buffer, Stream stream, Dtype dtype) const;
  void fill_weights();
  void make_exchange();
  void make_arguments();
  void give_renorm(bnorm_train_args& args) const;
  static bnorm_train_args inputs_of_moments(const bnorm_train_args& train);
  bnorm_fold_args layer_of(const TensorSet& set) const;
  void make_traffic();
  void make_twin_parameters();
  void save_forward();
  void call_once();
  void spoil_outputs();
  Channel channel_at(int64_t g, int64_t c) const;
  void verify_forward(int64_t g, int64_t c, double running_mean_before) const;
  void verify_backward(int64_t c) const;
  template <class Use>
  void with_call(const Use& use);
  template <class Call>
  void in_threads(const Call& call) const;

  Row row_;
  Normals normals_;
  bnorm_plan* plan_ = nullptr;
  std::vector<TensorSet> sets_;
  Buffer scale_, shift_, running_mean_, running_var_, mean_, inv_std_, dscale_, dshift_;
  Buffer weights_, renorm_r_, renorm_d_;  // of rows that have them
  std::vector<int64_t> lengths_;
  std::vector<double> partials_, messages_;
  bnorm_exchange exchange_ = BNORM_EXCHANGE_INIT;
  Buffer workspace_, coefficients_, twin_parameters_, twin_statistics_;
  std::vector<bnorm_infer_args> infer_;
  std::vector<bnorm_train_args> train_;
  std::vector<bnorm_backward_args> backward_;
  std::vector<bnorm_normalize_args> normalize_;
  std::vector<bnorm_fold_args> fold_;
  Traffic traffic_;
};

}  // namespace bnorm_bench
