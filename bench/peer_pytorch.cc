// PyTorch's batch normalization as a peer. From C++: a call through Python costs more than many of the rows.
#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <c10/core/InferenceMode.h>
#include <torch/headeronly/version.h>

#include <stdexcept>

#include "data.hh"
#include "peer_serve.hh"

namespace {

using bnorm_bench::kEpsilon;
using bnorm_bench::PeerCase;
using bnorm_bench::PeerSetUp;
using bnorm_bench::Stream;

constexpr double kMomentum = 0.1;

at::MemoryFormat memory_format(const PeerSetUp& set_up) {
  if (set_up.format == "contiguous") return at::MemoryFormat::Contiguous;
  return set_up.sizes.size() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::ChannelsLast3d;
}

class PyTorch : public PeerCase {
 public:
  explicit PyTorch(const PeerSetUp& set_up) : set_up_(set_up) {
    if (set_up.relu) throw std::invalid_argument("PyTorch fuses no ReLU");
    scale_ = parameter(Stream::scale);
    shift_ = parameter(Stream::shift);
    running_mean_ = parameter(Stream::mean);
    running_var_ = parameter(Stream::var);
    mean_ = at::empty_like(scale_);
    inv_std_ = at::empty_like(scale_);
    for (size_t i = 0; i < set_up.sets; ++i) {
      const at::Tensor x = tensor(Stream::x);
      sets_.push_back({x, at::zeros_like(x), set_up.backward() ? tensor(Stream::dy) : at::Tensor(), {}});
      forward(sets_.back(), !set_up.infer());
    }
  }

  void run(size_t set) override {
    if (set_up_.backward()) return backward(sets_[set]);
    forward(sets_[set], !set_up_.infer());
  }

  std::vector<float> output() override {
    const Set& set = sets_.front();
    const at::Tensor planar = (set_up_.backward() ? set.dx : set.y).contiguous();
    const auto* values = planar.const_data_ptr<float>();
    return {values, values + planar.numel()};
  }

  std::string implementation() const override { return "ATen " + at::get_cpu_capability(); }

 private:
  struct Set {
    at::Tensor x, y, dy, dx;
  };

  at::Tensor parameter(Stream stream) const {
    at::Tensor result = at::empty({set_up_.channels()});
    auto* values = result.mutable_data_ptr<float>();
    for (int64_t c = 0; c < set_up_.channels(); ++c) values[c] = normals_.parameter(stream, c);
    return result;
  }

  at::Tensor tensor(Stream stream) const {
    const at::Tensor planar = at::empty(set_up_.sizes);
    normals_.fill(stream, planar.mutable_data_ptr<float>(), set_up_.elements());
    at::Tensor result = at::empty(set_up_.sizes, at::TensorOptions(), memory_format(set_up_));
    return result.copy_(planar);
  }

  void forward(Set& set, bool training) {
    at::native_batch_norm_out(set.y, mean_, inv_std_, set.x, scale_, shift_, running_mean_, running_var_, training,
                              kMomentum, kEpsilon);
  }

  /// There is no variant for given outputs that does not copy: it allocates, from memory that the last call freed.
  void backward(Set& set) {
    set.dx.reset();
    set.dx = std::get<0>(at::native_batch_norm_backward(set.dy, set.x, scale_, running_mean_, running_var_, mean_,
                                                        inv_std_, true, kEpsilon, {true, true, true}));
  }

  PeerSetUp set_up_;
  bnorm_bench::Normals normals_;
  at::Tensor scale_, shift_, running_mean_, running_var_, mean_, inv_std_;
  std::vector<Set> sets_;
};

}  // namespace

int main() {
  const c10::InferenceMode no_gradients;
  return bnorm_bench::serve("PyTorch " TORCH_VERSION, [](const PeerSetUp& set_up) -> std::unique_ptr<PeerCase> {
    return std::make_unique<PyTorch>(set_up);
  });
}
