// oneDNN's batch normalization in a process of its own: answers one line of JSON to each line. The first request sets
// up the row; {"measure":true} times one sample; {"output":k} reads k elements of the last result. Ends with its input.
#include <sys/prctl.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "data.hh"

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using bnorm_bench::Normals;
using bnorm_bench::Stream;
using Arguments = std::unordered_map<int, dnnl::memory>;

dnnl::memory::format_tag tag_of(const std::string& format) {
  using tag = dnnl::memory::format_tag;
  return format == "nchw" ? tag::nchw : format == "nhwc" ? tag::nhwc : tag::nChw16c;
}

/// Spatial positions as height and width: square where they are.
dnnl::memory::dims dims_of(const json& request) {
  const int64_t spatial = request.at("spatial");
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(spatial))));
  const int64_t height = side * side == spatial ? side : 1;
  return {request.at("batch"), request.at("channels"), height, spatial / height};
}

class OneDnn {
 public:
  explicit OneDnn(const json& request)
      : sample_seconds_(request.at("sample_seconds")),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        dims_(dims_of(request)),
        planar_(dims_, dnnl::memory::data_type::f32, dnnl::memory::format_tag::nchw),
        data_(dims_, dnnl::memory::data_type::f32, tag_of(request.at("format"))) {
    const std::string operation = request.at("operation");
    const bool backward = operation == "backward";
    const bool statistics = operation == "train" || backward;
    auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
    if (!statistics) flags = flags | dnnl::normalization_flags::use_global_stats;
    if (request.at("relu")) flags = flags | dnnl::normalization_flags::fuse_norm_relu;
    const auto kind = statistics ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    constexpr auto epsilon = static_cast<float>(bnorm_bench::kEpsilon);
    const dnnl::batch_normalization_forward::primitive_desc forward(
        dnnl::batch_normalization_forward::desc(kind, data_, epsilon, flags), engine_);
    make_sets(request.at("sets"), backward, forward.workspace_desc());
    primitive_ = dnnl::batch_normalization_forward(forward);
    implementation_ = forward.impl_info_str();
    run_all();
    if (!backward) return;
    const dnnl::batch_normalization_backward::primitive_desc gradient(
        dnnl::batch_normalization_backward::desc(dnnl::prop_kind::backward, data_, data_, epsilon, flags), engine_,
        forward);
    primitive_ = dnnl::batch_normalization_backward(gradient);
    implementation_ = gradient.impl_info_str();
    result_ = DNNL_ARG_DIFF_SRC;
    run_all();
  }

  const std::string& implementation() const { return implementation_; }

  /// Nanoseconds per call. The first sample also finds how many calls make one.
  double measure() {
    if (calls_ == 0) {
      calls_ = 1;
      for (double ns = time(1); ns * static_cast<double>(calls_) < sample_seconds_ * 1e9; ns = time(calls_)) {
        calls_ *= 2;
      }
    }
    run(0);
    return time(calls_);
  }

  std::vector<float> output(int64_t count) {
    dnnl::memory planar(planar_, engine_);
    dnnl::memory& result = sets_.front().at(result_);
    run(0);
    dnnl::reorder(result, planar).execute(stream_, result, planar);
    stream_.wait();
    const auto* values = static_cast<const float*>(planar.get_data_handle());
    const int64_t total = dims_[0] * dims_[1] * dims_[2] * dims_[3];
    std::vector<float> samples;
    for (int64_t i = 0; i < count; ++i) samples.push_back(values[bnorm_bench::sample_position(i, count, total)]);
    return samples;
  }

 private:
  void make_sets(size_t count, bool backward, const dnnl::memory::desc& workspace) {
    const std::unordered_map<int, Stream> parameters = {{DNNL_ARG_SCALE, Stream::scale},
                                                        {DNNL_ARG_SHIFT, Stream::shift},
                                                        {DNNL_ARG_MEAN, Stream::mean},
                                                        {DNNL_ARG_VARIANCE, Stream::var}};
    Arguments shared;
    for (const auto& [argument, stream] : parameters) shared[argument] = parameter(stream);
    if (backward) shared[DNNL_ARG_DIFF_SCALE] = parameter(Stream::scale);
    if (backward) shared[DNNL_ARG_DIFF_SHIFT] = parameter(Stream::shift);
    for (size_t i = 0; i < count; ++i) {
      Arguments set = shared;
      set[DNNL_ARG_SRC] = tensor(Stream::x);
      set[DNNL_ARG_DST] = tensor(Stream::x);
      if (backward) set[DNNL_ARG_DIFF_DST] = tensor(Stream::dy);
      if (backward) set[DNNL_ARG_DIFF_SRC] = tensor(Stream::dy);
      if (workspace.get_size() > 0) set[DNNL_ARG_WORKSPACE] = dnnl::memory(workspace, engine_);
      sets_.push_back(set);
    }
  }

  dnnl::memory parameter(Stream stream) const {
    dnnl::memory memory({{dims_[1]}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::x}, engine_);
    auto* values = static_cast<float*>(memory.get_data_handle());
    for (int64_t c = 0; c < dims_[1]; ++c) values[c] = normals_.parameter(stream, c);
    return memory;
  }

  dnnl::memory tensor(Stream stream) {
    dnnl::memory planar(planar_, engine_);
    auto* values = static_cast<float*>(planar.get_data_handle());
    const int64_t total = dims_[0] * dims_[1] * dims_[2] * dims_[3];
    for (int64_t i = 0; i < total; ++i) values[i] = normals_(stream, i);
    dnnl::memory memory(data_, engine_);
    dnnl::reorder(planar, memory).execute(stream_, planar, memory);
    stream_.wait();
    return memory;
  }

  void run(size_t set) {
    primitive_.execute(stream_, sets_[set]);
    stream_.wait();
  }

  void run_all() {
    for (size_t set = 0; set < sets_.size(); ++set) run(set);
  }

  double time(int64_t calls) {
    const auto begin = Clock::now();
    for (int64_t i = 0; i < calls; ++i) {
      run(next_);
      next_ = next_ + 1 == sets_.size() ? 0 : next_ + 1;
    }
    const std::chrono::duration<double, std::nano> taken = Clock::now() - begin;
    return taken.count() / static_cast<double>(calls);
  }

  double sample_seconds_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::memory::dims dims_;
  dnnl::memory::desc planar_, data_;
  Normals normals_;
  std::vector<Arguments> sets_;
  dnnl::primitive primitive_;
  std::string implementation_;
  int result_ = DNNL_ARG_DST;
  int64_t calls_ = 0;
  size_t next_ = 0;
};

json answer(std::unique_ptr<OneDnn>& peer, const json& request) {
  if (request.contains("measure")) return {{"ns", peer->measure()}};
  if (request.contains("output")) return {{"values", peer->output(request.at("output"))}};
  peer = std::make_unique<OneDnn>(request);
  return {{"implementation", peer->implementation()}};
}

}  // namespace

int main() try {
  // Not left behind, stopped, if the bench is killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::unique_ptr<OneDnn> peer;
  for (std::string line; std::getline(std::cin, line);) {
    json response;
    try {
      response = answer(peer, json::parse(line));
    } catch (const std::exception& error) {
      response = {{"error", error.what()}};
    }
    std::cout << response.dump() << std::endl;
  }
} catch (...) {
  return 1;  // the bench sees the closed pipe
}
