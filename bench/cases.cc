#include "cases.hh"

#include <benchmark/benchmark.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>

#include "element.hh"
#include "uses.hh"
#include "warm_up.hh"

namespace bnorm_bench {
namespace {

void require_ok(bnorm_status status, const std::string& what) {
  if (status == BNORM_OK) return;
  throw std::runtime_error(what + ": " + bnorm_status_name(status) + ": " + bnorm_last_error());
}

bnorm_type type_of(Dtype dtype) {
  constexpr bnorm_type types[] = {BNORM_F32, BNORM_F64, BNORM_BF16, BNORM_F16};
  return types[static_cast<size_t>(dtype)];
}

/// Bytes of each tensor of a set in memory, in its order; 0: the row has none.
std::array<size_t, 6> bytes_of_set(const Row& row) {
  const size_t in = memory_bytes(row, row.dtype), out = memory_bytes(row, row.output_dtype);
  const auto if_wanted = [](bool wanted, size_t bytes) { return wanted ? bytes : 0; };
  return {in,
          if_wanted(needs_y(row), out),
          if_wanted(row.residual, out),
          if_wanted(reads_dy(row), out),
          if_wanted(wants_dx(row), in),
          if_wanted(wants_dx(row) && row.residual, out)};
}

TensorSet make_set(const Row& row) {
  const auto [x, y, residual, dy, dx, dresidual] = bytes_of_set(row);
  return {Buffer(x), Buffer(y), Buffer(residual), Buffer(dy), Buffer(dx), Buffer(dresidual), Buffer(0)};
}

}  // namespace

Buffer::Buffer(size_t bytes)
    : bytes_(bytes),
      data_(bytes == 0 ? nullptr
                       : static_cast<std::byte*>(::operator new (bytes + kLineBytes, std::align_val_t{kLineBytes}))) {}

void Buffer::Release::operator()(std::byte* data) const { ::operator delete (data, std::align_val_t{kLineBytes}); }

bnorm_desc desc_of(const Row& row) {
  bnorm_desc desc = BNORM_DESC_INIT;
  desc.data_type = type_of(row.dtype);
  desc.output_type = type_of(row.output_dtype);
  desc.groups = row.groups;
  desc.batch = row.shape.batch;
  desc.channels = row.shape.channels;
  desc.spatial = row.shape.spatial;
  desc.activation = row.activation;
  desc.residual_added = row.residual ? 1 : 0;
  desc.frozen = row.frozen ? 1 : 0;
  if (row.param_dtype) desc.param_type = type_of(*row.param_dtype);
  desc.weighting = row.weighted || row.lengths ? BNORM_FREQUENCY_WEIGHTS : BNORM_UNWEIGHTED;
  desc.renorm = row.renorm ? 1 : 0;
  desc.from_output = row.from_output ? 1 : 0;
  desc.from_mask = row.from_mask ? 1 : 0;
  desc.from_residual = row.from_residual ? 1 : 0;
  desc.running_mode = BNORM_RUNNING_PER_GROUP;
  desc.epsilon = kEpsilon;
  return desc;
}

size_t tensor_bytes(const Row& row, Dtype dtype) { return static_cast<size_t>(row.elements()) * element_bytes(dtype); }

size_t slice_run_bytes(const Row& row) {
  const int64_t elements = row.shape.channels * (row.layout == Layout::planar ? row.shape.spatial : 1);
  return static_cast<size_t>(elements) * element_bytes(row.dtype);
}

size_t set_bytes(const Row& row) {
  size_t sum = 0;
  for (const size_t bytes : bytes_of_set(row)) sum += bytes;
  return sum;
}

size_t sets_of(const Row& row) {
  if (!row.cold) return 1;
  const size_t bytes = set_bytes(row);
  return std::max<size_t>(2, (4 * last_level_cache_bytes() + bytes - 1) / bytes);
}

Case::Case(const Row& row) : row_(row) {
  make_plan();
  fill();
  make_arguments();
  if (reads_dy(row_)) save_forward();
  make_traffic();
}

Case::~Case() { bnorm_plan_destroy(plan_); }

void Case::make_plan() {
  bnorm_desc desc = desc_of(row_);
  if (const int64_t block = channel_block(row_.layout); block > 0) {
    desc.channel_block = static_cast<int32_t>(block);
  } else {
    const bnorm_layout layout = row_.layout == Layout::planar ? BNORM_PLANAR : BNORM_CHANNELS_LAST;
    desc.channels = row_.width();  // for the strides
    require_ok(bnorm_desc_set_layout(&desc, layout), "bnorm_desc_set_layout");
    desc.channels = row_.shape.channels;
  }
  require_ok(bnorm_plan_create(&plan_, &desc, nullptr), "bnorm_plan_create");
}

void Case::fill() {
  const size_t parameter = element_bytes(parameter_dtype(row_));
  const auto channels = static_cast<size_t>(row_.shape.channels);
  const auto statistics = static_cast<size_t>(statistics_of(row_));
  for (Buffer* buffer : {&scale_, &shift_, &dscale_, &dshift_}) *buffer = Buffer(channels * parameter);
  for (Buffer* buffer : {&running_mean_, &running_var_}) *buffer = Buffer(statistics * parameter);
  for (Buffer* buffer : {&mean_, &inv_std_}) *buffer = Buffer(statistics * sizeof(double));
  for (Buffer* buffer : {&renorm_r_, &renorm_d_}) *buffer = Buffer(row_.renorm ? statistics * sizeof(double) : 0);
  fill_weights();
  partials_.resize(bnorm_plan_partials_count(plan_));
  if (row_.ranks > 1) make_exchange();
  workspace_ = Buffer(bnorm_plan_workspace_size(plan_));
  coefficients_ = Buffer(bnorm_plan_coefficients_size(plan_));
  const auto fill_parameter = [&](const Buffer& buffer, Stream stream, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const auto index = static_cast<int64_t>(i);
      write_element(buffer.data(), parameter_dtype(row_), index, normals_.parameter(stream, index));
    }
  };
  fill_parameter(scale_, Stream::scale, channels);
  fill_parameter(shift_, Stream::shift, channels);
  fill_parameter(running_mean_, Stream::mean, statistics);
  fill_parameter(running_var_, Stream::var, statistics);
  for (size_t i = 0; i < sets_of(row_); ++i) {
    sets_.push_back(make_set(row_));
    sets_[i].mask = Buffer(bnorm_plan_mask_size(plan_));
    fill_tensor(sets_[i].x, Stream::x, row_.dtype);
    fill_tensor(sets_[i].dy, Stream::dy, row_.output_dtype);
    fill_tensor(sets_[i].residual, Stream::residual, row_.output_dtype);
    // Outputs too: a page never written costs a fault at its first use.
    for (const Buffer* buffer : {&sets_[i].y, &sets_[i].dx, &sets_[i].dresidual}) {
      if (buffer->bytes() > 0) std::memset(buffer->data(), 0, buffer->bytes());
    }
  }
}

/// 1/2, 1 and 3/2 in turn. Lengths: all positions, a quarter less, half.
void Case::fill_weights() {
  const int64_t samples = row_.groups * row_.shape.batch, spatial = row_.shape.spatial;
  for (int64_t i = 0; row_.lengths && i < samples; ++i) lengths_.push_back(spatial - i % 3 * spatial / 4);
  if (!row_.weighted) return;
  weights_ = Buffer(static_cast<size_t>(samples * spatial) * element_bytes(arithmetic_dtype(row_)));
  for (int64_t i = 0; i < samples * spatial; ++i)
    write_element(weights_.data(), arithmetic_dtype(row_), i, static_cast<float>(1 + i % 3) / 2);
}

void Case::fill_tensor(const Buffer& buffer, Stream stream, Dtype dtype) const {
  if (buffer.bytes() == 0) return;
  if (const TensorSet& first = sets_.front(); sets_.size() > 1) {
    const Buffer& filled = stream == Stream::x ? first.x : stream == Stream::dy ? first.dy : first.residual;
    std::memcpy(buffer.data(), filled.data(), buffer.bytes());
    return;
  }
  const auto [batch, channels, spatial] = row_.shape;
  for (int64_t g = 0; g < row_.groups; ++g) {
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t s = 0; s < spatial; ++s) {
          write_element(buffer.data(), dtype, memory_index(row_, g, n, c, s),
                        normals_(stream, logical_index(row_, g, n, c, s)));
        }
      }
    }
  }
}

/// Every rank sends what this one does.
void Case::make_exchange() {
  const auto ranks = static_cast<int32_t>(row_.ranks);
  messages_.resize(bnorm_plan_exchange_count(plan_, ranks));
  exchange_.ranks = ranks;
  exchange_.context = &exchange_.ranks;
  exchange_.allgather = [](void* context, const double* sent, double* received, int64_t count) {
    for (int32_t r = 0; r < *static_cast<const int32_t*>(context); ++r) std::copy_n(sent, count, received + r * count);
    return 0;
  };
  exchange_.buffer = messages_.data();
  exchange_.buffer_count = static_cast<int64_t>(messages_.size());
}

/// What bnorm_moments takes of the arguments.
bnorm_train_args Case::inputs_of_moments(const bnorm_train_args& train) {
  bnorm_train_args args = BNORM_TRAIN_ARGS_INIT;
  args.x = train.x;
  args.weights = train.weights;
  args.lengths = train.lengths;
  args.workspace = train.workspace;
  args.workspace_bytes = train.workspace_bytes;
  args.executor = train.executor;
  return args;
}

/// Without a bias; its folded one goes to dshift.
bnorm_fold_args Case::layer_of(const TensorSet& set) const {
  bnorm_fold_args args = BNORM_FOLD_ARGS_INIT;
  args.weight_type = type_of(row_.dtype);
  args.bias_type = type_of(parameter_dtype(row_));
  args.outputs = row_.shape.channels;
  args.inputs = row_.shape.spatial;
  if (row_.layout == Layout::channels_last) {
    args.output_stride = 1;
    args.input_stride = row_.shape.channels;
  }
  args.weight = set.x.data();
  args.folded_weight = set.y.data();
  args.folded_bias = dshift_.data();
  args.running_mean = running_mean_.data();
  args.running_var = running_var_.data();
  args.scale = scale_.data();
  args.shift = shift_.data();
  args.most_digits_lost = std::numeric_limits<double>::infinity();
  return args;
}

/// Limits that most corrections are within.
void Case::give_renorm(bnorm_train_args& args) const {
  args.renorm_r = renorm_r_.data();
  args.renorm_d = renorm_d_.data();
  args.renorm_r_max = 3;
  args.renorm_d_max = 5;
}

void Case::make_arguments() {
  const bnorm_executor* executor = row_.threads == 1 ? BNORM_SERIAL : nullptr;
  for (const TensorSet& set : sets_) {
    // Fields that the argument structs share.
    const auto common = [&](auto& args) {
      args.x = set.x.data();
      args.y = set.y.data();
      args.scale = scale_.data();
      args.shift = shift_.data();
      args.workspace = workspace_.data();
      args.workspace_bytes = workspace_.bytes();
      args.executor = executor;
    };
    bnorm_infer_args infer = BNORM_INFER_ARGS_INIT;
    common(infer);
    infer.residual = set.residual.data();
    infer.running_mean = running_mean_.data();
    infer.running_var = running_var_.data();
    infer.mask = set.mask.data();
    infer_.push_back(infer);

    bnorm_train_args train = BNORM_TRAIN_ARGS_INIT;
    common(train);
    train.residual = set.residual.data();
    train.mean = mean_.data();
    train.inv_std = inv_std_.data();
    train.running_mean = running_mean_.data();
    train.running_var = running_var_.data();
    train.weights = weights_.data();
    train.lengths = row_.lengths ? lengths_.data() : nullptr;
    train.mask = set.mask.data();
    if (row_.renorm) give_renorm(train);
    if (row_.ranks > 1) train.exchange = &exchange_;
    train_.push_back(row_.operation == Operation::moments ? inputs_of_moments(train) : train);

    bnorm_backward_args backward = BNORM_BACKWARD_ARGS_INIT;
    common(backward);
    backward.residual = set.residual.data();
    backward.dy = set.dy.data();
    if (row_.frozen) {
      backward.running_mean = running_mean_.data();
      backward.running_var = running_var_.data();
    } else {
      backward.mean = mean_.data();
      backward.inv_std = inv_std_.data();
    }
    backward.weights = weights_.data();
    backward.lengths = train.lengths;
    backward.mask = set.mask.data();
    backward.renorm_r = renorm_r_.data();
    backward.renorm_d = renorm_d_.data();
    backward.dx = set.dx.data();
    backward.dresidual = set.dresidual.data();
    if (row_.ranks > 1) backward.exchange = &exchange_;
    if (wants_params(row_)) {
      backward.dscale = dscale_.data();
      backward.dshift = dshift_.data();
    }
    backward_.push_back(backward);

    bnorm_normalize_args normalize = BNORM_NORMALIZE_ARGS_INIT;
    normalize.x = set.x.data();
    normalize.residual = set.residual.data();
    normalize.y = set.y.data();
    normalize.mask = set.mask.data();
    normalize.coefficients = coefficients_.data();
    normalize.executor = executor;
    normalize_.push_back(normalize);
    fold_.push_back(layer_of(set));
  }
  bnorm_prepare_args prepare = BNORM_PREPARE_ARGS_INIT;
  prepare.running_mean = running_mean_.data();
  prepare.running_var = running_var_.data();
  prepare.scale = scale_.data();
  prepare.shift = shift_.data();
  require_ok(bnorm_prepare(plan_, &prepare, coefficients_.data()), "bnorm_prepare");
}

/// Backward takes the saved statistics, and with an activation behind a residual perhaps the output or the mask, of a
/// forward call; frozen, of inference.
void Case::save_forward() {
  for (size_t i = 0; i < sets_.size(); ++i) {
    const Buffer unused_y(needs_y(row_) ? 0 : memory_bytes(row_, row_.output_dtype));
    bnorm_infer_args infer = infer_[i];
    bnorm_train_args train = train_[i];
    if (!needs_y(row_)) infer.y = train.y = unused_y.data();
    if (!row_.frozen)
      require_ok(bnorm_train(plan_, &train), "bnorm_train");
    else if (needs_y(row_) || row_.from_mask)
      require_ok(bnorm_infer(plan_, &infer), "bnorm_infer");
  }
}

/// Hands use() the timed call, a function of the set's index that returns the status.
template <class Use>
void Case::with_call(const Use& use) {
  switch (row_.operation) {
    case Operation::infer:
      return use([this](size_t i) { return bnorm_infer(plan_, &infer_[i]); });
    case Operation::prepared:
      return use([this](size_t i) { return bnorm_normalize(plan_, &normalize_[i]); });
    case Operation::train:
      return use([this](size_t i) { return bnorm_train(plan_, &train_[i]); });
    case Operation::backward:
      return use([this](size_t i) { return bnorm_backward(plan_, &backward_[i]); });
    case Operation::moments:
      return use([this](size_t i) { return bnorm_moments(plan_, &train_[i], partials_.data()); });
    case Operation::sums:
      return use([this](size_t i) { return bnorm_backward_sums(plan_, &backward_[i], partials_.data()); });
    case Operation::fold:
      return use([this](size_t i) { return bnorm_fold(plan_, &fold_[i]); });
    case Operation::simple:
      return use([this](size_t i) {
        const auto data = [](const Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); };
        const auto [batch, channels, spatial] = row_.shape;
        return bnorm_infer_f32(batch, channels, spatial, data(sets_[i].x), data(sets_[i].y), data(scale_), data(shift_),
                               data(running_mean_), data(running_var_), kEpsilon);
      });
  }
}

/// Runs call() where the row's threads are found.
template <class Call>
void Case::in_threads(const Call& call) const {
  if (row_.threads == 1 && row_.operation != Operation::simple) return call();
  tbb::task_arena(row_.threads).execute(call);
}

void Case::call_once() {
  with_call([&](const auto& call) { in_threads([&] { require_ok(call(0), operation_name(row_)); }); });
}

void Case::time(benchmark::State& state) {
  with_call([&](const auto& call) {
    in_threads([&] {
      bnorm_status status = BNORM_OK;
      const auto call_next = [&] { status |= call(traffic_.turns->next()); };
      warm_up(call_next);
      for (auto _ : state) call_next();
      require_ok(status, operation_name(row_));
    });
  });
}

double Case::output(int64_t position) const {
  const auto [batch, channels, spatial] = row_.shape;
  const int64_t s = position % spatial;
  const int64_t c = position / spatial % channels;
  const int64_t n = position / spatial / channels;
  const TensorSet& set = sets_.front();
  const Buffer& buffer = is_backward(row_) ? set.dx : set.y;
  const Dtype dtype = is_backward(row_) ? row_.dtype : row_.output_dtype;
  return read_element(buffer.data(), dtype, memory_index(row_, n / batch, n % batch, c, s));
}

}  // namespace bnorm_bench
