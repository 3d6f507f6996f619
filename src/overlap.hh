// SPDX-License-Identifier: Apache-2.0
// Where strided arrays lie in memory, and whether two can be proved to share an element.
#pragma once
#include <bnorm/bnorm.h>

#include <array>

namespace bnorm {

/// Element offsets that an array touches.
struct Extent {
  int64_t low, high;  // smallest and largest offset
  int64_t count;      // elements
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
  const char* low;  // all elements lie in [low, end)
  const char* end;
  const bnorm_strides* strides;  // NULL: a plain array
  bool dense;                    // no gaps
  bool writes;
};

inline Region make_region(const char* name, const void* data, int64_t element_bytes, const Extent& e,
                          const bnorm_strides* strides, bool writes) {
  const auto* const bytes = static_cast<const char*>(data);
  return {name,
          data,
          bytes + e.low * element_bytes,
          bytes + (e.high + 1) * element_bytes,
          strides,
          e.high - e.low + 1 == e.count,
          writes};
}

/// Whether the two surely share memory and are not the very same tensor, if their bounds meet.
bool shares_elements(const Region& a, const Region& b, const std::array<int64_t, 4>& sizes);

/// Whether the two surely share memory and are not the very same tensor.
inline bool overlaps(const Region& a, const Region& b, const std::array<int64_t, 4>& sizes) {
  return a.end > b.low && b.end > a.low && shares_elements(a, b, sizes);
}

}  // namespace bnorm
