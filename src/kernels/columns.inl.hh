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

/// Coefficient arrays in lane order, the first lane being channel c's. In channels-last they lie so already.
template <class Op, Family family>
struct LaneArrays {
  using A = typename Op::A;
  double mean[kPatternLanes];
  A value[kCoefficients][kPatternLanes];
  CoefficientArrays<A> arrays;

  LaneArrays(const Tile& t, const LaneMap<family>& map, int64_t c, int64_t lanes) : arrays(arrays_of<A>(t)) {
    constexpr int begin = Op::coefficient_begin, end = Op::coefficient_end;
    if constexpr (family == kColumns) {
      if (arrays.mean) arrays.mean += c;
      for (int k = begin; k < end; ++k) arrays.value[k] += c;
    } else {
      if constexpr (Op::uses_mean)
        if (arrays.mean) arrays.mean = spread(arrays.mean + c, mean, map, lanes);
      for (int k = begin; k < end; ++k) arrays.value[k] = spread(arrays.value[k] + c, value[k], map, lanes);
    }
  }

  /// The channels' values by lane, zeros up to a multiple of 16.
  template <class V>
  static const V* spread(const V* from, V* to, const LaneMap<family>& map, int64_t lanes) {
    const int64_t period = family == kColumnsNarrow ? map.channels : lanes;
    const int64_t positions = family == kColumnsPlanar ? map.order.spatial : 1;
    int64_t l = 0;
    for (int64_t j = 0; l < lanes && l < period; ++j)
      for (int64_t s = 0; s < positions; ++s) to[l++] = from[j];
    for (; l < lanes; ++l) to[l] = to[l - period];
    for (; l % 16 != 0; ++l) to[l] = 0;
    return to;
  }
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
    const int64_t n = wide ? strip / o.strips_per_sample : strip * 2 * o.octet_samples;
    const int64_t s = wide ? strip % o.strips_per_sample * kStrip : 0;
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

/// Summands of a row's next 16 lanes, of which `left` exist. The others count 0, as their coefficients are 0 too.
template <class Op>
static inline BNORM_IN_LOOP Summands row_summands(const typename Op::Type* const* from, int64_t left,
                                                  const Coefficients<typename Op::A>& k) {
  using In = Input<typename Op::Type>;
  constexpr int reads = Op::read_count;
  In in[reads];
  if (left >= 16)
    each<0, reads>([&](auto r) { in[r] = In::load(from[r]); });
  else
    each<0, reads>([&](auto r) { in[r] = In::load_first(from[r], left); });
  return Op::summands(in, k);
}

/// Adds the rows of class k to the sums of 16 lanes from l on, of which `left` exist: in some strips, one behind the
/// other. A row that does not exist counts 0: it is left out, which gives the same bits, since a sum is never -0. Only
/// a strip on its own may lack rows or parts of rows.
template <class Op, Family family, int strips>
static inline BNORM_IN_LOOP void add_rows(const StripRows<Op, family>& rows, int64_t k, int64_t l, int64_t left,
                                          const CoefficientArrays<typename Op::A>& arrays, double* first,
                                          double* second) {
  constexpr int reads = Op::read_count;
  const auto coefficients = load_coefficients<Op>(arrays, l, left);
  const auto summands = [&](int64_t strip, int64_t octet) BNORM_IN_LOOP {
    const typename Op::Type* row[reads];
    for (int r = 0; r < reads; ++r)
      row[r] = rows.base[r] + rows.class_offset[r][k] + l + (2 * strip + octet) * rows.octet_offset[r];
    if (strips > 1 || family != kColumnsNarrow) return row_summands<Op>(row, left, coefficients);
    const int64_t width = rows.width[octet] - l;
    const Summands a = row_summands<Op>(row, width, coefficients);
    return Summands{keep(a.first, width, width - 8), keep(a.second, width, width - 8)};
  };
  Lanes<double> sum = Lanes<double>::load(first), sum_2 = Lanes<double>::load(second);
  each<0, strips>([&](auto j) BNORM_IN_LOOP {
    Summands a = summands(j, 0);
    if (strips > 1 || k < rows.classes[1]) {
      const Summands b = summands(j, 1);
      a.first = a.first + b.first;
      a.second = a.second + b.second;
    }
    sum = sum + a.first;
    sum_2 = sum_2 + a.second;
  });
  sum.store(first);
  sum_2.store(second);
}

/// Adds all rows of some strips.
template <class Op, Family family, int strips>
static inline void add_strips(const StripRows<Op, family>& rows, int64_t stride,
                              const CoefficientArrays<typename Op::A>& arrays, double* first, double* second) {
  for (int64_t k = 0; k < rows.classes[0]; ++k, first += stride, second += stride) {
    int64_t l = 0;
    if (strips > 1)
      for (; l + 16 <= rows.lanes; l += 16) add_rows<Op, family, strips>(rows, k, l, 16, arrays, first + l, second + l);
    for (; l < rows.lanes; l += 16)
      add_rows<Op, family, strips>(rows, k, l, rows.lanes - l, arrays, first + l, second + l);
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
      fold([&](const double* p) { return Lanes<double>::load(p + j); }).store_first(result + j, channels - j);
  }
}

/// The pivots of the channels [c, c + channels): their values at p.
template <class T, Family family>
static inline void load_pivots(const View& x, Position p, int64_t c, int64_t channels, double* pivot) {
  const T* const from = at<T>(x, p.n, c, p.s);
  const int64_t step = family == kColumnsPlanar ? x.c : 1;
  for (int64_t j = 0; j < channels; ++j) pivot[j] = Element<T>::widen_one(from[j * step]);
}

/// Adds the strips [begin, end) to zeroed sums; returns how many slots of a channel they fill, all 8 or the first ones.
template <class Op, Family family>
static inline int64_t add_block(StripRows<Op, family>& rows, int64_t begin, int64_t end, int64_t stride,
                                const CoefficientArrays<typename Op::A>& arrays, double* first, double* second) {
  int64_t whole = rows.go_to(begin);
  const int64_t classes = end - begin == 1 ? rows.classes[0] : rows.map.classes();
  for (int64_t i = 0; i < classes * stride; ++i) first[i] = second[i] = 0;
  while (begin < end) {
    const bool join = kJoinedStrips > 1 && whole >= kJoinedStrips && end - begin >= kJoinedStrips;
    if (join)
      add_strips<Op, family, kJoinedStrips>(rows, stride, arrays, first, second);
    else
      add_strips<Op, family, 1>(rows, stride, arrays, first, second);
    begin += join ? kJoinedStrips : 1;
    if (begin < end) whole = rows.go_to(begin);
  }
  return classes * rows.map.class_slots();
}

/// Reduces one block for the channels [c, c + channels), one tile of lanes.
template <class Op, Family family>
static inline void reduce_tile(const Tile& t, const LaneMap<family>& map, int64_t c, int64_t channels, int64_t b,
                               LaneArrays<Op, family>& coefficients) {
  const int64_t lanes = map.tile_lanes(channels), stride = (lanes + 15) / 16 * 16;
  const Position begin = strip_position(t.order, b * kBlockStrips);
  const int64_t count = block_begin(t.order, b + 1) - (begin.n * t.order.spatial + begin.s);
  const int64_t strips = strip_count(t.order), end = (b + 1) * kBlockStrips;
  double pivot[kTileLanes];
  double* const first = t.first + b * t.channels + c;
  double* const second = t.second + b * t.channels + c;
  StripRows<Op, family> rows(t, map, c, lanes);
  for (int pass = 0; pass < Op::passes; ++pass) {
    if constexpr (Op::takes_pivot) {
      if (pass == 0)
        load_pivots<typename Op::Type, family>(t.tensor[kX], begin, c, channels, pivot);
      else
        __builtin_memcpy(pivot, first, static_cast<size_t>(channels) * sizeof *pivot);
      coefficients.arrays.mean = coefficients.spread(pivot, coefficients.mean, map, lanes);
    }
    alignas(64) double sums[2][kOctet * kTileLanes];
    const int64_t slots =
        add_block(rows, b * kBlockStrips, end < strips ? end : strips, stride, coefficients.arrays, sums[0], sums[1]);
    fold_slots(map, channels, slots, stride, sums[0], first);
    fold_slots(map, channels, slots, stride, sums[1], second);
    Op::finish(static_cast<double>(count), pivot, first, second, channels);
  }
}

template <class Op, Family family>
BNORM_FLAT void reduce_columns(const Tile& t) {
  const LaneMap<family> map(t);
  const int64_t step = map.tile_channels();
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t channels = t.c1 - c < step ? t.c1 - c : step;
    LaneArrays<Op, family> coefficients(t, map, c, map.tile_lanes(channels));
    for (int64_t b = t.b0; b < t.b1; ++b) reduce_tile<Op>(t, map, c, channels, b, coefficients);
  }
}

/// Channels-last: row by row through memory.
template <class Op>
BNORM_FLAT void map_columns(const Tile& t) {
  const LaneMap<kColumns> map(t);
  const LaneArrays<Op, kColumns> coefficients(t, map, t.c0, t.c1 - t.c0);
  each_run(t.order.spatial, first_position(t), t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
    Cursor<Op> row(t, n, t.c0, s0);
    for (int64_t s = s0; s < s1; ++s, row.advance(t, &View::s))
      map_run<Op>(row.from, row.to, t.c1 - t.c0, t.stream,
                  [&](int64_t l) { return load_coefficients<Op>(coefficients.arrays, l, t.c1 - t.c0 - l); });
  });
  if (t.stream) finish_stores();
}

/// Narrow channels-last: one run of memory under a pattern of 16 positions x C coefficients.
template <class Op>
static void map_columns_narrow(const Tile& t) {
  const LaneMap<kColumnsNarrow> map(t);
  const int64_t pattern = 16 * t.channels, spatial = t.order.spatial;
  const LaneArrays<Op, kColumnsNarrow> coefficients(t, map, 0, pattern);
  const int64_t count = (t.end - t.begin) * t.channels;
  Cursor<Op> run(t, t.begin / spatial, 0, t.begin % spatial);
  for (int64_t i = 0; i < count; i += pattern, run.advance(pattern))
    map_run<Op>(run.from, run.to, count - i < pattern ? count - i : pattern, t.stream,
                [&](int64_t l) { return load_coefficients<Op>(coefficients.arrays, l, pattern - l); });
  if (t.stream) finish_stores();
}

/// Planar with few positions: sample by sample under a tile of (channel, position) coefficients.
template <class Op>
static void map_columns_planar(const Tile& t) {
  const LaneMap<kColumnsPlanar> map(t);
  const int64_t spatial = t.order.spatial, step = map.tile_channels();
  const int64_t n0 = t.begin / spatial, n1 = t.end / spatial;
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t lanes = (t.c1 - c < step ? t.c1 - c : step) * spatial;
    const LaneArrays<Op, kColumnsPlanar> coefficients(t, map, c, lanes);
    for (int64_t n = n0; n < n1; ++n) {
      const Cursor<Op> row(t, n, c, 0);
      map_run<Op>(row.from, row.to, lanes, t.stream,
                  [&](int64_t l) { return load_coefficients<Op>(coefficients.arrays, l, lanes - l); });
    }
  }
  if (t.stream) finish_stores();
}
