// SPDX-License-Identifier: Apache-2.0
// Columns: a memory row holds many lanes, each with statistics of its own; rows are added lane by lane.
//   kColumns        lane = channel                      row = position
//   kColumnsNarrow  lane = (position in octet, channel) row = octet             (channels-last, up to 127 channels)
//   kColumnsPlanar  lane = (channel, position)          row = sample            (planar, 2 <= S <= 8, maps up to 15)
// Rows belong to classes; (class, lane) is one of the 8 slots of a channel (docs/numerics.md). Maps, which have no
// slots, may take several rows as one (map_row).
#pragma once

// Lanes worked on at once, so that rows are read in long runs; maps of kColumns take all, or kTwinLanes. Sums, 8
// classes x 2 in f64, are up to 128 KB of stack; each is loaded and stored once a quad. With 256 lanes moments and
// gradient sums of 1x1024x784 channels-last take 1.25 and 1.12 of the time, of 8x512x49 1.1 and 1.13, of 32x512x784 1.9
// and 1.6, of 4x2048 0.93 and 0.96; planar 512x512x4 trains in 1.24, backward in 1.19, 8x2048x4 in 1.13 and 1.08 (AVX2,
// L2 of 512 KB).
constexpr int64_t kTileLanes = 1024;
static_assert(kTileLanes >= kOctet * kNarrowChannels);

/// How lanes, channels and positions map onto each other in one family.
struct LaneMap {
  const Order& order;
  Family family;
  int64_t channels;

  explicit LaneMap(const Tile& t) : order(t.order), family(t.family), channels(t.channels) {}

  int64_t octet_positions() const { return order.spatial > kOctet ? kOctet : order.octet_samples * order.spatial; }
  int64_t classes() const {
    if (family == kColumnsNarrow) return 1;
    return family == kColumnsPlanar ? order.octet_samples : octet_positions();
  }
  /// A channel's slots that have a row among the first positions of a block, up to a power of 2.
  int64_t slots_in(int64_t positions) const {
    const int64_t rows = family == kColumnsPlanar ? positions / order.spatial : positions;
    const int64_t slots = (rows < classes() ? rows : classes()) * class_slots();
    return slots > 4 ? 8 : (slots > 2 ? 4 : slots);
  }
  /// Classes that hold some slots.
  int64_t classes_of(int64_t slots) const { return (slots + class_slots() - 1) / class_slots(); }
  /// Channels in one tile of lanes, and its lanes.
  int64_t tile_channels() const {
    if (family == kColumnsNarrow) return channels;
    return family == kColumnsPlanar ? planar_channels() : kTileLanes;
  }
  // In whole groups of 16 lanes, as a mask has them.
  int64_t planar_channels() const { return kTileLanes / order.spatial / kStrip * kStrip; }
  int64_t tile_lanes(int64_t tile_channels) const {
    if (family == kColumnsNarrow) return octet_positions() * channels;
    return family == kColumnsPlanar ? tile_channels * order.spatial : tile_channels;
  }
  /// The same of maps.
  int64_t mapped_channels(int64_t all) const { return family == kColumnsPlanar ? planar_channels() : all; }
  /// Positions of a row of a map, at least (map_row).
  int64_t mapped_positions() const {
    if (family == kColumns) return 1;
    if (family == kColumnsPlanar) return order.spatial;
    return kStrip * channels <= kTileLanes ? kStrip : kOctet;
  }
  int64_t class_slots() const { return octet_positions() / classes(); }
  /// Where a slot of the tile's first channel stands in the sums of `stride` lanes a class.
  int64_t slot_at(int64_t slot, int64_t stride) const {
    if (family == kColumns) return slot * stride;
    if (family == kColumnsNarrow) return slot * channels;
    return slot / order.spatial * stride + slot % order.spatial;
  }
};

// Not inlined, for functions that are the same for every operation: they were a tenth of all kernels.
#define BNORM_SHARED static __attribute__((noinline))

/// Writes each value `copies` times, `step` lanes apart: of a smaller step the rest is written over. Returns the end.
template <int copies, class V>
static inline int64_t copy_by(int64_t step, const V* from, V* to, int64_t lanes) {
  int64_t l = 0;
  // A loop of 5 instructions takes twice as long where it crosses a line of code.
#pragma GCC unroll 4
  for (; l < lanes; ++from, l += step) {
    const V value = *from;
    for (int64_t i = 0; i < copies; ++i) to[l + i] = value;
  }
  return l;
}

/// The channels' values by lane, zeros up to a multiple of 16; `to` has room for 16 more.
template <class V>
BNORM_SHARED const V* spread(const V* from, V* to, const LaneMap& map, int64_t lanes) {
  int64_t l = map.channels;
  if (map.family == kColumnsPlanar) {
    const int64_t positions = map.order.spatial, all = l * positions, once = lanes < all ? lanes : all;
    l = positions <= 4   ? copy_by<4>(positions, from, to, once)
        : positions <= 8 ? copy_by<8>(positions, from, to, once)
                         : copy_by<16>(positions, from, to, once);
  } else {
    __builtin_memcpy(to, from, static_cast<size_t>(l) * sizeof(V));
  }
  for (int64_t more; l < lanes; l += more) {  // whole periods so far: doubled, or as much as is missing
    more = lanes - l < l ? lanes - l : l;
    __builtin_memcpy(to + l, to, static_cast<size_t>(more) * sizeof(V));
  }
  for (; l % 16 != 0; ++l) to[l] = 0;
  return to;
}

/// Coefficient arrays in lane order, the first lane being channel c's. Of one position in channels-last they lie so
/// already.
template <class Op>
struct LaneArrays {
  using A = typename Op::A;
  alignas(64) A value[kCoefficients][kTileLanes + kStrip];  // and what spread() writes behind
  CoefficientArrays<A> arrays;

  LaneArrays(const Tile& t, const LaneMap& map, int64_t c, int64_t lanes) : arrays(arrays_of<Op>(t, c)) {
    if (map.family != kColumns || lanes > map.channels)
      each<Op::coefficient_begin, Op::coefficient_end>(
          [&](auto k) { arrays.value[k] = spread(arrays.value[k], value[k], map, lanes); });
  }
};
