// SPDX-License-Identifier: Apache-2.0
// Columns: a memory row holds many lanes, each with statistics of its own; rows are added lane by lane.
//   kColumns        lane = channel                      row = position
//   kColumnsNarrow  lane = (position in octet, channel) row = octet             (channels-last, few channels)
//   kColumnsPlanar  lane = (channel, position)          row = sample            (planar, 2 <= S <= 8)
// Rows belong to classes; (class, lane) is one of the 8 slots of a channel (docs/numerics.md).
#pragma once

// Lanes worked on at once, so that rows are read in runs of 1 KB of f32. Their sums, 8 classes x 2 in f64, are 32 KB.
constexpr int64_t kTileLanes = 256;
// The longest pattern of lanes: 16 positions of narrow channels.
constexpr int64_t kPatternLanes = 16 * kNarrowChannels + 16;
static_assert(kPatternLanes >= kTileLanes && kTileLanes >= kOctet * kNarrowChannels);

static const double kNoSums[2 * kTileLanes] = {};

// Elements of an octet up to which the rows of the next quad are fetched ahead, so that they stay in L1 until they are
// read: of 64 channels. Training of 50x64x3136 from memory takes 0.7 of the time, its backward 0.8; with 256 channels
// they would take 1.1.
constexpr int64_t kFetchedRow = 512;

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
  /// Classes that have a row among the first positions of a block.
  int64_t classes_in(int64_t positions) const {
    const int64_t rows = family == kColumnsPlanar ? positions / order.spatial : positions;
    return rows < classes() ? rows : classes();
  }
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
  int64_t mapped_lanes(int64_t tile_channels) const {
    if (family == kColumnsNarrow) return kStrip * channels;
    return family == kColumnsPlanar ? tile_channels * order.spatial : tile_channels;
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

/// The channels' values by lane, zeros up to a multiple of 16; `to` has room for 8 more. Not of kColumns, where they
/// lie so already.
template <class V>
BNORM_SHARED const V* spread(const V* from, V* to, const LaneMap& map, int64_t lanes) {
  int64_t l = map.channels;
  const int64_t positions = map.order.spatial;
  if (map.family == kColumnsPlanar)
    l = positions <= 4 ? copy_by<4>(positions, from, to, lanes) : copy_by<8>(positions, from, to, lanes);
  else
    __builtin_memcpy(to, from, static_cast<size_t>(l) * sizeof(V));
  for (int64_t more; l < lanes; l += more) {  // whole periods so far: doubled, or as much as is missing
    more = lanes - l < l ? lanes - l : l;
    __builtin_memcpy(to + l, to, static_cast<size_t>(more) * sizeof(V));
  }
  for (; l % 16 != 0; ++l) to[l] = 0;
  return to;
}

/// Coefficient arrays in lane order, the first lane being channel c's. In channels-last they lie so already.
template <class Op>
struct LaneArrays {
  using A = typename Op::A;
  alignas(64) A value[kCoefficients][kPatternLanes];
  CoefficientArrays<A> arrays;

  LaneArrays(const Tile& t, const LaneMap& map, int64_t c, int64_t lanes) : arrays(arrays_of<Op>(t, c)) {
    if (map.family != kColumns)
      each<Op::coefficient_begin, Op::coefficient_end>(
          [&](auto k) { arrays.value[k] = spread(arrays.value[k], value[k], map, lanes); });
  }
};

/// Groups of 16 lanes, by their first.
struct LaneGroups {
  int64_t count = 0;
  int64_t first[kTileLanes / 16];

  void add(int64_t l) { first[count++] = l; }
};

/// The pivots of a tile in lane order, and the groups of lanes without and with any; `all`: as if all had one.
struct LanePivots {
  const double* lane;
  LaneGroups raw, centered;

  /// `pivot`: by channel, with zeros up to a multiple of 16.
  __attribute__((noinline)) LanePivots(const double* pivot, bool any, bool all, const LaneMap& map, int64_t lanes)
      : lane(pivot) {
    any = any || all;
    if (any && map.family != kColumns) lane = spread(pivot, room_, map, lanes);
    for (int64_t l = 0; l < lanes; l += 16) (any && (all || has_pivot(lane + l)) ? centered : raw).add(l);
  }

 private:
  /// Whether any of 16 is not 0.
  static bool has_pivot(const double* pivot) {
    const auto zero = Lanes<double>::broadcast(0), p = Lanes<double>::load(pivot);
    return (Lanes<double>::less_equal(p, zero) & Lanes<double>::less_equal(zero, p)) != 0xffff;
  }

  alignas(64) double room_[kTileLanes + kOctet];
};

/// The running sums of a tile: of class k and lane l at [k * stride + l].
struct LaneSums {
  alignas(64) double first[kOctet * kTileLanes];
  alignas(64) double second[kOctet * kTileLanes];
  int64_t stride;

  /// Those of the classes from k on.
  void clear(const LaneGroups& groups, int64_t k, int64_t classes) {
    const auto zero = Lanes<double>::broadcast(0);
    for (; k < classes; ++k)
      for (int64_t i = 0; i < groups.count; ++i) {
        zero.store(first + k * stride + groups.first[i]);
        zero.store(second + k * stride + groups.first[i]);
      }
  }
};

/// Where the rows of one class of a quad lie, octet by octet.
template <class Op>
struct ClassRows {
  From<Op> from[Op::read_count];  // lane 0 of the first
  int64_t octet_offset[Op::read_count];
  char* mask;
  int64_t mask_offset;
  int64_t rows;
  int64_t octets;             // rows of all lanes
  int64_t lanes, rest_lanes;  // of those, and of the one behind them
};

/// Where the rows of a quad lie: that of class k in octet j is class_offset[k] + j * octet_offset behind the first.
template <class Op>
struct QuadRows {
  using E = Element<typename Op::Type>;
  static constexpr int reads = Op::read_count;

  const Tile& tile;
  const LaneMap& map;
  const View* view[reads];
  int64_t channel, lanes;
  bool fetches_next;  // while a quad is added, the rows of the next
  int64_t class_offset[reads][kOctet], octet_offset[reads];
  int64_t class_mask[kOctet], octet_mask;  // of the mask, in bytes
  From<Op> base[reads];                    // first element of the quad
  char* mask;
  int64_t octets;      // that hold every class
  int64_t rest;        // classes of the octet behind them
  int64_t rest_lanes;  // of that octet's row

  QuadRows(const Tile& t, const LaneMap& m, int64_t first_channel, int64_t tile_lanes)
      : tile(t), map(m), channel(first_channel), lanes(tile_lanes) {
    fetches_next = t.in_memory && m.classes() * lanes <= kFetchedRow;
    for (int r = 0; r < reads; ++r) {
      view[r] = &t.tensor[Op::reads[r]];
      octet_offset[r] = find_offsets(*view[r], class_offset[r]);
    }
    if constexpr (Op::has_mask) {
      const View& bits = t.tensor[kMask];
      octet_mask = find_offsets({bits.data, bits.n >> 3, bits.c, bits.s >> 3, bits.type}, class_mask);
    }
  }

  /// To the quad that begins with a strip and ends before strip `end` at the latest. Returns its strips.
  int64_t go_to(int64_t strip, int64_t end) {
    const Order& o = map.order;
    const auto [n, s] = strip_position(o, strip);
    for (int r = 0; r < reads; ++r) base[r] = E::at(*view[r], n, channel, s);
    mask = mask_at<Op>(tile, n, channel, s);
    const int64_t most = end - strip < kQuadStrips ? end - strip : kQuadStrips;
    const int64_t strip_samples = 2 * o.octet_samples, samples = o.batch - n;
    if (o.octet_samples == 0) {
      const int64_t positions = o.spatial - s < most * kStrip ? o.spatial - s : most * kStrip;
      set_rows(positions);
      return (positions + kStrip - 1) / kStrip;
    }
    set_rows((samples < most * strip_samples ? samples : most * strip_samples) * o.spatial);
    return most;
  }
  /// That have a row.
  int64_t classes() const { return octets > 0 ? map.classes() : rest; }
  ClassRows<Op> class_rows(int64_t k) const {
    ClassRows<Op> at = {};
    for (int r = 0; r < reads; ++r) {
      at.from[r] = base[r] + class_offset[r][k];
      at.octet_offset[r] = octet_offset[r];
    }
    if constexpr (Op::has_mask) {
      at.mask = mask ? mask + class_mask[k] : nullptr;
      at.mask_offset = octet_mask;
    }
    at.rows = octets + (k < rest ? 1 : 0);
    at.octets = octets;
    at.lanes = lanes;
    at.rest_lanes = rest_lanes;
    return at;
  }

 private:
  /// From the first class of a quad to each, and returned from an octet to the next.
  int64_t find_offsets(const View& v, int64_t* of_class) const {
    const Order& o = map.order;
    const int64_t positions = map.family == kColumnsPlanar ? 1 : o.spatial;  // that are classes, of a sample
    int64_t sample = 0, position = 0;
    for (int64_t k = 0; k < map.classes(); ++k, ++position) {
      if (position == positions) {
        position = 0;
        ++sample;
      }
      of_class[k] = sample * v.n + position * v.s;
    }
    return o.octet_samples == 0 ? kOctet * v.s : o.octet_samples * v.n;
  }
  void set_rows(int64_t positions) {
    const int64_t octet = map.octet_positions();
    octets = positions / octet;
    const int64_t left = positions - octets * octet;
    rest = map.family == kColumnsPlanar ? left / map.order.spatial : (map.family == kColumnsNarrow ? left > 0 : left);
    rest_lanes = map.family == kColumnsNarrow ? left * map.channels : lanes;
  }
};

/// What a quad is added under: coefficients and pivots by lane.
template <class Op>
struct LaneContext {
  CoefficientArrays<typename Op::A> arrays;
  const typename Op::Form& form;
  const double* pivot;
};

/// Fetches lanes l to l + 15 of a class of the next quad.
template <class Op>
static inline BNORM_IN_LOOP void fetch_next(const ClassRows<Op>& at, int64_t l, const typename Op::Form& form) {
  each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP {
    if (!Op::is_read(r, form)) return;
    From<Op> row = at.from[r] + (l + at.octets * at.octet_offset[r]);
    for (int64_t octet = 0; octet < at.octets; ++octet, row += at.octet_offset[r])
      __builtin_prefetch(Element<typename Op::Type>::place(row));
  });
}

/// The sums of a class by lane: what they were before a quad, and where those with it go.
struct ClassSums {
  const double* first_before;
  const double* second_before;
  double* first;
  double* second;
};

/// Adds the rows of a class to the sums of 16 lanes from l on. Unless `full`, rows may lack some of the lanes: those
/// count 0, as do their pivots.
template <class Op, bool centered, bool full>
static inline BNORM_IN_LOOP void add_rows(const ClassRows<Op>& at, int64_t l, const LaneContext<Op>& context,
                                          const ClassSums& to) {
  constexpr bool exact = Op::template exact<centered>;
  const auto coefficients = load_coefficients<Op>(context.arrays, l, full ? 16 : at.lanes - l);
  const auto pivots = Lanes<double>::load(context.pivot + l);
  const auto terms = [&](int64_t octet) BNORM_IN_LOOP {
    From<Op> from[Op::read_count];
    each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP {
      from[r] = at.from[r] + ((is_of_row<Op>(r) ? 0 : l) + octet * at.octet_offset[r]);
    });
    const int64_t width = (octet < at.octets ? at.lanes : at.rest_lanes) - l;
    char* const mask = Op::has_mask && at.mask ? at.mask + ((l >> 3) + octet * at.mask_offset) : nullptr;
    const Operands<Op, full> in = {from, mask, 0, width};
    const auto a = Op::template terms<centered>(in, coefficients, context.form, pivots);
    return full ? a : keep<Op, centered>(a, width, width - 8);
  };
  // From the first term, not from +0: a quad may be -0 here. The block's sums start at +0 and so never are.
  auto sums = Sums<Lanes<double>>::of(terms(0));
  if (Op::unrolled && at.rows == 2 * kQuadStrips)
    each<1, 2 * kQuadStrips>([&](auto octet) BNORM_IN_LOOP { sums.template grow<exact>(terms(octet)); });
  else
    for (int64_t octet = 1; octet < at.rows; ++octet) sums.template grow<exact>(terms(octet));
  sums.add({Lanes<double>::load(to.first_before + l), Lanes<double>::load(to.second_before + l)});
  sums.first.store(to.first + l);
  sums.second.store(to.second + l);
}

/// Adds the rows of a class, in some groups of lanes. A function of its own, with copies of what it reads: inlined, it
/// finds all registers taken, and stores could change what is behind a reference. With it moments of 8x64x784 and
/// 8x512x49 take 0.87 of the time (AVX-512).
template <class Op, bool centered>
BNORM_FLAT __attribute__((noinline)) void add_class(const QuadRows<Op>& quad, int64_t k, LaneContext<Op> context,
                                                    const LaneGroups& groups, ClassSums sums) {
  const ClassRows<Op> at = quad.class_rows(k);
  const int64_t full = at.rows > at.octets ? at.rest_lanes : at.lanes;
  for (int64_t i = 0; i < groups.count; ++i) {
    const int64_t l = groups.first[i];
    if (quad.fetches_next) fetch_next<Op>(at, l, context.form);
    if (l + 16 <= full)
      add_rows<Op, centered, true>(at, l, context, sums);
    else
      add_rows<Op, centered, false>(at, l, context, sums);
  }
}

/// Adds all rows of a quad, in some groups of lanes, to the sums; `begins`: to 0, whatever those are.
template <class Op, bool centered>
static inline void add_quad(const QuadRows<Op>& quad, const LaneContext<Op>& context, const LaneGroups& groups,
                            bool begins, LaneSums& sums) {
  for (int64_t k = 0; k < quad.classes(); ++k) {
    double* const first = sums.first + k * sums.stride;
    double* const second = sums.second + k * sums.stride;
    add_class<Op, centered>(quad, k, context, groups,
                            {begins ? kNoSums : first, begins ? kNoSums : second, first, second});
  }
}

/// Adds up `count` slots along the tree, the first i and others `step` apart.
template <int count, int i = 0, int step = 1, class ValueAt>
static inline BNORM_IN_LOOP auto slots_sum(const ValueAt& value_at) {
  if constexpr (count == 1)
    return value_at(Index<i>());
  else
    return slots_sum<count / 2, i, 2 * step>(value_at) + slots_sum<count / 2, i + step, 2 * step>(value_at);
}

/// Adds up the first `count` of each channel's slots; the others are 0.
template <int count>
static inline void fold_slots_of(const LaneMap& map, int64_t channels, const double* const* slot, double* result) {
  if (map.family == kColumnsPlanar) {
    const int64_t step = map.order.spatial;
    for (int64_t j = 0; j < channels; ++j)
      result[j] = slots_sum<count>([&](auto i) BNORM_IN_LOOP { return slot[i][j * step]; });
  } else {
    for (int64_t j = 0; j < channels; j += 16) {
      const auto sum = slots_sum<count>([&](auto i) BNORM_IN_LOOP { return Lanes<double>::load(slot[i] + j); });
      Element<double>::store_first(result + j, sum, channels - j);
    }
  }
}

/// Adds up each channel's 8 slots along the tree; those from `slots` on are 0.
BNORM_SHARED void fold_slots(const LaneMap& map, int64_t channels, int64_t slots, int64_t stride, const double* sums,
                             double* result) {
  const double* slot[kOctet];
  for (int64_t i = 0; i < kOctet; ++i) slot[i] = i < slots ? sums + map.slot_at(i, stride) : kNoSums;
  // Sums of blocks are never -0, which 0 would change: what is missing is left out.
  if (slots > 4) return fold_slots_of<8>(map, channels, slot, result);
  if (slots > 2) return fold_slots_of<4>(map, channels, slot, result);
  if (slots > 1) return fold_slots_of<2>(map, channels, slot, result);
  fold_slots_of<1>(map, channels, slot, result);
}

/// Adds the strips [begin, end), one block, in some groups of lanes, to sums of 0.
template <class Op, bool centered>
static inline void add_block(QuadRows<Op>& quad, int64_t begin, int64_t end, const LaneContext<Op>& context,
                             const LaneGroups& groups, int64_t classes, LaneSums& sums) {
  if (groups.count == 0) return;
  bool begins = true;
  for (int64_t strips; begin < end; begin += strips, begins = false) {
    strips = quad.go_to(begin, end);
    if (begins) sums.clear(groups, quad.classes(), classes);
    add_quad<Op, centered>(quad, context, groups, begins, sums);
  }
}

/// Reduces one block for the channels [c, c + channels), one tile of lanes.
template <class Op>
static inline void reduce_tile(const Tile& t, const LaneMap& map, int64_t c, int64_t channels, int64_t b,
                               const LaneArrays<Op>& coefficients, const typename Op::Form& form) {
  const int64_t lanes = map.tile_lanes(channels), strips = strip_count(t.order);
  const int64_t begin = b * kBlockStrips, end = begin + kBlockStrips < strips ? begin + kBlockStrips : strips;
  const int64_t positions = block_length(t.order, b);
  const double count = values_in<Op>(t, b, positions);
  double* const first = t.first + b * t.channels + c;
  double* const second = t.second + b * t.channels + c;
  QuadRows<Op> quad(t, map, c, lanes);
  const int64_t classes = map.classes_in(positions);
  LaneSums sums;
  sums.stride = (lanes + 15) / 16 * 16;
  alignas(64) double pivot[kTileLanes];
  for (int64_t j = channels; j % 16 != 0; ++j) pivot[j] = 0;
  bool any = Op::first_pivots(t, c, channels, b, pivot);
  for (bool again = false;; again = true) {
    const LanePivots pivots(pivot, any, Op::always_pivoted || (Op::always_centered && !again), map, lanes);
    const LaneContext<Op> context = {coefficients.arrays, form, pivots.lane};
    if constexpr (!Op::always_centered)
      if (!again) add_block<Op, false>(quad, begin, end, context, pivots.raw, classes, sums);
    add_block<Op, true>(quad, begin, end, context, pivots.centered, classes, sums);
    fold_slots(map, channels, classes * map.class_slots(), sums.stride, sums.first, first);
    fold_slots(map, channels, classes * map.class_slots(), sums.stride, sums.second, second);
    Op::finish(t, c, count, pivot, first, second, channels);
    if (again) return;
    any = Op::second_pivots(count, first, second, channels, pivot);
    if (!any) return;
  }
}

template <class Op>
BNORM_FLAT void reduce_columns(const Tile& t) {
  const LaneMap map(t);
  const typename Op::Form form(*t.form);
  const int64_t step = map.tile_channels();
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t channels = t.c1 - c < step ? t.c1 - c : step;
    const LaneArrays<Op> coefficients(t, map, c, map.tile_lanes(channels));
    for (int64_t b = t.b0; b < t.b1; ++b) reduce_tile<Op>(t, map, c, channels, b, coefficients, form);
  }
}

// Rows mapped side by side, so that coefficients are loaded once for all of them: 60 x 100 takes 0.65 of the time.
// Longer rows lose by reading several places of memory at once (planar 32x512x4, whose rows are 8 KB apart, takes 1.2),
// unless they adjoin and come from L2: inference of 8x256x49 takes 0.82, of 8x512x49 0.89, of 8x512x98 1.0 (AVX-512).
constexpr int64_t kMappedRows = 4;
constexpr int64_t kMappedLanes = 128, kMappedLanesInL2 = 512;

/// Elements from a row to the next in every tensor.
template <class Op>
struct RowStep {
  int64_t from[Op::read_count], to[Op::write_count];
  int64_t mask = 0;

  RowStep(const Tile& t, int64_t View::*stride) {
    each<0, Op::read_count>([&](auto r) { from[r] = t.tensor[Op::reads[r]].*stride; });
    each<0, Op::write_count>([&](auto w) { to[w] = t.tensor[Op::writes[w]].*stride; });
    if constexpr (Op::has_mask) mask = t.tensor[kMask].*stride >> 3;
  }
  explicit RowStep(int64_t elements) {
    for (int64_t& s : from) s = elements;
    for (int64_t& s : to) s = elements;
  }
  inline BNORM_IN_LOOP void take(Cursor<Op>& row) const {
    each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP { row.from[r] += from[r]; });
    each<0, Op::write_count>([&](auto w) BNORM_IN_LOOP {
      if (is_given<Op>(row.to[w])) row.to[w] += to[w];
    });
    if (Op::has_mask && row.mask) row.mask += mask;
  }
};

/// Fetches what a map reads kAheadInMemory elements after a row, where gaps between rows end what the hardware fetches
/// by itself. Inference of half the channels of 32x128x3136 takes 0.57 of the time, training 0.74 (1 thread, AVX-512).
template <class Op>
static inline BNORM_IN_LOOP void fetch_beyond_gaps(const Cursor<Op>& row, const RowStep<Op>& step, int64_t rows,
                                                   int64_t lanes) {
  each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP {
    if (step.from[r] == lanes) return;
    const From<Op> later = row.from[r] + step.from[r] * rows;
    for (int64_t l = 0; l < lanes; l += kStrip) __builtin_prefetch(Element<typename Op::Type>::place(later + l));
  });
}

/// `rows` rows of `lanes` lanes under the same coefficients.
template <class Op>
BNORM_FLAT __attribute__((noinline)) void map_lane_rows(const Tile& t, Cursor<Op> row, RowStep<Op> step, int64_t rows,
                                                        int64_t lanes,
                                                        const CoefficientArrays<typename Op::A>& shared) {
  const CoefficientArrays<typename Op::A> arrays = shared;  // stores could change what is behind a reference
  const typename Op::Form form(*t.form);
  const auto coefficients = [&](int64_t l, int64_t some) { return load_coefficients<Op>(arrays, l, some); };
  const bool adjoin_in_l2 = t.in_l2 && step.from[0] == lanes;
  const bool joins = rows > 1 && !t.in_memory && lanes <= (adjoin_in_l2 ? kMappedLanesInL2 : kMappedLanes);
  const int64_t rows_ahead = joins ? 0 : kAheadInMemory / lanes + 1;
  for (int64_t joined; rows > 0; rows -= joined) {
    joined = joins ? (rows < kMappedRows ? rows : kMappedRows) : 1;
    for (int64_t l = 0; joins && l < lanes; l += kStrip) {
      const auto k = coefficients(l, lanes - l);
      Cursor<Op> part = row;
      for (int64_t i = 0; i < joined; ++i, step.take(part)) {
        if (lanes - l >= kStrip) {
          fetch_ahead<Op>(part.to, l);
          map_strip<Op, true>(part.from, part.to, part.mask, l, kStrip, k, form);
        } else {
          map_strip<Op, false>(part.from, part.to, part.mask, l, lanes - l, k, form);
        }
      }
    }
    if (!joins) {
      fetch_beyond_gaps<Op>(row, step, rows_ahead, lanes);
      map_run<Op>(row.from, row.to, row.mask, lanes, t.in_memory, coefficients, form);
    }
    for (int64_t i = 0; i < joined; ++i) step.take(row);
  }
}

/// Row by row through memory: of a tile of channels; narrow, of 16 positions, the last of fewer.
template <class Op>
static void map_columns(const Tile& t) {
  const LaneMap map(t);
  const int64_t spatial = t.order.spatial, tile = map.mapped_channels(t.c1 - t.c0);
  const Position begin = first_position(t);
  for (int64_t c = t.c0; c < t.c1; c += tile) {
    const int64_t channels = t.c1 - c < tile ? t.c1 - c : tile, lanes = map.mapped_lanes(channels);
    const LaneArrays<Op> coefficients(t, map, c, lanes);
    const auto map_rows_at = [&](int64_t n, int64_t s, const RowStep<Op>& step, int64_t rows, int64_t row_lanes) {
      if (rows > 0) map_lane_rows(t, Cursor<Op>(t, n, c, s), step, rows, row_lanes, coefficients.arrays);
    };
    if (map.family == kColumns && spatial > 1) {
      each_run(spatial, begin, t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
        map_rows_at(n, s0, {t, &View::s}, s1 - s0, lanes);
      });
    } else if (map.family == kColumnsNarrow) {
      const int64_t rows = (t.end - t.begin) / kStrip, rest = t.end - t.begin - rows * kStrip, last = t.end - rest;
      map_rows_at(begin.n, begin.s, RowStep<Op>(lanes), rows, lanes);
      map_rows_at(last / spatial, last % spatial, RowStep<Op>(lanes), rest > 0, rest * channels);
    } else {
      const int64_t end = spatial == 1 ? t.end : t.end / spatial;  // no division in calls at batch 1
      map_rows_at(begin.n, 0, {t, &View::n}, end - begin.n, lanes);
    }
  }
}
