// SPDX-License-Identifier: Apache-2.0
#include "fold.hh"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "renorm.hh"
#include "run.hh"

namespace bnorm {
namespace {

// Outputs, and weights of each, that are folded together: conversions are calls for runs of elements.
constexpr int64_t kOutputs = 16, kTerms = 128;
constexpr int64_t kBoxWeights = kOutputs * kTerms;

enum Axis { kOutput, kInput, kTap, kAxes };
using Sizes = std::array<int64_t, kAxes>;

/// Some of a layer's weights. Each has a place, counted densely in the order that they have in memory.
class Box {
 public:
  Box(const Layer& layer, const Sizes& first, const Sizes& sizes)
      : begin(first), count(sizes), stride_{layer.strides.n, layer.strides.c, layer.strides.s} {
    std::sort(order_.begin(), order_.end(),
              [this](Axis a, Axis b) { return std::abs(stride_[a]) < std::abs(stride_[b]); });
    int64_t places = 1;
    bool adjoin = true;
    for (const Axis a : order_) {
      adjoin = adjoin && (count[a] == 1 || stride_[a] == places);
      place_[a] = places;
      places *= count[a];
      if (adjoin) run_ = places;
    }
  }

  const Sizes begin, count;

  int64_t size() const { return count[kOutput] * count[kInput] * count[kTap]; }
  /// Calls body(place, i) for the weights of an output in the order (i, t); `o` and `i` are counted in the box.
  template <class Body>
  void each_weight(int64_t o, const Body& body) const {
    for (int64_t i = 0; i < count[kInput]; ++i)
      for (int64_t t = 0; t < count[kTap]; ++t) body(o * place_[kOutput] + i * place_[kInput] + t * place_[kTap], i);
  }
  /// Calls body(element, place, length) for runs of memory.
  template <class Body>
  void each_run(const Body& body) const {
    for (int64_t place = 0; place < size(); place += run_) {
      int64_t element = 0, rest = place;
      for (const Axis a : order_) {
        element += (begin[a] + rest % count[a]) * stride_[a];
        rest /= count[a];
      }
      body(element, place, run_);
    }
  }

 private:
  std::array<Axis, kAxes> order_ = {kTap, kInput, kOutput};  // by stride
  Sizes stride_, place_;                                     // from one to the next, in memory and in the box
  int64_t run_ = 1;
};

/// z = v * gain + offset, of the size of `size`.
struct Channels {
  double gain[kTerms], offset[kTerms], size[kTerms];
};
static_assert(kOutputs <= kTerms);

/// What one output comes to, and sums that tell its loss.
struct Output {
  double bias;
  double weights, errors;  // sizes of the weights and of their rounding errors
  double terms, size;      // sizes of the terms of the bias and of the results
};

double ratio(double error, double size) { return error == 0 ? 0 : error / size; }

/// Half a unit in the last place of 1.
double roundoff(ElementType type) {
  constexpr double of[kElementTypes] = {0x1p-24, 0x1p-53, 0x1p-8, 0x1p-11};
  return of[type];
}

/// The layer as it is to be. Elements go through the kernels' own conversions.
class Folded {
 public:
  Folded(const Plan& plan, const Call& call, const Layer& layer)
      : plan_(plan), call_(call), layer_(layer), first_(layer.order == BNORM_LAYER_FIRST) {}

  /// Calls body(o, count) for outputs that are folded together: layer last, of the same channels.
  template <class Body>
  void each_outputs(const Body& body) const {
    const int64_t alike = first_ ? layer_.outputs : layer_.outputs / layer_.groups;
    for (int64_t begins = 0; begins < layer_.outputs; begins += alike)
      for (int64_t o = begins; o < begins + alike; o += kOutputs) body(o, std::min(kOutputs, begins + alike - o));
  }
  void sum(int64_t o, int64_t count, Output* outputs) const {
    begin(o, count, outputs);
    each_box(o, count, [&](const Box& box) { add_box(box, outputs); });
  }
  /// How many times an output's rounding errors exceed those of its types.
  double loss(const Output& r) const {
    const double bias_error =
        std::fabs(as_element(*plan_.table, layer_.bias_type, r.bias) - r.bias) / roundoff(layer_.bias_type);
    const double loss = std::max(ratio(r.errors, roundoff(layer_.weight_type) * r.weights),
                                 ratio(std::fmax(r.terms, bias_error), r.size));
    return std::isnan(r.errors + r.terms + bias_error + loss) ? std::numeric_limits<double>::infinity() : loss;
  }
  void store(int64_t o, int64_t count) const {
    Output outputs[kOutputs];
    if (first_)
      begin(o, count, outputs);  // which is all of the bias
    else
      sum(o, count, outputs);
    each_box(o, count, [&](const Box& box) {
      Weights of_box;
      fold(box, &of_box);
      box.each_run([&](int64_t element, int64_t place, int64_t length) {
        put(layer_.folded_weight, layer_.weight_type, element, of_box.folded + place, length);
      });
    });
    double bias[kOutputs];
    for (int64_t j = 0; j < count; ++j) bias[j] = outputs[j].bias;
    put(layer_.folded_bias, layer_.bias_type, o, bias, count);
  }

 private:
  /// Of a box, and the channels of its outputs, layer last of its inputs.
  struct Weights {
    double given[kBoxWeights], folded[kBoxWeights];
    Channels channels;
  };

  void load(const void* array, ElementType type, int64_t i, double* to, int64_t count) const {
    plan_.table->load_params[type == kF64](array, type, i, to, count);
  }
  void put(void* array, ElementType type, int64_t i, const double* from, int64_t count) const {
    constexpr double replaced = 1;
    void* const to = const_cast<void*>(advance(array, i, bytes_of(type)));
    plan_.table->blend[type == kF64](replaced, from, 1, to, type, count);
  }

  void load_channels(int64_t c, int64_t count, Channels* channels) const {
    const ElementType param = plan_.param_type, stats = element_type(plan_.desc.stats_type);
    double mean[kTerms], spread[kTerms], shift[kTerms];  // spread: 1 / deviation, or the variance
    load(call_.mean ? call_.mean : call_.running_mean, call_.mean ? stats : param, c, mean, count);
    load(call_.mean ? call_.inv_std : call_.running_var, call_.mean ? stats : param, c, spread, count);
    load_affine(plan_, call_, 0, c, count, nullptr, nullptr, channels->gain, shift);
    for (int64_t i = 0; i < count; ++i) {
      const double scale = channels->gain[i];
      channels->gain[i] = scale * (call_.mean ? spread[i] : inverse_std(spread[i], plan_.desc.epsilon));
      channels->offset[i] = shift[i] - mean[i] * channels->gain[i];
      channels->size[i] = std::fabs(scale) + std::fabs(shift[i]);
    }
  }

  /// Outputs without the weights' part.
  void begin(int64_t o, int64_t count, Output* outputs) const {
    double bias[kOutputs] = {};
    if (layer_.bias) load(layer_.bias, layer_.bias_type, o, bias, count);
    Channels own;
    if (first_) load_channels(o, count, &own);
    for (int64_t j = 0; j < count; ++j) {
      const double of_bias = bias[j] * (first_ ? own.gain[j] : 1) + (first_ ? own.offset[j] : 0);  // 0, never -0
      outputs[j] = {of_bias, 0, 0, std::fabs(of_bias), first_ ? own.size[j] : std::fabs(of_bias)};
    }
  }

  /// Calls body(box) for all weights of some outputs, in the order (i, t).
  template <class Body>
  void each_box(int64_t o, int64_t count, const Body& body) const {
    if (layer_.taps == 0) return;  // however many inputs
    const int64_t taps = std::min(layer_.taps, kTerms), inputs = kTerms / taps;
    for (int64_t i = 0; i < layer_.inputs; i += inputs)
      for (int64_t t = 0; t < layer_.taps; t += taps)
        body(Box(layer_, {o, i, t}, {count, std::min(inputs, layer_.inputs - i), std::min(taps, layer_.taps - t)}));
  }
  void fold(const Box& box, Weights* of_box) const {
    box.each_run([&](int64_t element, int64_t place, int64_t length) {
      load(layer_.weight, layer_.weight_type, element, of_box->given + place, length);
    });
    if (first_) {
      load_channels(box.begin[kOutput], box.count[kOutput], &of_box->channels);
    } else {
      const int64_t begin = box.begin[kOutput] / (layer_.outputs / layer_.groups) * layer_.inputs;
      load_channels(begin + box.begin[kInput], box.count[kInput], &of_box->channels);
    }
    for (int64_t o = 0; o < box.count[kOutput]; ++o)
      box.each_weight(o, [&](int64_t place, int64_t i) {
        of_box->folded[place] = of_box->given[place] * of_box->channels.gain[first_ ? o : i];
      });
  }
  void add_box(const Box& box, Output* outputs) const {
    Weights of_box;
    double elements[kBoxWeights], rounded[kBoxWeights];  // elements: of any type
    std::fill_n(elements, box.size(), 0);
    fold(box, &of_box);
    put(elements, layer_.weight_type, 0, of_box.folded, box.size());
    load(elements, layer_.weight_type, 0, rounded, box.size());
    for (int64_t o = 0; o < box.count[kOutput]; ++o) {
      Output r = outputs[o];
      box.each_weight(o, [&](int64_t place, int64_t i) {
        const double weight = of_box.given[place], folded = of_box.folded[place];
        r.weights += std::fabs(folded);
        r.errors += std::fabs(rounded[place] - folded);
        if (first_) return;
        const double term = weight * of_box.channels.offset[i];
        r.bias += term;
        r.terms += std::fabs(term);
        r.size += std::fabs(weight) * of_box.channels.size[i];
      });
      outputs[o] = r;
    }
  }

  const Plan& plan_;
  const Call& call_;
  const Layer& layer_;
  const bool first_;
};

}  // namespace

bnorm_status run_fold(const Plan& plan, Call& call, const Layer& layer) {
  const Folded folded(plan, call, layer);
  double worst = 1;
  int64_t at = 0;
  folded.each_outputs([&](int64_t o, int64_t count) {
    Output outputs[kOutputs];
    folded.sum(o, count, outputs);
    for (int64_t j = 0; j < count; ++j)
      if (const double loss = folded.loss(outputs[j]); loss > worst) {
        worst = loss;
        at = o + j;
      }
  });
  const double digits = std::log10(worst);
  if (digits > layer.most_digits_lost)
    return call.report.say(BNORM_INVALID_ARGUMENT,
                           "digits_lost = %.3g (output %lld): must be at most most_digits_lost = %g", digits,
                           static_cast<long long>(at), layer.most_digits_lost);
  folded.each_outputs([&](int64_t o, int64_t count) { folded.store(o, count); });
  if (layer.digits_lost) *layer.digits_lost = digits;
  return BNORM_OK;
}

}  // namespace bnorm
