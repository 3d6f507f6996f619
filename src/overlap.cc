// SPDX-License-Identifier: Apache-2.0
#include "overlap.hh"

#include <algorithm>
#include <cstdlib>

namespace bnorm {
namespace {

struct Axis {
  int64_t size, stride;
};

std::array<Axis, 4> axes_of(const bnorm_strides& t, const std::array<int64_t, 4>& sizes) {
  return {{{sizes[0], t.g}, {sizes[1], t.n}, {sizes[2], t.c}, {sizes[3], t.s}}};
}

bool same_tensor(const Region& a, const Region& b, const int64_t (&sizes)[4]) {
  if (a.data != b.data || !a.strides || !b.strides) return false;
  const auto s = axes_of(*a.strides, {sizes[0], sizes[1], sizes[2], sizes[3]});
  const auto t = axes_of(*b.strides, {sizes[0], sizes[1], sizes[2], sizes[3]});
  for (size_t i = 0; i < 4; ++i)
    if (s[i].size > 1 && s[i].stride != t[i].stride) return false;
  return true;
}

bool is_dense(const Extent& e) { return e.high - e.low + 1 == e.count; }

}  // namespace

Extent extent_of(const bnorm_strides& strides, const std::array<int64_t, 4>& sizes) {
  constexpr int64_t most = int64_t{1} << 58;
  Extent e = {0, 0, 1, true, true};
  auto axes = axes_of(strides, sizes);
  for (Axis& a : axes) {
    a.size = std::max<int64_t>(a.size, 1);
    e.count *= a.size;
    int64_t reach;
    if (a.size == 1) a.stride = 0;
    if (a.stride < -most || a.stride > most || __builtin_mul_overflow(a.size - 1, a.stride, &reach) || reach < -most ||
        reach > most)
      return {0, 0, e.count, false, false};
    (reach < 0 ? e.low : e.high) += reach;
  }
  e.addressable = e.high - e.low < most;
  std::sort(axes.begin(), axes.end(), [](Axis a, Axis b) { return std::abs(a.stride) < std::abs(b.stride); });
  int64_t covered = 1;
  for (const Axis& a : axes) {
    if (a.size == 1) continue;
    e.injective = e.injective && std::abs(a.stride) >= covered;
    covered += (a.size - 1) * std::abs(a.stride);
  }
  return e;
}

bool overlaps(const Region& a, const Region& b, const int64_t (&sizes)[4]) {
  const auto* const a_data = static_cast<const char*>(a.data);
  const auto* const b_data = static_cast<const char*>(b.data);
  const char* const a_low = a_data + a.extent.low * a.element_bytes;
  const char* const a_end = a_data + (a.extent.high + 1) * a.element_bytes;
  const char* const b_low = b_data + b.extent.low * b.element_bytes;
  const char* const b_end = b_data + (b.extent.high + 1) * b.element_bytes;
  if (a_end <= b_low || b_end <= a_low) return false;
  // Two outputs are never the same tensor; two tensors of a call have the same element type.
  if (!(a.writes && b.writes) && same_tensor(a, b, sizes)) return false;
  return a_data == b_data || (is_dense(a.extent) && is_dense(b.extent));
}

}  // namespace bnorm
