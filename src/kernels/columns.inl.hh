// SPDX-License-Identifier: Apache-2.0
// Columns: a memory row holds many lanes, each with statistics of its own; rows are added lane by lane.
//   kColumns        lane = channel                      row = position
//   kColumnsNarrow  lane = (position in octet, channel) row = octet             (channels-last, C < 16)
//   kColumnsPlanar  lane = (channel, position)          row = sample            (planar, 2 <= S <= 8)
// Rows belong to classes; (class, lane) is one of the 8 slots of a channel (docs/numerics.md).
#pragma once

// Lanes worked on at once: 8 classes x 64 lanes x 2 sums of f64 = 8 KB of the smallest L1, 32 KB.
constexpr int64_t kTileLanes = 64;
// The longest pattern of lanes: 16 positions x 15 channels.
constexpr int64_t kPatternLanes = 16 * 15 + 16;
// Strips added between two loads of the sums: up to 128 rows, whose offsets fill at most 3 KB of stack.
constexpr int64_t kChunkStrips = 8;

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
  int64_t lane(int64_t channel) const { return family == kColumnsPlanar ? channel * order.spatial : channel; }
  int64_t channel(int64_t lane) const {
    if (family == kColumnsNarrow) return lane % channels;
    return family == kColumnsPlanar ? lane / order.spatial : lane;
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
  int64_t slots() const { return octet_positions(); }
  /// Where a slot of the tile's first channel stands in the sums of `stride` lanes a class; channel_stride to the next.
  int64_t slot_at(int64_t slot, int64_t stride) const {
    if (family == kColumns) return slot * stride;
    if (family == kColumnsNarrow) return slot * channels;
    return slot / order.spatial * stride + slot % order.spatial;
  }
  int64_t channel_stride() const { return family == kColumnsPlanar ? order.spatial : 1; }
};

/// Coefficient arrays in lane order, from lane 0 = `first_lane`. In channels-last they lie so already.
template <class Op, Family family>
struct LaneArrays {
  using A = typename Op::A;
  double mean[kPatternLanes];
  A value[kCoefficients][kPatternLanes];
  CoefficientArrays<A> arrays;

  LaneArrays(const Tile& t, const LaneMap<family>& map, int64_t first_lane, int64_t lanes) : arrays(arrays_of<A>(t)) {
    constexpr int begin = Op::coefficient_begin, end = Op::coefficient_end;
    if constexpr (family == kColumns) {
      if (arrays.mean) arrays.mean += first_lane;
      for (int k = begin; k < end; ++k) arrays.value[k] += first_lane;
    } else {
      if constexpr (Op::uses_mean)
        if (arrays.mean) arrays.mean = spread(arrays.mean, mean, map, first_lane, lanes);
      for (int k = begin; k < end; ++k) arrays.value[k] = spread(arrays.value[k], value[k], map, first_lane, lanes);
    }
  }

  template <class V>
  static const V* spread(const V* from, V* to, const LaneMap<family>& map, int64_t first_lane, int64_t lanes) {
    for (int64_t l = 0; l < lanes; ++l) to[l] = from[map.channel(first_lane + l)];
    for (int64_t l = lanes; l % 16 != 0; ++l) to[l] = 0;
    return to;
  }
};

/// The rows of up to kChunkStrips strips, by class: for each octet of each strip its element offset in each tensor and
/// how many lanes it has (0: no such row).
template <int reads>
struct RowTable {
  int64_t offset[reads][kOctet][kChunkStrips][2];
  int64_t width[kOctet][kChunkStrips][2];
  int64_t strips;
};

template <class Op, Family family>
static inline void list_rows(const Tile& t, const LaneMap<family>& map, int64_t strip, int64_t strips, int64_t lanes,
                             RowTable<Op::read_count>& rows) {
  const Order& o = t.order;
  const int64_t classes = map.classes();
  int64_t class_n[kOctet], class_s[kOctet];
  for (int64_t k = 0; k < classes; ++k) {
    class_n[k] = o.spatial > kOctet ? 0 : (family == kColumns ? k / o.spatial : k);
    class_s[k] = family != kColumns ? 0 : (o.spatial > kOctet ? k : k % o.spatial);
  }
  rows.strips = strips;
  for (int64_t u = 0; u < strips; ++u) {
    const bool wide = o.spatial > kOctet;
    const int64_t strip_n = wide ? (strip + u) / o.strips_per_sample : (strip + u) * 2 * o.octet_samples;
    const int64_t strip_s = wide ? (strip + u) % o.strips_per_sample * kStrip : 0;
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t k = 0; k < classes; ++k) {
        const int64_t n = strip_n + (wide ? 0 : h * o.octet_samples) + class_n[k];
        const int64_t s = strip_s + (wide ? h * kOctet : 0) + class_s[k];
        int64_t width = n < o.batch && s < o.spatial ? lanes : 0;
        if (family == kColumnsNarrow && width > 0) {
          const int64_t left = (wide ? o.spatial - s : (o.batch - n) * o.spatial) * t.channels;
          width = left < lanes ? left : lanes;
        }
        rows.width[k][u][h] = width;
        for (int r = 0; r < Op::read_count; ++r) {
          const View& v = t.tensor[Op::reads[r]];
          rows.offset[r][k][u][h] = n * v.n + s * v.s;
        }
      }
  }
}

/// Summands of one row's lanes l .. l + 15, of which `left` exist; the others are 0.
template <class Op>
static inline Summands row_summands(const typename Op::Type* const* from, int64_t left,
                                    const Coefficients<typename Op::A>& k) {
  using E = Element<typename Op::Type>;
  constexpr int reads = Op::read_count;
  Lanes<typename Op::A> in[reads];
  if (left >= 16) {
    for (int r = 0; r < reads; ++r) in[r] = E::load(from[r]);
    return Op::summands(in, k);
  }
  const int64_t lanes = left > 0 ? left : 0, lo = lanes < 8 ? lanes : 8;
  for (int r = 0; r < reads; ++r) in[r] = E::load_first(from[r], lanes);
  const Summands a = Op::summands(in, k);
  return {keep(a.first, lo, lanes - lo), keep(a.second, lo, lanes - lo)};
}

/// Adds the listed rows to the sums of `lanes` lanes, class by class.
template <class Op>
static inline void add_rows(const typename Op::Type* const* base, const RowTable<Op::read_count>& rows, int64_t classes,
                            int64_t lanes, int64_t stride, const CoefficientArrays<typename Op::A>& arrays,
                            double* first, double* second) {
  constexpr int reads = Op::read_count;
  for (int64_t k = 0; k < classes; ++k)
    for (int64_t l = 0; l < lanes; l += 16) {
      const auto coefficients = load_coefficients<Op>(arrays, l, lanes - l);
      double* const p = first + k * stride + l;
      double* const q = second + k * stride + l;
      Lanes<double> sum_p = Lanes<double>::load(p), sum_q = Lanes<double>::load(q);
      for (int64_t u = 0; u < rows.strips; ++u) {
        Summands a[2];
        for (int h = 0; h < 2; ++h) {
          const typename Op::Type* from[reads];
          for (int r = 0; r < reads; ++r) from[r] = base[r] + rows.offset[r][k][u][h] + l;
          a[h] = row_summands<Op>(from, rows.width[k][u][h] - l, coefficients);
        }
        sum_p = sum_p + (a[0].first + a[1].first);
        sum_q = sum_q + (a[0].second + a[1].second);
      }
      sum_p.store(p);
      sum_q.store(q);
    }
}

/// Adds up each channel's 8 slots along the tree; those that the geometry lacks are 0.
template <Family family>
static inline void fold_slots(const LaneMap<family>& map, int64_t channels, int64_t stride, const double* sums,
                              double* result) {
  const double* slot[kOctet];
  for (int64_t i = 0; i < kOctet; ++i) slot[i] = i < map.slots() ? sums + map.slot_at(i, stride) : kNoSums;
  const int64_t step = map.channel_stride();
  for (int64_t j = 0; j < channels; ++j) {
    const int64_t i = j * step;
    result[j] =
        tree_sum(slot[0][i], slot[1][i], slot[2][i], slot[3][i], slot[4][i], slot[5][i], slot[6][i], slot[7][i]);
  }
}

/// Reduces one block for the channels [c, c + channels), one tile of lanes.
template <class Op, Family family>
static inline void reduce_tile(const Tile& t, const LaneMap<family>& map, int64_t c, int64_t channels, int64_t b,
                               LaneArrays<Op, family>& coefficients) {
  using T = typename Op::Type;
  constexpr int reads = Op::read_count;
  const int64_t lanes = map.tile_lanes(channels), stride = (lanes + 15) / 16 * 16;
  const int64_t begin = block_begin(t.order, b), end = block_begin(t.order, b + 1), last = strip_count(t.order);
  double pivot[kTileLanes] = {};
  double* const first = t.first + b * t.channels + c;
  double* const second = t.second + b * t.channels + c;
  const T* base[reads];
  for (int r = 0; r < reads; ++r) base[r] = at<T>(t.tensor[Op::reads[r]], 0, c, 0);
  for (int pass = 0; pass < Op::passes; ++pass) {
    if constexpr (Op::takes_pivot) {
      for (int64_t j = 0; j < channels; ++j)
        pivot[j] =
            pass > 0
                ? first[j]
                : Element<T>::widen_one(*at<T>(t.tensor[kX], begin / t.order.spatial, c + j, begin % t.order.spatial));
      for (int64_t l = 0; l < stride; ++l) coefficients.mean[l] = l < lanes ? pivot[map.channel(l)] : 0;
      coefficients.arrays.mean = coefficients.mean;
    }
    alignas(64) double sums[2][kOctet * kTileLanes];
    for (int64_t i = 0; i < map.classes() * stride; ++i) sums[0][i] = sums[1][i] = 0;
    RowTable<reads> rows;
    for (int64_t strip = b * kBlockStrips; strip < last && strip < (b + 1) * kBlockStrips; strip += kChunkStrips) {
      const int64_t strips = last - strip < kChunkStrips ? last - strip : kChunkStrips;
      list_rows<Op>(t, map, strip, strips, lanes, rows);
      add_rows<Op>(base, rows, map.classes(), lanes, stride, coefficients.arrays, sums[0], sums[1]);
    }
    fold_slots(map, channels, stride, sums[0], first);
    fold_slots(map, channels, stride, sums[1], second);
    for (int64_t j = 0; j < channels; ++j) Op::finish(static_cast<double>(end - begin), pivot[j], first[j], second[j]);
  }
}

template <class Op, Family family>
static void reduce_columns(const Tile& t) {
  const LaneMap<family> map(t);
  const int64_t step = map.tile_channels();
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t channels = t.c1 - c < step ? t.c1 - c : step;
    LaneArrays<Op, family> coefficients(t, map, map.lane(c), map.tile_lanes(channels));
    for (int64_t b = t.b0; b < t.b1; ++b) reduce_tile<Op>(t, map, c, channels, b, coefficients);
  }
}

/// Channels-last: row by row through memory.
template <class Op>
static void map_columns(const Tile& t) {
  const LaneMap<kColumns> map(t);
  const LaneArrays<Op, kColumns> coefficients(t, map, t.c0, t.c1 - t.c0);
  each_run(t.order.spatial, block_begin(t.order, t.b0), block_begin(t.order, t.b1),
           [&](int64_t n, int64_t s0, int64_t s1) {
             Cursor<Op> row(t, n, t.c0, s0);
             for (int64_t s = s0; s < s1; ++s, row.advance(t))
               map_run<Op>(row.from, row.to, t.c1 - t.c0,
                           [&](int64_t l) { return load_coefficients<Op>(coefficients.arrays, l, t.c1 - t.c0 - l); });
           });
}

/// Narrow channels-last: one run of memory under a pattern of 16 positions x C coefficients.
template <class Op>
static void map_columns_narrow(const Tile& t) {
  const LaneMap<kColumnsNarrow> map(t);
  const int64_t pattern = 16 * t.channels, spatial = t.order.spatial;
  const LaneArrays<Op, kColumnsNarrow> coefficients(t, map, 0, pattern);
  const int64_t begin = block_begin(t.order, t.b0), count = (block_begin(t.order, t.b1) - begin) * t.channels;
  Cursor<Op> run(t, begin / spatial, 0, begin % spatial);
  for (int64_t i = 0; i < count; i += pattern, run.advance(pattern))
    map_run<Op>(run.from, run.to, count - i < pattern ? count - i : pattern,
                [&](int64_t l) { return load_coefficients<Op>(coefficients.arrays, l, pattern - l); });
}

/// Planar with few positions: sample by sample under a tile of (channel, position) coefficients.
template <class Op>
static void map_columns_planar(const Tile& t) {
  const LaneMap<kColumnsPlanar> map(t);
  const int64_t spatial = t.order.spatial, step = map.tile_channels();
  const int64_t n0 = block_begin(t.order, t.b0) / spatial, n1 = block_begin(t.order, t.b1) / spatial;
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t lanes = (t.c1 - c < step ? t.c1 - c : step) * spatial;
    const LaneArrays<Op, kColumnsPlanar> coefficients(t, map, c * spatial, lanes);
    for (int64_t n = n0; n < n1; ++n) {
      const Cursor<Op> row(t, n, c, 0);
      map_run<Op>(row.from, row.to, lanes,
                  [&](int64_t l) { return load_coefficients<Op>(coefficients.arrays, l, lanes - l); });
    }
  }
}
