// SPDX-License-Identifier: Apache-2.0
#include "run.hh"

#include <limits>

namespace bnorm {

void load_values(const void* from, int64_t begin, int64_t count, bool f64, double* to) {
  for (int64_t i = 0; i < count; ++i)
    to[i] = f64 ? static_cast<const double*>(from)[begin + i]
                : static_cast<double>(static_cast<const float*>(from)[begin + i]);
}

void store_values(void* to, int64_t begin, int64_t count, bool f64, const double* from) {
  for (int64_t i = 0; i < count; ++i)
    if (f64)
      static_cast<double*>(to)[begin + i] = from[i];
    else
      static_cast<float*>(to)[begin + i] = static_cast<float>(from[i]);
}

Tile Run::tile(const Piece& p) const {
  Tile t;
  t.order = order;
  t.channels = channels();
  t.c0 = p.c0;
  t.c1 = p.c1;
  t.b0 = t.b1 = t.begin = t.end = 0;
  for (int i = 0; i < kTensors; ++i) {
    const bnorm_strides& s = strides_of(desc(), static_cast<Tensor>(i));
    void* const data = call.tensor[i];
    t.tensor[i] = {data ? static_cast<char*>(data) + p.g * s.g * plan.element_bytes() : nullptr, s.n, s.c, s.s};
  }
  void* coefficient[kCoefficients];
  coefficients_at(p.g, 0, coefficient);
  for (int k = 0; k < kCoefficients; ++k) t.coefficient[k] = coefficient[k];
  t.lower = desc().activation == BNORM_RELU ? 0.0 : std::numeric_limits<double>::quiet_NaN();
  t.stream = streams();
  t.mean = t.first = t.second = nullptr;
  if (!w.first) return t;  // prepared inference needs no reductions
  t.mean = w.saved_mean + p.g * channels();
  t.first = w.first + p.g * group_stride();
  t.second = w.second + p.g * group_stride();
  return t;
}

}  // namespace bnorm
