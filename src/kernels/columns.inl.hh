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

/// How lanes, channels and positions map onto each other in one family.
template <Family family>
struct LaneMap {
  const Order& order;
  int64_t channels;

  explicit LaneMap(const Tile& t) : order(t.order), channels(t.channels) {}

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
    return family == kColumnsPlanar ? kTileLanes / order.spatial : kTileLanes;
  }
  int64_t tile_lanes(int64_t tile_channels) const {
    if (family == kColumnsNarrow) return octet_positions() * channels;
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

/// The channels' values by lane, zeros up to a multiple of 16.
template <class V, Family family>
static inline const V* spread(const V* from, V* to, const LaneMap<family>& map, int64_t lanes) {
  const int64_t period = family == kColumnsNarrow ? map.channels : lanes;
  const int64_t positions = family == kColumnsPlanar ? map.order.spatial : 1;
  int64_t l = 0;
  for (int64_t j = 0; l < lanes && l < period; ++j)
    for (int64_t s = 0; s < positions; ++s) to[l++] = from[j];
  for (int64_t more; l < lanes; l += more) {  // whole periods so far: doubled, or as much as is missing
    more = lanes - l < l ? lanes - l : l;
    __builtin_memcpy(to + l, to, static_cast<size_t>(more) * sizeof(V));
  }
  for (; l % 16 != 0; ++l) to[l] = 0;
  return to;
}

/// Coefficient arrays in lane order, the first lane being channel c's. In channels-last they lie so already.
template <class Op, Family family>
struct LaneArrays {
  using A = typename Op::A;
  A value[kCoefficients][kPatternLanes];
  CoefficientArrays<A> arrays;

  LaneArrays(const Tile& t, const LaneMap<family>& map, int64_t c, int64_t lanes) : arrays(arrays_of<Op>(t, c)) {
    if constexpr (family != kColumns)
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

/// The pivots of a tile in lane order, and the groups of lanes without and with any.
template <class Op, Family family>
struct LanePivots {
  double lane[kTileLanes];
  LaneGroups raw, centered;

  LanePivots(const double* pivot, bool any, const LaneMap<family>& map, int64_t lanes) {
    if (any) spread(pivot, lane, map, lanes);
    for (int64_t l = 0; l < lanes; l += 16) {
      int64_t found = Op::always_centered;
      for (int64_t i = 0; any && i < 16; ++i) found += lane[l + i] != 0;
      (found > 0 ? centered : raw).add(l);
    }
  }
};

/// The running sums of a tile: of class k and lane l at [k * stride + l].
struct LaneSums {
  alignas(64) double first[kOctet * kTileLanes];
  alignas(64) double second[kOctet * kTileLanes];
  int64_t stride;

  void clear(const LaneGroups& groups, int64_t classes) {
    for (int64_t k = 0; k < classes; ++k)
      for (int64_t i = 0; i < groups.count; ++i) {
        zero().store(first + k * stride + groups.first[i]);
        zero().store(second + k * stride + groups.first[i]);
      }
  }
  static Lanes<double> zero() { return Lanes<double>::broadcast(0); }
};

/// Where the rows of a quad lie: that of class k in octet j is class_offset[k] + j * octet_offset behind the first.
template <class Op, Family family>
struct QuadRows {
  using T = typename Op::Type;
  static constexpr int reads = Op::read_count;

  const LaneMap<family>& map;
  const View* view[reads];
  int64_t channel, lanes;
  int64_t class_offset[reads][kOctet], octet_offset[reads];
  const T* base[reads];  // first element of the quad
  int64_t octets;        // that hold every class
  int64_t rest;          // classes of the octet behind them
  int64_t rest_lanes;    // of that octet's row

  QuadRows(const Tile& t, const LaneMap<family>& m, int64_t first_channel, int64_t tile_lanes)
      : map(m), channel(first_channel), lanes(tile_lanes) {
    const Order& o = map.order;
    for (int r = 0; r < reads; ++r) {
      const View& v = *(view[r] = &t.tensor[Op::reads[r]]);
      for (int64_t k = 0; k < map.classes(); ++k) {
        const int64_t n = o.octet_samples == 0 ? 0 : (family == kColumnsPlanar ? k : k / o.spatial);
        class_offset[r][k] = n * v.n + (family == kColumnsPlanar ? 0 : k - n * o.spatial) * v.s;
      }
      octet_offset[r] = o.octet_samples == 0 ? kOctet * v.s : o.octet_samples * v.n;
    }
  }

  /// To the quad that begins with a strip and ends before strip `end` at the latest. Returns its strips.
  int64_t go_to(int64_t strip, int64_t end) {
    const Order& o = map.order;
    const auto [n, s] = strip_position(o, strip);
    for (int r = 0; r < reads; ++r) base[r] = at<T>(*view[r], n, channel, s);
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
  /// Rows of class k, octet by octet.
  int64_t rows(int64_t k) const { return octets + (k < rest ? 1 : 0); }

 private:
  void set_rows(int64_t positions) {
    const int64_t octet = map.octet_positions();
    octets = positions / octet;
    const int64_t left = positions - octets * octet;
    rest = family == kColumnsPlanar ? left / map.order.spatial : (family == kColumnsNarrow ? left > 0 : left);
    rest_lanes = family == kColumnsNarrow ? left * map.channels : lanes;
  }
};

/// Adds the rows of class k to the sums of 16 lanes from l on. Unless `full`, rows may lack some of the lanes: those
/// count 0, as do their pivots.
template <class Op, Family family, bool centered, bool full>
static inline BNORM_IN_LOOP void add_rows(const QuadRows<Op, family>& quad, int64_t k, int64_t l,
                                          const CoefficientArrays<typename Op::A>& arrays, const double* pivot,
                                          double* first, double* second) {
  using In = Input<typename Op::Type>;
  constexpr int reads = Op::read_count;
  constexpr bool exact = Op::template exact<centered>;
  const int64_t left = quad.lanes - l;
  const auto coefficients = load_coefficients<Op>(arrays, l, full ? 16 : left);
  const auto pivots = Lanes<double>::load(pivot);
  const auto terms = [&](int64_t octet) BNORM_IN_LOOP {
    In in[reads];
    const int64_t width = octet < quad.octets ? left : quad.rest_lanes - l;
    each<0, reads>([&](auto r) BNORM_IN_LOOP {
      const auto* const from = quad.base[r] + quad.class_offset[r][k] + l + octet * quad.octet_offset[r];
      in[r] = full ? In::load(from) : In::load_first(from, width);
    });
    const auto a = Op::template terms<centered>(in, coefficients, pivots);
    return family == kColumnsNarrow && !full ? keep<centered>(a, width, width - 8) : a;
  };
  // From the first term, not from +0: a quad may be -0 here. The block's sums start at +0 and so never are.
  auto sums = Sums<Lanes<double>>::of(terms(0));
  const int64_t rows = quad.rows(k);
  if (rows == 2 * kQuadStrips)
    each<1, 2 * kQuadStrips>([&](auto octet) BNORM_IN_LOOP { sums.template grow<exact>(terms(octet)); });
  else
    for (int64_t octet = 1; octet < rows; ++octet) sums.template grow<exact>(terms(octet));
  sums.add({Lanes<double>::load(first), Lanes<double>::load(second)});
  sums.first.store(first);
  sums.second.store(second);
}

/// Adds all rows of a quad, in some groups of lanes.
template <class Op, Family family, bool centered>
static inline void add_quad(const QuadRows<Op, family>& quad, const CoefficientArrays<typename Op::A>& arrays,
                            const double* pivot, const LaneGroups& groups, LaneSums& sums) {
  const int64_t full = family == kColumnsNarrow && quad.rest > 0 ? quad.rest_lanes : quad.lanes;
  for (int64_t k = 0; k < (quad.octets > 0 ? quad.map.classes() : quad.rest); ++k) {
    double* const first = sums.first + k * sums.stride;
    double* const second = sums.second + k * sums.stride;
    for (int64_t i = 0; i < groups.count; ++i) {
      const int64_t l = groups.first[i];
      if (l + 16 <= full)
        add_rows<Op, family, centered, true>(quad, k, l, arrays, pivot + l, first + l, second + l);
      else
        add_rows<Op, family, centered, false>(quad, k, l, arrays, pivot + l, first + l, second + l);
    }
  }
}

/// Adds up each channel's 8 slots along the tree; those from `slots` on are 0.
template <Family family>
static inline void fold_slots(const LaneMap<family>& map, int64_t channels, int64_t slots, int64_t stride,
                              const double* sums, double* result) {
  const double* slot[kOctet];
  for (int64_t i = 0; i < kOctet; ++i) slot[i] = i < slots ? sums + map.slot_at(i, stride) : kNoSums;
  const auto fold = [&](auto value_at) {
    return tree_sum(value_at(slot[0]), value_at(slot[1]), value_at(slot[2]), value_at(slot[3]), value_at(slot[4]),
                    value_at(slot[5]), value_at(slot[6]), value_at(slot[7]));
  };
  if constexpr (family == kColumnsPlanar) {
    for (int64_t j = 0; j < channels; ++j) result[j] = fold([&](const double* p) { return p[j * map.order.spatial]; });
  } else {
    for (int64_t j = 0; j < channels; j += 16)
      Element<double>::store_first(result + j, fold([&](const double* p) { return Lanes<double>::load(p + j); }),
                                   channels - j);
  }
}

/// Adds the strips [begin, end) in some groups of lanes.
template <class Op, Family family, bool centered>
static inline void add_block(QuadRows<Op, family>& quad, int64_t begin, int64_t end,
                             const CoefficientArrays<typename Op::A>& arrays, const double* pivot,
                             const LaneGroups& groups, LaneSums& sums) {
  for (int64_t strips = 0; groups.count > 0 && begin < end; begin += strips) {
    strips = quad.go_to(begin, end);
    add_quad<Op, family, centered>(quad, arrays, pivot, groups, sums);
  }
}

/// Reduces one block for the channels [c, c + channels), one tile of lanes.
template <class Op, Family family>
static inline void reduce_tile(const Tile& t, const LaneMap<family>& map, int64_t c, int64_t channels, int64_t b,
                               const LaneArrays<Op, family>& coefficients) {
  const int64_t lanes = map.tile_lanes(channels), strips = strip_count(t.order);
  const int64_t begin = b * kBlockStrips, end = begin + kBlockStrips < strips ? begin + kBlockStrips : strips;
  const int64_t positions = block_length(t.order, b);
  const auto count = static_cast<double>(positions);
  double* const first = t.first + b * t.channels + c;
  double* const second = t.second + b * t.channels + c;
  QuadRows<Op, family> quad(t, map, c, lanes);
  const int64_t classes = map.classes_in(positions);
  LaneSums sums;
  sums.stride = (lanes + 15) / 16 * 16;
  double pivot[kTileLanes];
  bool any = Op::first_pivots(t, c, channels, b, pivot);
  for (bool again = false;; again = true) {
    const LanePivots<Op, family> pivots(pivot, any, map, lanes);
    if (!again) sums.clear(pivots.raw, classes);
    sums.clear(pivots.centered, classes);
    if constexpr (!Op::always_centered)
      if (!again) add_block<Op, family, false>(quad, begin, end, coefficients.arrays, pivots.lane, pivots.raw, sums);
    add_block<Op, family, true>(quad, begin, end, coefficients.arrays, pivots.lane, pivots.centered, sums);
    fold_slots(map, channels, classes * map.class_slots(), sums.stride, sums.first, first);
    fold_slots(map, channels, classes * map.class_slots(), sums.stride, sums.second, second);
    Op::finish(t, c, count, pivot, first, second, channels);
    if (again) return;
    any = Op::second_pivots(count, first, second, channels, pivot);
    if (!any) return;
  }
}

template <class Op, Family family>
BNORM_FLAT void reduce_columns(const Tile& t) {
  const LaneMap<family> map(t);
  const int64_t step = map.tile_channels();
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t channels = t.c1 - c < step ? t.c1 - c : step;
    const LaneArrays<Op, family> coefficients(t, map, c, map.tile_lanes(channels));
    for (int64_t b = t.b0; b < t.b1; ++b) reduce_tile<Op>(t, map, c, channels, b, coefficients);
  }
}

// Rows mapped side by side, so that coefficients are loaded once for all of them: 60 x 100 takes 0.65 of the time. Long
// rows lose more by reading several places of memory at once, most of all where those are a multiple of 4 KB apart.
constexpr int64_t kMappedRows = 4;
constexpr int64_t kMappedLanes = 128;

/// `rows` rows of `lanes` lanes, `stride` apart, under the same coefficients.
template <class Op>
static inline void map_lane_rows(const Tile& t, Cursor<Op> row, int64_t View::*stride, int64_t rows, int64_t lanes,
                                 const CoefficientArrays<typename Op::A>& arrays) {
  const auto coefficients = [&](int64_t l) { return load_coefficients<Op>(arrays, l, lanes - l); };
  const bool joins = !t.stream && lanes <= kMappedLanes;
  for (int64_t joined; rows > 0; rows -= joined) {
    joined = joins ? (rows < kMappedRows ? rows : kMappedRows) : 1;
    for (int64_t l = 0; joins && l < lanes; l += 16) {
      const auto k = coefficients(l);
      Cursor<Op> part = row;
      for (int64_t i = 0; i < joined; ++i, part.advance(t, stride)) {
        if (lanes - l >= 16)
          map_full<Op, false>(part.from, part.to, l, k);
        else
          map_part<Op>(part.from, part.to, l, lanes - l, k);
      }
    }
    if (!joins) map_run<Op>(row.from, row.to, lanes, t.stream, coefficients);
    for (int64_t i = 0; i < joined; ++i) row.advance(t, stride);
  }
}

/// Channels-last: row by row through memory.
template <class Op>
BNORM_FLAT void map_columns(const Tile& t) {
  const int64_t lanes = t.c1 - t.c0;
  const LaneMap<kColumns> map(t);
  const LaneArrays<Op, kColumns> coefficients(t, map, t.c0, lanes);
  // With one position a sample, samples are rows of a single run.
  const bool dense = t.order.spatial == 1;
  const Position begin = dense ? Position{0, t.begin} : first_position(t);
  each_run(dense ? t.end : t.order.spatial, begin, t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
    const Cursor<Op> row(t, dense ? s0 : n, t.c0, dense ? 0 : s0);
    map_lane_rows(t, row, dense ? &View::n : &View::s, s1 - s0, lanes, coefficients.arrays);
  });
}

/// Narrow channels-last: one run of memory under a pattern of 16 positions x C coefficients.
template <class Op>
static void map_columns_narrow(const Tile& t) {
  const LaneMap<kColumnsNarrow> map(t);
  const int64_t pattern = 16 * t.channels;
  const LaneArrays<Op, kColumnsNarrow> coefficients(t, map, 0, pattern);
  const int64_t count = (t.end - t.begin) * t.channels;
  const Position begin = first_position(t);
  Cursor<Op> run(t, begin.n, 0, begin.s);
  for (int64_t i = 0; i < count; i += pattern, run.advance(pattern))
    map_run<Op>(run.from, run.to, count - i < pattern ? count - i : pattern, t.stream,
                [&](int64_t l) { return load_coefficients<Op>(coefficients.arrays, l, pattern - l); });
}

/// Planar with few positions: sample by sample under a tile of (channel, position) coefficients.
template <class Op>
static void map_columns_planar(const Tile& t) {
  const LaneMap<kColumnsPlanar> map(t);
  const int64_t spatial = t.order.spatial, step = map.tile_channels(), n = t.begin / spatial;
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t lanes = (t.c1 - c < step ? t.c1 - c : step) * spatial;
    const LaneArrays<Op, kColumnsPlanar> coefficients(t, map, c, lanes);
    map_lane_rows(t, Cursor<Op>(t, n, c, 0), &View::n, t.end / spatial - n, lanes, coefficients.arrays);
  }
}
