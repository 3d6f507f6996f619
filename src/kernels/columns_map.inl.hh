// SPDX-License-Identifier: Apache-2.0
// Maps of columns: rows in the order of memory, each lane under the coefficients of its channel.
#pragma once

// Rows mapped side by side, so that coefficients are loaded once for all of them, where they are not made longer
// (map_row): few rows, or with gaps between them, or of 16-bit types.
// Longer rows lose by reading several places of memory at once (planar 32x512x4, whose rows are 8 KB apart, takes 1.2),
// unless they adjoin and come from L2: inference of 8x256x49 takes 0.82, of 8x512x49 0.89, of 8x512x98 1.0 (AVX-512).
// Rows so wide that their coefficients are gone from L1 when the next row asks for them gain, too: inference of
// 8x2048x49 takes 0.74, of 256x4096 0.65, backward 0.79 and 0.77, while 8x1024x49 would take 1.2 and 1.04 (L1 of 32
// KB). Rows of twins also where they go around the caches in whole lines: bf16 of 50x64x3136 takes 0.71.
constexpr int64_t kMappedRows = 4;
constexpr int64_t kMappedLanes = 128, kMappedLanesInL2 = 512;
// Lanes of rows that adjoin and are mapped as one (map_row), where that makes so many rows: fewer do not repay
// spreading the coefficients.
constexpr int64_t kLongerRowLanes = 512, kLongerRows = 12;
static_assert(kLongerRowLanes <= kTileLanes);

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

/// Coefficients of each lane of a row.
template <class Op>
struct LaneCoefficients {
  using A = typename Op::A;
  // SSE4.2 has no room for them within 1 MiB; a row at a time AVX2 gains nothing.
  static constexpr bool has_joined_twins = Op::has_twins && Part<float>::size >= 8;
  static constexpr bool has_twins = Op::has_twins && Part<float>::size == 16;
  static constexpr bool fetches_to_l2 = !Op::has_halves;  // else bf16 of 50x256x784 infers in 1.1
  CoefficientArrays<A> arrays;

  inline BNORM_IN_LOOP Coefficients<A> at(int64_t l, int64_t left) const {
    return load_coefficients<Op>(arrays, l, left);
  }
  template <bool odd>
  inline BNORM_IN_LOOP Coefficients<A> twin(int64_t l) const {
    Coefficients<A> r;
    each<Op::coefficient_begin, Op::coefficient_end>([&](auto k) BNORM_IN_LOOP {
      const A* const from = arrays.value[k] + l;
      r.value[k] = every_other<odd>(Lanes<A>::load(from), Lanes<A>::load(from + kStrip));
    });
    return r;
  }
};

/// Fetches what a map reads kAheadInMemory elements after a row, where gaps between rows end what the hardware fetches
/// by itself. Inference of half the channels of 32x128x3136 takes 0.57 of the time, training 0.74 (1 thread, AVX-512).
template <class Op>
static inline BNORM_IN_LOOP void fetch_beyond_gaps(const Cursor<Op>& row, const RowStep<Op>& step, int64_t rows,
                                                   int64_t lanes) {
  each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP {
    if (step.from[r] == lanes || is_of_row<Op>(r)) return;
    const From<Op> later = row.from[r] + step.from[r] * rows;
    for (int64_t l = 0; l < lanes; l += kStrip)
      fetch(Element<typename Op::Type>::place(later + l), LaneCoefficients<Op>::fetches_to_l2);
  });
}

/// The lanes of `rows` rows side by side that make twins; returns where the others begin.
template <class Op>
static inline BNORM_IN_LOOP int64_t map_joined_twins(const Cursor<Op>& first, const RowStep<Op>& step, int64_t rows,
                                                     int64_t lanes, const MapPath& path,
                                                     const LaneCoefficients<Op>& coefficients,
                                                     const typename Op::Form& form) {
  int64_t l = 0;
  for (; l + kTwins <= lanes; l += kTwins) {
    const auto even = coefficients.template twin<false>(l), odd = coefficients.template twin<true>(l);
    Cursor<Op> row = first;
    for (int64_t i = 0; i < rows; ++i, step.take(row)) {
      path.stream ? fetch_reads<Op>(row.from, l, path.ahead, coefficients.fetches_to_l2) : fetch_ahead<Op>(row.to, l);
      map_twin<Op>(row.from, row.to, l, path.stream, even, odd, form);
    }
  }
  return l;
}

/// Whether several rows that adjoin may be one (map_row). Those with 16-bit types are mapped side by side, as are
/// scalars, for which coefficients are half of the loads: 8x64x784 would infer in 1.8.
template <class Op>
constexpr bool makes_longer_rows = Op::shares_lines && !Op::has_halves && Part<float>::size > 1;

/// Whether rows are mapped side by side; `longer`: each is several already.
template <class Op>
static inline bool rows_join(const Tile& t, const To<Op>& to, const RowStep<Op>& step, int64_t rows, int64_t lanes,
                             bool twins, bool longer) {
  const bool adjoin = step.from[0] == lanes;
  // Beyond L2 planar 1024x32x4, whose rows are of all channels, infers so in 0.87 of the time, trains in 0.93.
  const bool alone = makes_longer_rows<Op> && adjoin && (longer || !t.in_l2);
  const bool few = !alone && lanes <= (adjoin && t.in_l2 ? kMappedLanesInL2 : kMappedLanes);
  // The least that a map has: center, gain and offset. Halves are slower than their coefficients: f16 infers in 1.16.
  const int64_t coefficient_bytes = lanes * 3 * int64_t{sizeof(typename Op::A)};
  const bool exceed_l1 = coefficient_bytes > t.l1_bytes / 2 && (twins || !Op::has_halves);
  return rows > 1 && (few || exceed_l1) &&
         (!t.in_memory || (twins && lanes % kTwins == 0 && to && is_in_lines<Op>(to, step.to[0])));
}

/// `rows` rows of `lanes` lanes under the same coefficients, side by side.
template <class Op>
BNORM_FLAT __attribute__((noinline)) void map_joined_rows(const Tile& t, Cursor<Op> row, RowStep<Op> step, int64_t rows,
                                                          int64_t lanes, bool twins,
                                                          const CoefficientArrays<typename Op::A>& arrays) {
  const LaneCoefficients<Op> coefficients = {arrays};  // copies: stores could change what is behind a reference
  const typename Op::Form form(*t.form);
  for (int64_t joined; rows > 0; rows -= joined) {
    joined = rows < kMappedRows ? rows : kMappedRows;
    int64_t l = 0;
    if constexpr (LaneCoefficients<Op>::has_joined_twins)
      if (twins)
        l = map_joined_twins(row, step, joined, lanes, MapPath(t, twins, step.from[0] == lanes), coefficients, form);
    // Not a function of its own: GCC would hold rows otherwise, and SSE4.2 infer 8x256x49 in 1.1 of the time.
    for (; l < lanes; l += kStrip) {
      const auto k = coefficients.at(l, lanes - l);
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
    for (int64_t i = 0; i < joined; ++i) step.take(row);
  }
}

/// The same one after the other.
template <class Op>
BNORM_FLAT __attribute__((noinline)) void map_single_rows(const Tile& t, Cursor<Op> row, RowStep<Op> step, int64_t rows,
                                                          int64_t lanes, bool twins,
                                                          const CoefficientArrays<typename Op::A>& arrays) {
  const LaneCoefficients<Op> coefficients = {arrays};
  const typename Op::Form form(*t.form);
  const MapPath path(t, twins, step.from[0] == lanes);
  const int64_t rows_ahead = kAheadInMemory / lanes + 1;
  SharedLine shared;
  for (; rows > 0; --rows, step.take(row)) {
    fetch_beyond_gaps<Op>(row, step, rows_ahead, lanes);
    map_run<Op>(row.from, row.to, row.mask, lanes, path, shared, coefficients, form);
  }
}

/// Whether the rows of those tensors, a bit each, that are given follow each other without gaps.
static inline bool rows_adjoin(const Tile& t, unsigned tensors) {
  const Order& o = t.order;
  for (int i = 0; tensors >> i != 0; ++i) {
    if ((tensors >> i & 1u) == 0 || !t.tensor[i].data) continue;
    const View& v = t.tensor[i];
    if ((o.spatial > 1 && v.s != t.channels) || (o.batch > 1 && v.n != o.spatial * t.channels)) return false;
  }
  return true;
}

/// Positions that make a row of a map; `longer`: several rows that adjoin are one.
struct MapRow {
  int64_t positions;
  bool longer;
};

/// The rows of a map: of as many positions as kLongerRowLanes hold where they adjoin in all its tensors, a bit each;
/// never where `tensors` is 0.
// Fewer ends of rows, no rows side by side, no parts of vectors where channels are no multiple of 16. Inference,
// training and backward take of 1x200x196 0.74, 0.86 and 0.87 of the time, of 8x128x49 0.82, 0.92 and 0.95, of 60x100
// 0.85, 0.94 and 0.94; in the last-level cache of 8x128x784 0.76, 0.97 and 0.89, of 8x64x784 0.88, 1.0 and 0.88 (AVX2);
// in memory, where fewer lines hold two rows, of 50x200x784 0.76, 0.88 and 0.90 (AVX-512).
BNORM_SHARED MapRow map_row(const Tile& t, const LaneMap& map, unsigned tensors) {
  const int64_t least = map.mapped_positions(), all = t.end - t.begin;
  // Two rows of 256 channels are long enough: 1x256x196 would infer in 1.14. Small calls divide nothing.
  if (tensors == 0 || all <= kLongerRows || map.family == kColumnsPlanar || t.c1 - t.c0 < t.channels ||
      2 * least * t.channels >= kLongerRowLanes)
    return {least, false};
  const int64_t positions = kLongerRowLanes / (least * t.channels) * least;
  // Rows that are too short to go around the caches are faster in memory as they are: 100x3x50176 would infer in 1.2.
  const bool stays = t.in_memory && map.family == kColumnsNarrow && least * t.channels < kStreamedRun;
  const bool loads_cost = Part<float>::size < 8 && t.in_l2;  // SSE4.2 infers 8x64x49 in 1.04
  if (all < kLongerRows * positions || stays || loads_cost || !rows_adjoin(t, tensors)) return {least, false};
  return {positions, true};
}

/// The tensors of a map whose rows may be longer, a bit each.
template <class Op>
constexpr unsigned tensors_of_longer_rows() {
  unsigned tensors = 0;
  for (int r = 0; r < Op::read_count; ++r) tensors |= 1u << Op::reads[r];
  for (int w = 0; w < Op::write_count; ++w) tensors |= 1u << Op::writes[w];
  return makes_longer_rows<Op> ? tensors : 0;
}

/// Row by row through memory: of a tile of channels; of several positions in channels-last, the last of fewer.
template <class Op>
static void map_columns(const Tile& t) {
  const LaneMap map(t);
  const int64_t spatial = t.order.spatial, tile = map.mapped_channels(t.c1 - t.c0);
  const MapRow row = map_row(t, map, tensors_of_longer_rows<Op>());
  const int64_t positions = row.positions;
  const Position begin = first_position(t);
  // Of 4 rows the look for NaN pays: bf16 of 16x512 infers in 0.57 of the time, of 4x512 in 0.91.
  const bool twins = LaneCoefficients<Op>::has_joined_twins && t.end - t.begin >= kMappedRows * positions &&
                     takes_twins<Op>(t, typename Op::Form(*t.form));
  for (int64_t c = t.c0; c < t.c1; c += tile) {
    const int64_t channels = t.c1 - c < tile ? t.c1 - c : tile, lanes = positions * channels;
    const LaneArrays<Op> coefficients(t, map, c, lanes);
    // Not inlined: 11 to 17 KB of kernels less an ISA.
    const auto map_rows_at = [&](int64_t n, int64_t s, const RowStep<Op>& step, int64_t rows, int64_t row_lanes)
        __attribute__((noinline)) {
      if (rows == 0) return;
      const Cursor<Op> first(t, n, c, s);
      // Loads hide behind curves, as with masks: 60x100 infers behind a sigmoid in 0.92 of the time so (AVX-512).
      if constexpr (!Op::has_mask)
        if (rows_join<Op>(t, first.to[0], step, rows, row_lanes, twins, row.longer))
          return map_joined_rows(t, first, step, rows, row_lanes, twins, coefficients.arrays);
      map_single_rows(t, first, step, rows, row_lanes, twins, coefficients.arrays);
    };
    if (map.family != kColumnsPlanar && positions > 1) {
      const int64_t rows = (t.end - t.begin) / positions, rest = t.end - t.begin - rows * positions;
      const int64_t last = t.end - rest;
      map_rows_at(begin.n, begin.s, RowStep<Op>(lanes), rows, lanes);
      map_rows_at(last / spatial, last % spatial, RowStep<Op>(rest * channels), rest > 0, rest * channels);
    } else if (map.family == kColumns && spatial > 1) {
      each_run(spatial, begin, t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
        map_rows_at(n, s0, {t, &View::s}, s1 - s0, lanes);
      });
    } else {
      const int64_t end = spatial == 1 ? t.end : t.end / spatial;  // no division in calls at batch 1
      map_rows_at(begin.n, 0, {t, &View::n}, end - begin.n, lanes);
    }
  }
}
