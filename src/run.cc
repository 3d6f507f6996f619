// SPDX-License-Identifier: Apache-2.0
#include "run.hh"

#include <algorithm>

namespace bnorm {

namespace {

// From this traffic on, outputs go around the caches: they would only be evicted again, and every line of theirs would
// be fetched first. On one thread training takes 0.62 of the time at 80 MB (50 x 64 x 3136 planar), and 0.70 at 26 MB
// (16 x 64 x 3136) where something else used the caches in between; where nothing did, up to 1.06.
// With a pass over y behind every call, from 3 MB on instead of 16 inference and training take 1.12 to 1.8 of the time,
// though without it down to 0.74 (8 x 64 x 784): benchmarks would choose that, programs not (Xeon, 300 MB of caches).
// There streaming and the pass take 1.0 to 1.15 at 26 MB, 0.96 to 0.82 at 80 MB and above.
constexpr int64_t kStreamedBytes = int64_t{16} << 20;

template <class To, class From>
void convert(const From* from, int64_t count, To* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

}  // namespace

void load_values(const void* from, int64_t begin, int64_t count, bool f64, double* to) {
  if (f64)
    convert(static_cast<const double*>(from) + begin, count, to);
  else
    convert(static_cast<const float*>(from) + begin, count, to);
}

void store_values(void* to, int64_t begin, int64_t count, bool f64, const double* from) {
  if (f64)
    convert(from, count, static_cast<double*>(to) + begin);
  else
    convert(from, count, static_cast<float*>(to) + begin);
}

Run::Run(const Plan& p, Call& c, void* memory) : plan(p), call(c), order(make_order(c.batch, p.desc.spatial)) {
  if (memory) w = map_workspace(p, memory);
  if (statistics_in_place()) {
    w.saved_mean = static_cast<double*>(call.mean);
    w.saved_inv_std = static_cast<double*>(call.inv_std);
  }
  weights = call.lengths ? w.weights : call.weights;
  int64_t all = 0, widest = 0;  // bytes of an element
  for (int i = 0; i < kTensors; ++i) {
    if (!call.tensor[i]) continue;
    all += plan.element_bytes(i);
    widest = std::max(widest, plan.element_bytes(i));
  }
  const int64_t of_channel = order.batch * order.spatial;
  bytes = desc().groups * channels() * of_channel * all;
  bytes_per_channel = 2 * of_channel * widest;
}

View Run::weights_of(int64_t g) const {
  const int64_t from = weight_group(g) * desc().batch * order.spatial;
  return {const_cast<void*>(advance(weights, from, plan.arithmetic_bytes())), order.spatial, 0, 1,
          plan.arithmetic == 0 ? kF32 : kF64};
}

Tile Run::tile(const Piece& p, Family family, const Form& form) const {
  Tile t;
  t.order = order;
  t.channels = channels();
  t.c0 = p.c0;
  t.c1 = p.c1;
  t.b0 = t.b1 = t.begin = t.end = 0;
  t.family = family;
  t.form = &form;
  const auto view = [&](Tensor i) {
    View v = plan.view[i];
    if (call.tensor[i]) v.data = static_cast<char*>(call.tensor[i]) + p.g * plan.group_bytes[i];
    return v;
  };
  const Tensor any = call.tensor[kX] ? kX : kDy;
  const auto read = [&](Tensor i) { return view(call.tensor[i] ? i : any); };
  t.tensor[kX] = read(form.from_output ? kY : kX);
  if (call.tensor[kDy]) {
    t.tensor[kOther] = read(plan.other);
    for (const Tensor i : {kDy, kDx, kDresidual}) t.tensor[i] = view(i);
  } else {
    t.tensor[kResidual] = read(kResidual);
    t.tensor[kY] = view(kY);
  }
  // Of one sample the distance to the next may be anything, and fetching ahead makes addresses of it.
  if (order.batch == 1 && desc().batch > 1)
    for (View& v : t.tensor) v.n = channels() * order.spatial;
  t.tensor[kWeights] = weights ? weights_of(p.g) : View{};
  t.tensor[kMask] = call.mask ? plan.mask() : View{};
  if (call.mask) t.tensor[kMask].data = static_cast<char*>(call.mask) + p.g * plan.mask_group_bytes();
  coefficients_at(p.g, 0, t.coefficient);
  t.l1_bytes = plan.l1_bytes;
  t.l2_bytes = 2 * plan.tile_bytes;
  t.in_l2 = bytes <= t.l2_bytes;
  t.in_memory = bytes >= kStreamedBytes;
  t.from_memory = false;
  t.mean = t.inv_std = t.count = t.first = t.second = nullptr;
  if (!w.first) return t;  // inference needs no reductions
  t.mean = w.saved_mean + p.g * channels();
  t.inv_std = w.saved_inv_std + p.g * channels();
  if (weights) t.count = w.block_weight + weight_group(p.g) * blocks();
  t.first = w.first + p.g * group_stride();
  t.second = w.second + p.g * group_stride();
  return t;
}

}  // namespace bnorm
