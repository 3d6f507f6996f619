// SPDX-License-Identifier: Apache-2.0
// Where strided arrays lie in memory, and whether two can be proved to share an element.
#pragma once
#include <bnorm/bnorm.h>

#include <array>

namespace bnorm {

/// Element offsets that an array touches.
struct Extent {
  int64_t low, high;  // smallest and largest offset
  bool dense;         // no gaps, if injective
  bool addressable;   // no overflow
  bool injective;     // sorted by size, each stride covers the axes below it
};

/// `sizes`: G, N, C, S; an axis of size 0 counts as 1 (its strides are still checked).
Extent extent_of(const bnorm_strides& strides, const std::array<int64_t, 4>& sizes);

inline bool operator==(const bnorm_strides& a, const bnorm_strides& b) {
  return a.g == b.g && a.n == b.n && a.c == b.c && a.s == b.s;
}

/// One array of a call.
struct Region {
  const char* name;
  const void* data;
  int64_t element_bytes;
  const char* low;  // all elements lie in [low, end)
  const char* end;
  const bnorm_strides* strides;  // NULL: a plain array
  bool dense;                    // no gaps
};

inline Region make_region(const char* name, const void* data, int64_t element_bytes, const Extent& e,
                          const bnorm_strides* strides) {
  const auto* const bytes = static_cast<const char*>(data);
  const char* const low = bytes + e.low * element_bytes;
  const char* const end = bytes + (e.high + 1) * element_bytes;
  return {name, data, element_bytes, low, end, strides, e.dense};
}

/// Whether the two surely share memory.
inline bool overlaps(const Region& a, const Region& b) {
  return a.end > b.low && b.end > a.low && (a.data == b.data || (a.dense && b.dense));
}

/// Whether the two are the very same tensor. `sizes`: G, N, C, S.
bool same_tensor(const Region& a, const Region& b, const std::array<int64_t, 4>& sizes);

}  // namespace bnorm
