// SPDX-License-Identifier: Apache-2.0
// Columns: a memory row holds many lanes, each with statistics of its own; rows are added lane by lane.
//   kColumns        lane = channel                      row = position
//   kColumnsNarrow  lane = (position in octet, channel) row = octet             (channels-last, C < 16)
//   kColumnsPlanar  lane = (channel, position)          row = sample            (planar, 2 <= S <= 8)
// Rows belong to classes; (class, lane) is one of the 8 slots of a channel (docs/numerics.md).
#pragma once

// Lanes worked on at once, so that rows are read in runs of 1 KB of f32. Their sums, 8 classes x 2 in f64, are 32 KB.
constexpr int64_t kTileLanes = 256;
// Strips added to a sum between its load and its store: sums come from L1 or L2 for a quarter of the rows. With 4, and
// runs of 1 KB, moments take 0.64 of the time that single strips in runs of 256 bytes take (1 x 256 x 3136, AVX-512 and
// AVX2). Registers of two f64 can't hold the sums: with 4, 60 x 100 takes 1.15 of the time.
constexpr int64_t kJoinedStrips = Part<double>::size >= 4 ? 4 : 1;
// The longest pattern of lanes: 16 positions x 15 channels.
constexpr int64_t kPatternLanes = 16 * 15 + 16;
static_assert(kPatternLanes >= kTileLanes);

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
  for (; l < lanes; ++l) to[l] = to[l - period];
  for (; l % 16 != 0; ++l) to[l] = 0;
  return to;
}

/// Coefficient arrays in lane order, the first lane being channel c's. In channels-last they lie so already.
template <class Op, Family family>
struct LaneArrays {
  using A = typename Op::A;
  A value[kCoefficients][kPatternLanes];
  CoefficientArrays<A> arrays;

  LaneArrays(const Tile& t, const LaneMap<family>& map, int64_t c, int64_t lanes) : arrays(arrays_of<A>(t)) {
    for (int k = Op::coefficient_begin; k < Op::coefficient_end; ++k) {
      arrays.value[k] += c;
      if constexpr (family != kColumns) arrays.value[k] = spread(arrays.value[k], value[k], map, lanes);
    }
  }
};

/// Groups of 16 lanes, by their first.
struct LaneGroups {
  int64_t count = 0;
  int64_t first[kPatternLanes / 16];

  void add(int64_t l) { first[count++] = l; }
};

/// The pivots of a tile in lane order, and the groups of lanes without and with any.
template <class Op, Family family>
struct LanePivots {
  double lane[kPatternLanes];
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

/// Where the rows of a strip lie: that of class k in octet h is class_offset[k] + h * octet_offset behind the first.
template <class Op, Family family>
struct StripRows {
  using T = typename Op::Type;
  static constexpr int reads = Op::read_count;

  const LaneMap<family>& map;
  const View* view[reads];
  int64_t channel, lanes;
  int64_t class_offset[reads][kOctet], octet_offset[reads];
  const T* base[reads];  // first element of the strip
  int64_t classes[2];    // that have a row in octet h
  int64_t width[2];      // lanes of such a row

  StripRows(const Tile& t, const LaneMap<family>& m, int64_t first_channel, int64_t tile_lanes)
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

  /// Returns how many whole strips of the same sample begin here.
  int64_t go_to(int64_t strip) {
    const Order& o = map.order;
    const bool wide = o.strips_per_sample > 0;
    const auto [n, s] = strip_position(o, strip);
    for (int r = 0; r < reads; ++r) base[r] = at<T>(*view[r], n, channel, s);
    for (int64_t h = 0; h < 2; ++h) {
      const int64_t positions = wide ? o.spatial - s - h * kOctet : (o.batch - n - h * o.octet_samples) * o.spatial;
      const int64_t rows = family == kColumnsPlanar ? positions / o.spatial : positions;
      classes[h] = rows < map.classes() ? (rows > 0 ? rows : 0) : map.classes();
      width[h] = family == kColumnsNarrow && positions * map.channels < lanes ? positions * map.channels : lanes;
    }
    return wide ? (o.spatial - s) / kStrip : (o.batch - n) / (2 * o.octet_samples);
  }
};

/// Adds the rows of class k to the sums of 16 lanes from l on: of some whole strips, one behind the other, or of one
/// that may lack rows or parts of rows. Unless `full`, only `left` lanes exist; the others count 0, as their pivots are
/// 0 too. A row that does not exist counts 0: it is left out, which gives the same bits, since a sum is never -0.
template <class Op, Family family, bool centered, bool full>
static inline BNORM_IN_LOOP void add_rows(const StripRows<Op, family>& rows, int64_t strips, int64_t k, int64_t l,
                                          int64_t left, const CoefficientArrays<typename Op::A>& arrays,
                                          const double* pivot, double* first, double* second) {
  using In = Input<typename Op::Type>;
  constexpr int reads = Op::read_count;
  constexpr bool exact = Op::template exact<centered>;
  const auto coefficients = load_coefficients<Op>(arrays, l, full ? 16 : left);
  const auto pivots = Lanes<double>::load(pivot);
  const auto terms = [&](int64_t octet) BNORM_IN_LOOP {
    In in[reads];
    const int64_t width = family == kColumnsNarrow ? rows.width[octet % 2] - l : left;
    each<0, reads>([&](auto r) BNORM_IN_LOOP {
      const auto* const from = rows.base[r] + rows.class_offset[r][k] + l + octet * rows.octet_offset[r];
      in[r] = full ? In::load(from) : In::load_first(from, width);
    });
    const auto a = Op::template terms<centered>(in, coefficients, pivots);
    return family == kColumnsNarrow && !full ? keep<centered>(a, width, width - 8) : a;
  };
  Sums<Lanes<double>> sums = {Lanes<double>::load(first), Lanes<double>::load(second)};
  if (k < rows.classes[1])
    for (int64_t j = 0; j < strips; ++j) sums.template grow<exact>(terms(2 * j), terms(2 * j + 1));
  else
    sums.grow(terms(0));
  sums.first.store(first);
  sums.second.store(second);
}

/// Adds all rows of some strips, in some groups of lanes.
template <class Op, Family family, bool centered>
static inline void add_strips(const StripRows<Op, family>& rows, int64_t strips,
                              const CoefficientArrays<typename Op::A>& arrays, const double* pivot,
                              const LaneGroups& groups, LaneSums& sums) {
  const int64_t full = rows.lanes < rows.width[1] ? rows.lanes : rows.width[1];
  for (int64_t k = 0; k < rows.classes[0]; ++k) {
    double* const first = sums.first + k * sums.stride;
    double* const second = sums.second + k * sums.stride;
    for (int64_t i = 0; i < groups.count; ++i) {
      const int64_t l = groups.first[i], left = rows.lanes - l;
      if (l + 16 <= full)
        add_rows<Op, family, centered, true>(rows, strips, k, l, 16, arrays, pivot + l, first + l, second + l);
      else
        add_rows<Op, family, centered, false>(rows, strips, k, l, left, arrays, pivot + l, first + l, second + l);
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
static inline void add_block(StripRows<Op, family>& rows, int64_t begin, int64_t end,
                             const CoefficientArrays<typename Op::A>& arrays, const double* pivot,
                             const LaneGroups& groups, LaneSums& sums) {
  if (groups.count == 0) return;
  for (int64_t strips = 0; begin < end; begin += strips) {
    const int64_t whole = rows.go_to(begin), most = end - begin < kJoinedStrips ? end - begin : kJoinedStrips;
    strips = whole == 0 ? 1 : (whole < most ? whole : most);
    add_strips<Op, family, centered>(rows, strips, arrays, pivot, groups, sums);
  }
}

/// Reduces one block for the channels [c, c + channels), one tile of lanes.
template <class Op, Family family>
static inline void reduce_tile(const Tile& t, const LaneMap<family>& map, int64_t c, int64_t channels, int64_t b,
                               const LaneArrays<Op, family>& coefficients) {
  const int64_t lanes = map.tile_lanes(channels), strips = strip_count(t.order);
  const int64_t begin = b * kBlockStrips, end = begin + kBlockStrips < strips ? begin + kBlockStrips : strips;
  const auto count = static_cast<double>(block_length(t.order, b));
  double* const first = t.first + b * t.channels + c;
  double* const second = t.second + b * t.channels + c;
  StripRows<Op, family> rows(t, map, c, lanes);
  rows.go_to(begin);
  // All 8 slots of a channel, or the first ones.
  const int64_t classes = end - begin == 1 ? rows.classes[0] : map.classes();
  LaneSums sums;
  sums.stride = (lanes + 15) / 16 * 16;
  double pivot[kTileLanes];
  bool any = Op::first_pivots(t, c, channels, b, pivot);
  for (bool again = false;; again = true) {
    const LanePivots<Op, family> pivots(pivot, any, map, lanes);
    if (!again) sums.clear(pivots.raw, classes);
    sums.clear(pivots.centered, classes);
    if constexpr (!Op::always_centered)
      if (!again) add_block<Op, family, false>(rows, begin, end, coefficients.arrays, pivots.lane, pivots.raw, sums);
    add_block<Op, family, true>(rows, begin, end, coefficients.arrays, pivots.lane, pivots.centered, sums);
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
