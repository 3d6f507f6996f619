// SPDX-License-Identifier: Apache-2.0
#include "fold.hh"

#include <algorithm>
#include <cmath>
#include <limits>

#include "renorm.hh"
#include "run.hh"

namespace bnorm {
namespace {

/// z = v * gain + offset, of the size of `size`.
struct Channel {
  double gain, offset, size;
};

/// What one output comes to: its bias, and how many times its rounding errors exceed those of its types.
struct Output {
  double bias, loss;
};

double ratio(double error, double size) { return error == 0 ? 0 : error / size; }

/// The layer as it is to be. Elements go through the kernels' own conversions, one at a time: this is a setup call.
class Folded {
 public:
  Folded(const Plan& plan, const Call& call, const Layer& layer) : plan_(plan), call_(call), layer_(layer) {}

  Output output(int64_t o) const {
    const double bias = layer_.bias ? load(layer_.bias, layer_.bias_type, o) : 0;
    const bool first = layer_.order == BNORM_LAYER_FIRST;
    const Channel own = first ? channel(o) : Channel{1, 0, std::fabs(bias)};
    Output r = {bias * own.gain + own.offset, 0};
    double weights = 0, errors = 0, terms = std::fabs(r.bias), size = own.size;
    each_weight(o, [&](int64_t at, const Channel& c) {
      const double weight = load(layer_.weight, layer_.weight_type, at), folded = weight * c.gain;
      weights += std::fabs(folded);
      errors += std::fabs(as_element(*plan_.table, layer_.weight_type, folded) - folded);
      if (first) return;
      r.bias += weight * c.offset;
      terms += std::fabs(weight * c.offset);
      size += std::fabs(weight) * c.size;
    });
    const double bias_error =
        std::fabs(as_element(*plan_.table, layer_.bias_type, r.bias) - r.bias) / roundoff(layer_.bias_type);
    r.loss = std::max(ratio(errors, roundoff(layer_.weight_type) * weights), ratio(std::fmax(terms, bias_error), size));
    if (std::isnan(errors + terms + bias_error + r.loss)) r.loss = std::numeric_limits<double>::infinity();
    return r;
  }
  void store(int64_t o) const {
    const double bias = output(o).bias;
    each_weight(o, [&](int64_t at, const Channel& c) {
      put(layer_.folded_weight, layer_.weight_type, at, load(layer_.weight, layer_.weight_type, at) * c.gain);
    });
    put(layer_.folded_bias, layer_.bias_type, o, bias);
  }

 private:
  /// Half a unit in the last place of 1.
  static double roundoff(ElementType type) {
    constexpr double of[kElementTypes] = {0x1p-24, 0x1p-53, 0x1p-8, 0x1p-11};
    return of[type];
  }
  double load(const void* array, ElementType type, int64_t i) const {
    double value;
    plan_.table->load_params[type == kF64](array, type, i, &value, 1);
    return value;
  }
  void put(void* array, ElementType type, int64_t i, double value) const {
    constexpr double replaced = 1;
    plan_.table->blend[type == kF64](replaced, &value, 1, const_cast<void*>(advance(array, i, bytes_of(type))), type,
                                     1);
  }

  Channel channel(int64_t c) const {
    const ElementType param = plan_.param_type, stats = element_type(plan_.desc.stats_type);
    const double mean = call_.mean ? load(call_.mean, stats, c) : load(call_.running_mean, param, c);
    const double inv_std =
        call_.mean ? load(call_.inv_std, stats, c) : inverse_std(load(call_.running_var, param, c), plan_.desc.epsilon);
    double scale, shift;
    load_affine(plan_, call_, 0, c, 1, nullptr, nullptr, &scale, &shift);
    const double gain = scale * inv_std;
    return {gain, shift - mean * gain, std::fabs(scale) + std::fabs(shift)};
  }

  /// visit(element, channel) for all weights of an output.
  template <class Visit>
  void each_weight(int64_t o, const Visit& visit) const {
    const bool first = layer_.order == BNORM_LAYER_FIRST;
    const int64_t begin = first ? 0 : o / (layer_.outputs / layer_.groups) * layer_.inputs;
    Channel c = first ? channel(o) : Channel{};
    for (int64_t i = 0; i < layer_.inputs; ++i) {
      if (!first) c = channel(begin + i);
      for (int64_t t = 0; t < layer_.taps; ++t)
        visit(o * layer_.strides.n + i * layer_.strides.c + t * layer_.strides.s, c);
    }
  }

  const Plan& plan_;
  const Call& call_;
  const Layer& layer_;
};

}  // namespace

bnorm_status run_fold(const Plan& plan, Call& call, const Layer& layer) {
  const Folded folded(plan, call, layer);
  double worst = 1;
  int64_t at = 0;
  for (int64_t o = 0; o < layer.outputs; ++o)
    if (const double loss = folded.output(o).loss; loss > worst) {
      worst = loss;
      at = o;
    }
  const double digits = std::log10(worst);
  if (digits > layer.most_digits_lost)
    return call.report.say(BNORM_INVALID_ARGUMENT,
                           "digits_lost = %.3g (output %lld): must be at most most_digits_lost = %g", digits,
                           static_cast<long long>(at), layer.most_digits_lost);
  for (int64_t o = 0; o < layer.outputs; ++o) folded.store(o);
  if (layer.digits_lost) *layer.digits_lost = digits;
  return BNORM_OK;
}

}  // namespace bnorm
