// SPDX-License-Identifier: Apache-2.0
// Fixed calls for callgrind, which dumps the instructions of each under its name. check.py runs this and compares.
#include <bnorm/bnorm.h>
#include <valgrind/callgrind.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

enum Operation { kSimple, kCreate, kInfer, kPrepare, kNormalize, kTrain, kBackward };
constexpr const char* kOperationNames[] = {"simple", "create", "infer", "prepare", "normalize", "train", "backward"};
constexpr const char* kLayoutNames[] = {"planar", "channels_last"};

struct Case {
  Operation operation;
  bnorm_layout layout;
  int64_t batch, channels, spatial;
  bnorm_type data = BNORM_F32;
  bool epilogue = false;  // ReLU and residual
  float x = 0;            // all values of it; beyond 64 deviations from 0, sums are taken twice
};

// What a serving call costs besides arithmetic, then every kernel family: rows, columns, narrow, planar columns.
constexpr Case kCases[] = {
    {kSimple, BNORM_PLANAR, 1, 256, 1},
    {kCreate, BNORM_PLANAR, 1, 256, 1},
    {kInfer, BNORM_PLANAR, 1, 256, 1},
    {kPrepare, BNORM_PLANAR, 1, 256, 1},
    {kNormalize, BNORM_PLANAR, 1, 256, 1},
    {kTrain, BNORM_PLANAR, 64, 100, 1},
    {kInfer, BNORM_PLANAR, 8, 64, 196},
    {kInfer, BNORM_CHANNELS_LAST, 8, 64, 196, BNORM_F32, true},
    {kTrain, BNORM_PLANAR, 32, 64, 49},
    {kTrain, BNORM_CHANNELS_LAST, 32, 64, 49},
    {kTrain, BNORM_PLANAR, 8, 64, 196, BNORM_BF16},
    {kTrain, BNORM_CHANNELS_LAST, 4, 3, 1024},
    {kTrain, BNORM_PLANAR, 32, 64, 4},
    {kTrain, BNORM_PLANAR, 32, 64, 49, BNORM_F32, false, 1000},
    {kTrain, BNORM_CHANNELS_LAST, 32, 64, 49, BNORM_F32, false, 1000},
    {kBackward, BNORM_PLANAR, 32, 64, 49},
    {kBackward, BNORM_CHANNELS_LAST, 32, 64, 49},
    {kBackward, BNORM_PLANAR, 8, 64, 196, BNORM_F32, true},
};

std::string name_of(const Case& c) {
  return std::string(kOperationNames[c.operation]) + '-' + kLayoutNames[c.layout] + '-' + std::to_string(c.batch) +
         'x' + std::to_string(c.channels) + 'x' + std::to_string(c.spatial) + (c.data == BNORM_BF16 ? "-bf16" : "") +
         (c.epilogue ? "-relu-residual" : "") + (c.x != 0 ? "-far-from-0" : "");
}

/// Zeros, at an address that does not decide how memcpy copies.
class Array {
 public:
  explicit Array(size_t bytes) : lines_(bytes / sizeof(Line) + 1) {}
  void* data() { return lines_.data(); }
  float* f32() { return static_cast<float*>(data()); }

 private:
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> lines_;
};

void require(bnorm_status status) {
  if (status == BNORM_OK) return;
  std::fprintf(stderr, "bnorm_instructions: %s\n", bnorm_last_error());
  std::exit(1);
}

class Call {
 public:
  explicit Call(const Case& c) : case_(c) {
    desc_.batch = c.batch;
    desc_.channels = c.channels;
    desc_.spatial = c.spatial;
    desc_.data_type = c.data;
    desc_.activation = c.epilogue ? BNORM_RELU : BNORM_IDENTITY;
    desc_.residual_added = c.epilogue;
    require(bnorm_desc_set_layout(&desc_, c.layout));
    require(bnorm_plan_create(&plan_, &desc_, nullptr));
    workspace_ = Array(bnorm_plan_workspace_size(plan_));
    coefficients_ = Array(bnorm_plan_coefficients_size(plan_));
    if (c.x != 0) std::fill_n(x_.f32(), c.batch * c.channels * c.spatial, c.x);
  }
  ~Call() { bnorm_plan_destroy(plan_); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  bnorm_status run() {
    switch (case_.operation) {
      case kSimple:
        return bnorm_infer_f32(case_.batch, case_.channels, case_.spatial, x_.f32(), y_.f32(), scale_.f32(),
                               shift_.f32(), running_mean_.f32(), running_var_.f32(), desc_.epsilon);
      case kCreate:
        return create();
      case kInfer:
        return infer();
      case kPrepare:
        return prepare();
      case kNormalize:
        return normalize();
      case kTrain:
        return train();
      default:
        return backward();
    }
  }

 private:
  bnorm_status create() {
    bnorm_plan* plan = nullptr;
    const bnorm_status status = bnorm_plan_create(&plan, &desc_, nullptr);
    bnorm_plan_destroy(plan);
    return status;
  }
  bnorm_status infer() {
    bnorm_infer_args a = BNORM_INFER_ARGS_INIT;
    fill_forward(a);
    fill_work(a);
    a.scale = scale_.data();
    a.shift = shift_.data();
    a.running_mean = running_mean_.data();
    a.running_var = running_var_.data();
    return bnorm_infer(plan_, &a);
  }
  bnorm_status prepare() {
    bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
    a.scale = scale_.data();
    a.shift = shift_.data();
    a.running_mean = running_mean_.data();
    a.running_var = running_var_.data();
    return bnorm_prepare(plan_, &a, coefficients_.data());
  }
  bnorm_status normalize() {
    bnorm_normalize_args a = BNORM_NORMALIZE_ARGS_INIT;
    fill_forward(a);
    a.coefficients = coefficients_.data();
    return bnorm_normalize(plan_, &a);
  }
  bnorm_status train() {
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    fill_forward(a);
    fill_work(a);
    a.scale = scale_.data();
    a.shift = shift_.data();
    a.mean = mean_.data();
    a.inv_std = inv_std_.data();
    a.running_mean = running_mean_.data();
    a.running_var = running_var_.data();
    return bnorm_train(plan_, &a);
  }
  bnorm_status backward() {
    bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
    fill_work(a);
    a.x = x_.data();
    a.y = y_.data();
    a.dy = dy_.data();
    a.dx = dx_.data();
    a.dresidual = case_.epilogue ? dresidual_.data() : nullptr;
    a.scale = scale_.data();
    a.shift = shift_.data();
    a.mean = mean_.data();
    a.inv_std = inv_std_.data();
    a.dscale = dscale_.data();
    a.dshift = dshift_.data();
    return bnorm_backward(plan_, &a);
  }
  template <class Args>
  void fill_forward(Args& a) {
    a.x = x_.data();
    a.y = y_.data();
    a.residual = case_.epilogue ? residual_.data() : nullptr;
    a.executor = BNORM_SERIAL;
  }
  template <class Args>
  void fill_work(Args& a) {
    a.workspace = workspace_.data();
    a.workspace_bytes = bnorm_plan_workspace_size(plan_);
    a.executor = BNORM_SERIAL;
  }
  Array tensor() const {
    return Array(static_cast<size_t>(case_.batch * case_.channels * case_.spatial) * sizeof(float));
  }
  Array per_channel() const { return Array(static_cast<size_t>(case_.channels) * sizeof(double)); }

  Case case_;
  bnorm_desc desc_ = BNORM_DESC_INIT;
  bnorm_plan* plan_ = nullptr;
  Array x_ = tensor(), y_ = tensor(), residual_ = tensor(), dx_ = tensor(), dy_ = tensor(), dresidual_ = tensor();
  Array scale_ = per_channel(), shift_ = per_channel(), dscale_ = per_channel(), dshift_ = per_channel();
  Array mean_ = per_channel(), inv_std_ = per_channel();
  Array running_mean_ = per_channel(), running_var_ = per_channel();
  Array workspace_ = Array(0), coefficients_ = Array(0);
};

void measure(const Case& c) {
  const std::string name = name_of(c);
  Call call(c);
  require(call.run());  // binds symbols and warms the heap, which later calls don't pay
  CALLGRIND_ZERO_STATS;
  const bnorm_status status = call.run();
  CALLGRIND_DUMP_STATS_AT(name.c_str());
  require(status);
}

}  // namespace

int main() {
#ifdef __clang__
  std::printf("compiler clang++ %s\n", __clang_version__);
#else
  std::printf("compiler g++ %s\n", __VERSION__);
#endif
  const bool has_isa = *bnorm_isa() != '\0';
  std::printf("isa %s\n", has_isa ? bnorm_isa() : "none");
  if (!has_isa) return 0;
  for (const Case& c : kCases) measure(c);
  return 0;
}
