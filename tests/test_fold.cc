// SPDX-License-Identifier: Apache-2.0
// Folding: the folded layer does what layer and normalization did, to the roundings of its types, and says what it
// lost.
#include <doctest/doctest.h>
#include <bnorm/bnorm.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "isas.hh"
#include "plan.hh"
#include "random.hh"
#include "refusal.hh"
#include "tensor.hh"

namespace bnorm_tests::test_fold {
namespace {

/// How a layer's weights lie in memory; kGaps: OIHW with elements between outputs, kTurned: its taps from the end.
enum class Order { kOiHw, kOHwI, kHwIo, kIoHw, kGaps, kTurned };
constexpr Order kOrders[] = {Order::kOiHw, Order::kOHwI, Order::kHwIo, Order::kIoHw, Order::kGaps, Order::kTurned};

struct Layer {
  bnorm_fold_order order = BNORM_LAYER_FIRST;
  int64_t outputs = 6, inputs = 5, taps = 9, groups = 1;
  Order memory = Order::kOiHw;
  bnorm_type weight = BNORM_F32, bias = BNORM_F32;
  bool has_bias = true;

  int64_t channels() const { return order == BNORM_LAYER_FIRST ? outputs : inputs * groups; }
  Shape shape() const { return {1, outputs, inputs, taps}; }
  /// n: output, c: input, s: tap.
  bnorm_strides strides() const {
    switch (memory) {
      case Order::kOHwI:
        return {0, taps * inputs, 1, inputs};
      case Order::kHwIo:
        return {0, 1, outputs, inputs * outputs};
      case Order::kIoHw:
        return {0, taps, outputs * taps, 1};
      case Order::kGaps:
        return {0, inputs * taps + 3, taps, 1};
      case Order::kTurned:
        return {0, inputs * taps, taps, -1};
      default:
        return {0, inputs * taps, taps, 1};
    }
  }
};

/// A layer with random weights, statistics and parameters.
class Fold {
 public:
  explicit Fold(const Layer& layer, double mean = 0.5, double scale_size = 1, Placement placement = Placement::kHeap)
      : layer_(layer),
        weight_(layer.weight, layer.shape(), layer.strides(), placement, 0),
        folded_weight_(layer.weight, layer.shape(), layer.strides(), placement, 0),
        bias_(layer.bias, static_cast<size_t>(layer.outputs), placement, 0),
        folded_bias_(layer.bias, static_cast<size_t>(layer.outputs), placement, 0) {
    Random random(7);
    const auto floats = [&](int64_t count, double center, double size) {
      const std::vector<float> v = normals<float>(random, count, center, size);
      return std::vector<double>(v.begin(), v.end());
    };
    weight_.fill(floats(layer.shape().elements(), 0, 1));
    bias_.fill(layer.has_bias ? floats(layer.outputs, 0, 1) : std::vector<double>(static_cast<size_t>(layer.outputs)));
    given_weight_ = weight_.values();
    given_bias_ = bias_.values();
    mean_ = floats(layer.channels(), mean, 0.1);
    scale_ = floats(layer.channels(), scale_size, 0.1 * scale_size);
    shift_ = floats(layer.channels(), 0, scale_size);
    for (int64_t c = 0; c < layer.channels(); ++c) inv_std_.push_back(1 + random.uniform());
    v_ = floats(layer.inputs * layer.groups * layer.taps, 1, 1);
  }

  bnorm_status run(bool in_place = false, double most = 2) {
    bnorm_desc d = BNORM_DESC_INIT;
    d.channels = layer_.channels();
    d.param_type = BNORM_F64;
    bnorm_fold_args a = BNORM_FOLD_ARGS_INIT;
    a.order = layer_.order;
    a.weight_type = layer_.weight;
    a.bias_type = layer_.bias;
    a.outputs = layer_.outputs;
    a.inputs = layer_.inputs;
    a.taps = layer_.taps;
    a.layer_groups = layer_.groups;
    if (const bnorm_strides t = layer_.strides(); layer_.memory != Order::kOiHw)
      a.output_stride = t.n, a.input_stride = t.c, a.tap_stride = t.s;
    a.weight = weight_.data();
    a.bias = layer_.has_bias ? bias_.data() : nullptr;
    a.folded_weight = in_place ? weight_.data() : folded_weight_.data();
    a.folded_bias = in_place ? bias_.data() : folded_bias_.data();
    a.mean = mean_.data();
    a.inv_std = inv_std_.data();
    a.scale = scale_.data();
    a.shift = shift_.data();
    a.most_digits_lost = most;
    a.digits_lost = &digits_lost;
    return bnorm_fold(make_plan(d).get(), &a);
  }

  /// Every output of the folded layer against layer and normalization in f64, within the roundings of its elements; and
  /// nothing beside the elements written.
  void check() {
    const std::vector<double> fw = folded_weight_.values(), fb = folded_bias_.values();
    const bool first = layer_.order == BNORM_LAYER_FIRST;
    for (int64_t o = 0; o < layer_.outputs; ++o) {
      double expected = given_bias_[static_cast<size_t>(o)], actual = fb[static_cast<size_t>(o)];
      double bound = std::fabs(actual) * roundoff(layer_.bias);
      each_weight(o, [&](size_t at, size_t c, size_t tap) {
        const double v = v_[c * static_cast<size_t>(layer_.taps) + tap];
        expected += given_weight_[at] * (first ? v : normalized(v, c));
        actual += fw[at] * v;
        bound += std::fabs(fw[at] * v) * roundoff(layer_.weight);
      });
      if (first) expected = normalized(expected, static_cast<size_t>(o));
      INFO("output ", o, ": ", actual, ", expected ", expected);
      CHECK(std::fabs(actual - expected) <= bound * (1 + 0x1p-8) + 0x1p-40);
    }
    CHECK(folded_weight_.gaps_intact());
    CHECK(folded_bias_.surroundings_intact());
    CHECK(weight_.is_unchanged());
    CHECK(bias_.values() == given_bias_);
  }
  /// The weights in the order (output, input, tap), and the biases: by the formulas of bnorm_fold, in that order.
  std::vector<double> expected() const {
    const bool first = layer_.order == BNORM_LAYER_FIRST;
    const auto gain = [&](size_t c) { return scale_[c] * inv_std_[c]; };
    const auto offset = [&](size_t c) { return shift_[c] - mean_[c] * gain(c); };
    std::vector<double> weights, biases;
    for (int64_t o = 0; o < layer_.outputs; ++o) {
      const auto own = static_cast<size_t>(o);
      double bias = first ? given_bias_[own] * gain(own) + offset(own) : given_bias_[own];
      each_weight(o, [&](size_t at, size_t c, size_t) {
        if (!first) bias += given_weight_[at] * offset(c);
        weights.push_back(rounded(layer_.weight, given_weight_[at] * gain(first ? own : c)));
      });
      biases.push_back(rounded(layer_.bias, bias));
    }
    weights.insert(weights.end(), biases.begin(), biases.end());
    return weights;
  }
  std::vector<double> folded() const { return both(folded_weight_, folded_bias_); }
  std::vector<double> in_place() const { return both(weight_, bias_); }
  void set_inv_std(double value) { inv_std_[0] = value; }

  double digits_lost = -1;

 private:
  /// Calls visit(weight, channel of the input, tap) in the order (input, tap).
  template <class Visit>
  void each_weight(int64_t o, Visit visit) const {
    const int64_t first_input = o / (layer_.outputs / layer_.groups) * layer_.inputs;
    for (int64_t i = 0; i < layer_.inputs; ++i)
      for (int64_t t = 0; t < layer_.taps; ++t)
        visit(static_cast<size_t>((o * layer_.inputs + i) * layer_.taps + t), static_cast<size_t>(first_input + i),
              static_cast<size_t>(t));
  }
  double normalized(double v, size_t c) const { return (v - mean_[c]) * inv_std_[c] * scale_[c] + shift_[c]; }
  static std::vector<double> both(const Tensor& a, const Array& b) {
    std::vector<double> r = a.values();
    for (const double v : b.values()) r.push_back(v);
    return r;
  }

  Layer layer_;
  Tensor weight_, folded_weight_;
  Array bias_, folded_bias_;
  std::vector<double> given_weight_, given_bias_, mean_, inv_std_, scale_, shift_, v_;
};

}  // namespace

TEST_CASE("fold: the folded layer does what both did") {
  for (const bnorm_fold_order order : {BNORM_LAYER_FIRST, BNORM_LAYER_LAST})
    for (const Order memory : kOrders)
      for (const int64_t groups : {1, 2, 6})
        for (const bnorm_type weight : {BNORM_F32, BNORM_BF16, BNORM_F16, BNORM_F64})
          for (const bnorm_type bias : {bnorm_type{BNORM_F32}, weight}) {
            INFO("order ", order, " memory ", static_cast<int>(memory), " groups ", groups, " types ", weight, bias);
            Layer layer;
            layer.order = order;
            layer.memory = memory;
            layer.groups = groups;
            layer.inputs = groups == 6 ? 1 : 5;  // depthwise
            layer.weight = weight;
            layer.bias = bias;
            Fold fold(layer), again(layer);
            REQUIRE(fold.run() == BNORM_OK);
            fold.check();
            CHECK(fold.digits_lost < 1);
            REQUIRE(again.run(true) == BNORM_OK);
            CHECK(again.in_place() == fold.folded());
          }
}

TEST_CASE("fold: the bits of the formulas, of more than is folded together, to the last byte of memory") {
  struct Sizes {
    int64_t outputs, inputs, taps, groups;
  };
  const auto check = [](const Layer& layer, Placement placement) {
    INFO("order ", layer.order, " type ", layer.weight, " outputs ", layer.outputs, " inputs ", layer.inputs, " taps ",
         layer.taps, " groups ", layer.groups, " memory ", static_cast<int>(layer.memory), " bias ", layer.has_bias,
         " placement ", static_cast<int>(placement));
    Fold fold(layer, 0.5, 1, placement), again(layer, 0.5, 1, placement);
    REQUIRE(fold.run() == BNORM_OK);
    fold.check();
    CHECK(fold.folded() == fold.expected());
    REQUIRE(again.run(true) == BNORM_OK);
    CHECK(again.in_place() == fold.folded());
    CHECK(again.digits_lost == fold.digits_lost);
  };
  for (const bnorm_fold_order order : {BNORM_LAYER_FIRST, BNORM_LAYER_LAST})
    for (const bnorm_type type : {BNORM_F32, BNORM_F64, BNORM_BF16, BNORM_F16})
      for (const Sizes& sizes : {Sizes{40, 30, 9, 1}, Sizes{40, 15, 9, 2}, Sizes{17, 3, 130, 1}, Sizes{20, 1, 9, 20},
                                 Sizes{3, 300, 1, 1}, Sizes{16, 128, 1, 1}})
        for (const Order memory : kOrders)
          for (const bool has_bias : {false, true})
            check({order, sizes.outputs, sizes.inputs, sizes.taps, sizes.groups, memory, type, type, has_bias},
                  has_bias ? Placement::kPageEnd : Placement::kPageStart);
}

TEST_CASE("fold: the digits lost are the same from any layout") {
  for (const bnorm_fold_order order : {BNORM_LAYER_FIRST, BNORM_LAYER_LAST})
    for (const bnorm_type type : {BNORM_F32, BNORM_BF16}) {
      double first = -1;
      for (const Order memory : kOrders) {
        Fold fold({order, 40, 30, 9, 1, memory, type, type, true}, 100);
        REQUIRE(fold.run(false, 5) == BNORM_OK);
        CHECK(fold.digits_lost > 1);
        if (first < 0) first = fold.digits_lost;
        CHECK(fold.digits_lost == first);
      }
    }
}

TEST_SUITE("isa") {
  TEST_CASE("fold: the same bits on every ISA") {
    for (const bnorm_fold_order order : {BNORM_LAYER_FIRST, BNORM_LAYER_LAST})
      for (const bnorm_type weight : {BNORM_F32, BNORM_BF16, BNORM_F16, BNORM_F64}) {
        Layer layer;
        layer.order = order;
        layer.weight = weight;
        layer.bias = weight == BNORM_F64 ? BNORM_F16 : BNORM_F32;
        std::vector<double> first;
        for (const std::string& isa : isas()) {
          INFO(isa, " order ", order, " weight ", weight);
          const IsaScope scope(isa);
          Fold fold(layer);
          REQUIRE(fold.run() == BNORM_OK);
          fold.check();
          if (first.empty()) first = fold.folded();
          CHECK(fold.folded() == first);
        }
      }
  }
}

TEST_CASE("fold: digits lost are told, and too many refused") {
  Layer layer;
  SUBCASE("layer first") {}
  SUBCASE("layer last") { layer.order = BNORM_LAYER_LAST; }
  Fold far(layer, 1e5);
  check_refusal(far.run(), BNORM_INVALID_ARGUMENT, nullptr, {"digits_lost = ", "output", "most_digits_lost = 2"});
  CHECK(far.digits_lost == -1);
  const std::vector<double> untouched = Fold(layer).folded();
  CHECK(far.folded() == untouched);
  REQUIRE(far.run(false, 8) == BNORM_OK);
  far.check();
  // A mean of 1e5 with deviations from 0.5 to 1, beside outputs of about 2.
  CHECK(far.digits_lost > 4);
  CHECK(far.digits_lost < 6.5);
}

TEST_CASE("fold: subnormal and infinite weights are lost digits") {
  Layer layer;
  layer.weight = BNORM_F16;
  layer.bias = BNORM_F32;
  Fold small(layer, 0.5, 1e-7);
  check_refusal(small.run(false, 1), BNORM_INVALID_ARGUMENT, nullptr, {"digits_lost"});
  Fold infinite(layer);
  infinite.set_inv_std(1e6);
  check_refusal(infinite.run(false, 300), BNORM_INVALID_ARGUMENT, nullptr, {"digits_lost = inf", "output 0"});
  layer.weight = BNORM_F32;
  Fold beyond_f64(layer);  // the sum of the folded weights
  beyond_f64.set_inv_std(1e307);
  check_refusal(beyond_f64.run(false, 300), BNORM_INVALID_ARGUMENT, nullptr, {"digits_lost = inf", "output 0"});
  Fold nan(layer);
  nan.set_inv_std(std::nan(""));
  check_refusal(nan.run(false, 300), BNORM_INVALID_ARGUMENT, nullptr, {"digits_lost = inf", "output 0"});
  REQUIRE(nan.run(false, HUGE_VAL) == BNORM_OK);
  CHECK(std::isnan(nan.folded()[0]));
}

TEST_CASE("fold: from running statistics, without bias and parameters") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 2;
  d.epsilon = 0;
  const float weight[] = {1, 2, 3, 4}, mean[] = {1, 8}, var[] = {4, 0};
  float folded[4], bias[2];
  bnorm_fold_args a = BNORM_FOLD_ARGS_INIT;
  a.outputs = a.inputs = 2;
  a.weight = weight;
  a.folded_weight = folded;
  a.folded_bias = bias;
  a.running_mean = mean;
  a.running_var = var;
  bnorm::Plan(d).fold(a);
  // Deviation 2, and one of 0, whose channel becomes 0.
  CHECK(folded[0] == 0.5F);
  CHECK(folded[1] == 1.0F);
  CHECK(folded[2] == 0);
  CHECK(folded[3] == 0);
  CHECK(bias[0] == -0.5F);
  CHECK(bias[1] == 0);
}

TEST_CASE("fold: a layer without inputs or taps keeps its bias") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 2;
  d.epsilon = 0;
  const PlanPointer plan = make_plan(d);
  const float given[] = {2, 3}, mean[] = {1, 8}, var[] = {4, 1};
  for (const bool taps : {false, true}) {
    float bias[2] = {};
    bnorm_fold_args a = BNORM_FOLD_ARGS_INIT;
    a.outputs = 2;
    a.inputs = taps ? 2 : 0;
    a.taps = taps ? 0 : 2;
    a.bias = given;
    a.folded_bias = bias;
    a.running_mean = mean;
    a.running_var = var;
    CHECK(bnorm_fold(plan.get(), &a) == BNORM_OK);
    CHECK(bias[0] == 0.5F);
    CHECK(bias[1] == -5);
    if (!taps) continue;
    a.inputs = INT64_C(1) << 50;  // takes no time
    CHECK(bnorm_fold(plan.get(), &a) == BNORM_OK);
  }
}

TEST_CASE("fold: strides of axes of one element may be anything") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 2;
  d.epsilon = 0;
  const PlanPointer plan = make_plan(d);
  const float weight[] = {3, -5}, mean[] = {1, 8}, var[] = {4, 1};
  float folded[2] = {}, bias[2] = {};
  bnorm_fold_args a = BNORM_FOLD_ARGS_INIT;
  a.outputs = 2;
  a.inputs = a.taps = 1;
  a.output_stride = 1;
  a.input_stride = INT64_MIN;
  a.tap_stride = INT64_MAX;
  a.weight = weight;
  a.folded_weight = folded;
  a.folded_bias = bias;
  a.running_mean = mean;
  a.running_var = var;
  REQUIRE(bnorm_fold(plan.get(), &a) == BNORM_OK);
  CHECK(folded[0] == 1.5F);
  CHECK(folded[1] == -5);
  CHECK(bias[0] == -0.5F);
  CHECK(bias[1] == -8);
}

TEST_CASE("fold: refusals") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 2;
  const PlanPointer plan = make_plan(d);
  d.groups = 2;
  const PlanPointer grouped = make_plan(d);
  float weight[8] = {1, 2, 3, 4}, bias[2] = {}, mean[2] = {}, var[2] = {1, 1};
  const auto refused = [&](auto change, bnorm_status status, std::initializer_list<const char*> words,
                           const bnorm_plan* with) {
    bnorm_fold_args a = BNORM_FOLD_ARGS_INIT;
    bnorm_error error = BNORM_ERROR_INIT;
    a.outputs = a.inputs = 2;
    a.weight = a.folded_weight = weight;
    a.bias = a.folded_bias = bias;
    a.running_mean = mean;
    a.running_var = var;
    a.error = &error;
    change(a);
    const std::vector<float> before(weight, weight + 8);
    check_refusal(bnorm_fold(with, &a), status, &error, words);
    CHECK(std::equal(before.begin(), before.end(), weight));
  };
  const auto invalid = [&](auto change, std::initializer_list<const char*> words) {
    refused(change, BNORM_INVALID_ARGUMENT, words, plan.get());
  };
  using Args = bnorm_fold_args;
  refused([](Args&) {}, BNORM_UNSUPPORTED, {"groups = 2"}, grouped.get());
  refused([](Args&) {}, BNORM_INVALID_ARGUMENT, {"plan = NULL"}, nullptr);
  invalid([](Args& a) { a.order = 2; }, {"order = 2"});
  invalid([](Args& a) { a.weight_type = 9; }, {"weight_type = 9"});
  invalid([](Args& a) { a.bias_type = -1; }, {"bias_type = -1"});
  invalid([](Args& a) { a.outputs = 3; }, {"outputs = 3", "channels, 2"});
  invalid([](Args& a) { a.order = BNORM_LAYER_LAST, a.inputs = 3; }, {"inputs * layer_groups = 3", "channels, 2"});
  invalid([](Args& a) { a.inputs = -1; }, {"inputs = -1"});
  invalid([](Args& a) { a.taps = INT64_C(1) << 52; }, {"outputs * inputs * taps"});
  invalid([](Args& a) { a.layer_groups = 0; }, {"layer_groups = 0"});
  invalid([](Args& a) { a.order = BNORM_LAYER_LAST, a.layer_groups = 2, a.inputs = 1, a.outputs = 3; },
          {"layer_groups = 2", "outputs = 3"});
  invalid([](Args& a) { a.output_stride = 1, a.input_stride = 1; }, {"weight strides = (1, 1, 0)"});
  invalid([](Args& a) { a.output_stride = INT64_C(1) << 60, a.input_stride = 1; }, {"weight strides", "2^58"});
  invalid([](Args& a) { a.most_digits_lost = -1; }, {"most_digits_lost = -1"});
  invalid([](Args& a) { a.most_digits_lost = std::nan(""); }, {"most_digits_lost = nan"});
  invalid([](Args& a) { a.weight = nullptr; }, {"weight = NULL"});
  invalid([](Args& a) { a.folded_bias = nullptr; }, {"folded_bias = NULL"});
  invalid([&](Args& a) { a.folded_weight = weight + 1; }, {"folded_weight", "overlaps weight"});
  invalid([&](Args& a) { a.folded_bias = mean; }, {"folded_bias", "overlaps running_mean"});
  invalid([&](Args& a) { a.mean = mean; }, {"exactly one pair"});
  bnorm_desc between = BNORM_DESC_INIT;
  between.channels = 2;
  between.activation = BNORM_RELU;
  refused([](Args& a) { a.order = BNORM_LAYER_LAST; }, BNORM_INVALID_ARGUMENT, {"order = 1", "activation = 1"},
          make_plan(between).get());
  between.activation = BNORM_IDENTITY;
  between.renorm = 1;
  const double saved[2] = {};
  refused([&](Args& a) { a.running_mean = a.running_var = nullptr, a.mean = a.inv_std = saved; },
          BNORM_INVALID_ARGUMENT, {"mean = ", "renorm = 1"}, make_plan(between).get());
  Args old = BNORM_FOLD_ARGS_INIT;
  old.struct_size = 8;
  check_refusal(bnorm_fold(plan.get(), &old), BNORM_INVALID_ARGUMENT, nullptr, {"struct_size = 8"});
}

}  // namespace bnorm_tests::test_fold
