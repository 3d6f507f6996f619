// oneDNN's batch normalization as a peer. One source for its versions 2 and 3 and for all its runtimes.
#include <sched.h>

#include <cstdlib>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "data.hh"
#include "peer_serve.hh"

namespace {

using bnorm_bench::PeerCase;
using bnorm_bench::PeerSetUp;
using bnorm_bench::Stream;
using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;
using Forward = dnnl::batch_normalization_forward;
using Backward = dnnl::batch_normalization_backward;

constexpr auto kEpsilon = static_cast<float>(bnorm_bench::kEpsilon);

// The gradient reads no shift. Version 2 wants one all the same, 3.2 refuses it.
constexpr bool kGradientTakesShift = DNNL_VERSION_MAJOR < 3;

#if DNNL_VERSION_MAJOR < 3
Forward::primitive_desc forward_desc(const dnnl::engine& engine, dnnl::prop_kind kind, const memory::desc& data,
                                     dnnl::normalization_flags flags) {
  return {Forward::desc(kind, data, kEpsilon, flags), engine};
}
Backward::primitive_desc backward_desc(const dnnl::engine& engine, const memory::desc& data,
                                       dnnl::normalization_flags flags, const Forward::primitive_desc& forward) {
  return {Backward::desc(dnnl::prop_kind::backward, data, data, kEpsilon, flags), engine, forward};
}
#else
Forward::primitive_desc forward_desc(const dnnl::engine& engine, dnnl::prop_kind kind, const memory::desc& data,
                                     dnnl::normalization_flags flags) {
  return {engine, kind, data, data, kEpsilon, flags};
}
Backward::primitive_desc backward_desc(const dnnl::engine& engine, const memory::desc& data,
                                       dnnl::normalization_flags flags, const Forward::primitive_desc& forward) {
  return {engine, dnnl::prop_kind::backward, data, data, data, kEpsilon, flags, forward};
}
#endif

/// One for the whole process: in SYCL it takes long to make.
const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc data_desc(const PeerSetUp& set_up, const std::string& format) {
  using tag = memory::format_tag;
  const std::unordered_map<std::string, std::pair<tag, tag>> tags = {{"nchw", {tag::nchw, tag::ncdhw}},
                                                                     {"nhwc", {tag::nhwc, tag::ndhwc}},
                                                                     {"nChw8c", {tag::nChw8c, tag::nCdhw8c}},
                                                                     {"nChw16c", {tag::nChw16c, tag::nCdhw16c}}};
  const auto& [images, volumes] = tags.at(format);
  return {set_up.sizes, memory::data_type::f32, set_up.sizes.size() == 4 ? images : volumes};
}

dnnl::normalization_flags flags_of(const PeerSetUp& set_up) {
  auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
  if (set_up.infer()) flags = flags | dnnl::normalization_flags::use_global_stats;
  if (set_up.relu) flags = flags | dnnl::normalization_flags::fuse_norm_relu;
  return flags;
}

class OneDnn : public PeerCase {
 public:
  explicit OneDnn(const PeerSetUp& set_up)
      : set_up_(set_up), stream_(cpu()), planar_(data_desc(set_up, "nchw")), data_(data_desc(set_up, set_up.format)) {
    const auto flags = flags_of(set_up);
    const auto kind = set_up.infer() ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training;
    const auto forward = forward_desc(cpu(), kind, data_, flags);
    make_sets(forward.workspace_desc());
    primitive_ = Forward(forward);
    implementation_ = forward.impl_info_str();
    if (!set_up.backward()) return;
    // The gradient takes what forward has saved.
    for (size_t set = 0; set < set_up.sets; ++set) OneDnn::run(set);
    if (!kGradientTakesShift) {
      for (Arguments& set : sets_) set.erase(DNNL_ARG_SHIFT);
    }
    const auto gradient = backward_desc(cpu(), data_, flags, forward);
    primitive_ = Backward(gradient);
    implementation_ = gradient.impl_info_str();
  }

  void run(size_t set) override {
    primitive_.execute(stream_, sets_[set]);
    stream_.wait();
  }

  std::vector<float> output() override {
    const memory planar(planar_, cpu());
    reorder(sets_.front().at(set_up_.backward() ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST), planar);
    std::vector<float> values(static_cast<size_t>(set_up_.elements()));
    with_values(planar, [&](const float* from) { std::memcpy(values.data(), from, values.size() * sizeof(float)); });
    return values;
  }

  std::string implementation() const override { return implementation_; }

 private:
  /// Values behind a memory object: in SYCL they need not be where the handle points.
  template <class Use>
  static void with_values(const memory& memory, const Use& use) {
    auto* values = memory.map_data<float>();
    use(values);
    memory.unmap_data(values);
  }

  void reorder(const memory& from, const memory& to) {
    dnnl::reorder(from, to).execute(stream_, const_cast<memory&>(from), const_cast<memory&>(to));
    stream_.wait();
  }

  memory parameter(Stream stream) const {
    memory result({{set_up_.channels()}, memory::data_type::f32, memory::format_tag::x}, cpu());
    with_values(result, [&](float* values) {
      for (int64_t c = 0; c < set_up_.channels(); ++c) values[c] = normals_.parameter(stream, c);
    });
    return result;
  }

  memory tensor(Stream stream) {
    const memory planar(planar_, cpu());
    with_values(planar, [&](float* values) { normals_.fill(stream, values, set_up_.elements()); });
    memory result(data_, cpu());
    reorder(planar, result);
    return result;
  }

  void make_sets(const memory::desc& workspace) {
    const bool backward = set_up_.backward();
    const std::unordered_map<int, Stream> parameters = {{DNNL_ARG_SCALE, Stream::scale},
                                                        {DNNL_ARG_SHIFT, Stream::shift},
                                                        {DNNL_ARG_MEAN, Stream::mean},
                                                        {DNNL_ARG_VARIANCE, Stream::var}};
    Arguments shared;
    for (const auto& [argument, stream] : parameters) shared[argument] = parameter(stream);
    if (backward) shared[DNNL_ARG_DIFF_SCALE] = parameter(Stream::scale);
    if (backward) shared[DNNL_ARG_DIFF_SHIFT] = parameter(Stream::shift);
    for (size_t i = 0; i < set_up_.sets; ++i) {
      Arguments set = shared;
      set[DNNL_ARG_SRC] = tensor(Stream::x);
      set[DNNL_ARG_DST] = memory(data_, cpu());
      if (backward) set[DNNL_ARG_DIFF_DST] = tensor(Stream::dy);
      if (backward) set[DNNL_ARG_DIFF_SRC] = memory(data_, cpu());
      if (workspace.get_size() > 0) set[DNNL_ARG_WORKSPACE] = memory(workspace, cpu());
      sets_.push_back(set);
    }
  }

  PeerSetUp set_up_;
  dnnl::stream stream_;
  memory::desc planar_, data_;
  bnorm_bench::Normals normals_;
  std::vector<Arguments> sets_;
  dnnl::primitive primitive_;
  std::string implementation_;
};

/// oneTBB, which works for oneDNN in SYCL, knows no OMP_NUM_THREADS; it takes as many threads as the process has CPUs.
void keep_to_cpus(int count) {
  cpu_set_t allowed, kept;
  CPU_ZERO(&kept);
  sched_getaffinity(0, sizeof allowed, &allowed);
  for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&kept) < count; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &kept);
  }
  sched_setaffinity(0, sizeof kept, &kept);
}

std::string version_text(const dnnl::version_t& version) {
  const std::unordered_map<unsigned, std::string> runtimes = {
      {DNNL_RUNTIME_OMP, "OpenMP"}, {DNNL_RUNTIME_TBB, "oneTBB"}, {DNNL_RUNTIME_DPCPP, "SYCL"}};
  const auto runtime = runtimes.find(version.cpu_runtime);
  return "oneDNN " + std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
         std::to_string(version.patch) + " (" + (runtime == runtimes.end() ? "other" : runtime->second) + ")";
}

}  // namespace

int main() {
  const dnnl::version_t& version = *dnnl::version();
  if (version.cpu_runtime == DNNL_RUNTIME_DPCPP) keep_to_cpus(std::atoi(std::getenv("OMP_NUM_THREADS")));
  return bnorm_bench::serve(version_text(version), [](const PeerSetUp& set_up) -> std::unique_ptr<PeerCase> {
    return std::make_unique<OneDnn>(set_up);
  });
}
