// SPDX-License-Identifier: Apache-2.0
#include "overlap.hh"

#include <cstdlib>
#include <utility>

namespace bnorm {
namespace {

struct Axis {
  int64_t size, stride;
};

/// The axes of more than one element.
struct Axes {
  Axis axis[4];
  int count = 0;

  Axes(const bnorm_strides& t, const std::array<int64_t, 4>& sizes) {
    const int64_t strides[4] = {t.s, t.c, t.n, t.g};
    for (size_t i = 0; i < 4; ++i)
      if (sizes[3 - i] > 1) axis[count++] = {sizes[3 - i], strides[i]};
  }
};

/// Sorts by the size of strides; already sorted, as most layouts are, it costs three comparisons.
void sort_axes(Axes& axes) {
  for (int i = 1; i < axes.count; ++i)
    for (int j = i; j > 0 && std::abs(axes.axis[j].stride) < std::abs(axes.axis[j - 1].stride); --j)
      std::swap(axes.axis[j], axes.axis[j - 1]);
}

}  // namespace

Extent extent_of(const bnorm_strides& strides, const std::array<int64_t, 4>& sizes) {
  constexpr int64_t most = int64_t{1} << 58;
  Extent e = {0, 0, true, true, true};
  Axes axes(strides, sizes);
  int64_t count = 1;
  for (int i = 0; i < axes.count; ++i) count *= axes.axis[i].size;
  for (int i = 0; i < axes.count; ++i) {
    const Axis a = axes.axis[i];
    int64_t reach;
    if (a.stride < -most || a.stride > most || __builtin_mul_overflow(a.size - 1, a.stride, &reach) || reach < -most ||
        reach > most)
      return {0, 0, false, false, false};
    (reach < 0 ? e.low : e.high) += reach;
  }
  e.dense = e.high - e.low + 1 == count;
  e.addressable = e.high - e.low < most;
  sort_axes(axes);
  int64_t covered = 1;
  for (int i = 0; i < axes.count; ++i) {
    const int64_t stride = std::abs(axes.axis[i].stride);
    e.injective = e.injective && stride >= covered;
    covered += (axes.axis[i].size - 1) * stride;
  }
  return e;
}

bool same_tensor(const Region& a, const Region& b, const std::array<int64_t, 4>& sizes) {
  if (a.data != b.data || a.element_bytes != b.element_bytes || !a.strides || !b.strides) return false;
  const Axes s(*a.strides, sizes), t(*b.strides, sizes);
  for (int i = 0; i < s.count; ++i)
    if (s.axis[i].stride != t.axis[i].stride) return false;
  return true;
}

}  // namespace bnorm
