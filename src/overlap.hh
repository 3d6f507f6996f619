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

/// One array of a call.
struct Region {
  const char* name;
  const void* data;
  int64_t element_bytes;
  Extent extent;
  const bnorm_strides* strides;  // NULL: a plain array
  bool writes;
};

/// True if the two surely share memory and are not the very same tensor.
bool overlaps(const Region& a, const Region& b, const int64_t (&sizes)[4]);

}  // namespace bnorm
