// SPDX-License-Identifier: Apache-2.0
// Maps of columns: rows in the order of memory, each lane under the coefficients of its channel.
#pragma once

// Rows mapped side by side, so that coefficients are loaded once for all of them, where they are not made longer
// (map_row): few rows, or with gaps between them; never those of twins.
// Longer rows lose by reading several places of memory at once (planar 32x512x4, whose rows are 8 KB apart, takes 1.2),
// unless they adjoin and come from L2: inference of 8x256x49 takes 0.82, of 8x512x49 0.89, of 8x512x98 1.0 (AVX-512).
// Rows so wide that their coefficients are gone from L1 when the next row asks for them gain, too: inference of
// 8x2048x49 takes 0.74, of 256x4096 0.65, backward 0.79 and 0.77, while 8x1024x49 would take 1.2 and 1.04 (L1 of 32
// KB).
constexpr int64_t kMappedRows = 4;
constexpr int64_t kMappedLanes = 128, kMappedLanesInL2 = 512;
// Lanes of rows that adjoin and are mapped as one (map_row), where that makes so many rows: fewer do not repay
// spreading the coefficients. Whole samples, and whole lines of 16-bit elements in memory, may have up to kTileLanes.
constexpr int64_t kLongerRowLanes = 512, kLongerRows = 12;
static_assert(kLongerRowLanes <= kTileLanes);

// Rows that take twins, at least: fewer do not repay laying coefficients out. bf16 of 6x512 infers in 0.75 of the time
// that it takes without twins, of 4x512 in 0.83.
constexpr int64_t kTwinRows = 4;
// Their lanes, at most: their coefficients are on the stack. In tiles of that 256x8192 infers in 1.08.
constexpr int64_t kTwinLanes = 4096;
static_assert(kTileLanes <= kTwinLanes);
/// Whether maps of columns take twins.
template <class Op>
constexpr bool has_column_twins = (Op::has_twins) && Part<float>::size > 1;

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

/// Copies the values of `lanes` lanes; of every 32 from `begin` on those at even places, then those at odd ones.
/// Returns how many are NaN.
template <class V>
BNORM_SHARED unsigned split_twins(const V* __restrict from, V* __restrict to, int64_t begin, int64_t lanes) {
  unsigned nans = 0;
  int64_t l = begin;
  __builtin_memcpy(to, from, static_cast<size_t>(begin) * sizeof(V));
  for (; l + kTwins <= lanes; l += kTwins)
    for (int i = 0; i < kStrip; ++i) {
      to[l + i] = from[l + 2 * i];
      to[l + kStrip + i] = from[l + 2 * i + 1];
      nans += is_nan(from[l + 2 * i]);
      nans += is_nan(from[l + 2 * i + 1]);
    }
  __builtin_memcpy(to + l, from + l, static_cast<size_t>(lanes - l) * sizeof(V));
  return nans;
}

/// Coefficient arrays laid out for twins: once for all rows, where each would put 32 lanes in order anew. bf16
/// inference of 8x256x196 takes 0.40 of the time that it takes with four rows side by side under coefficients put in
/// order for them (AVX2).
template <class Op>
struct TwinArrays {
  using A = typename Op::A;
  alignas(64) A value[kCoefficients][has_column_twins<Op> ? kTwinLanes : 1];
  CoefficientArrays<A> arrays;

  /// Of rows whose twins begin with lane `begin`. Returns false where twins are not for them: a coefficient they use,
  /// up to `used_end`, is NaN.
  bool lay(const CoefficientArrays<A>& from, int64_t begin, int64_t lanes, int used_end) {
    unsigned nans = 0;
    arrays = from;
    each<Op::coefficient_begin, Op::coefficient_end>([&](auto k) {
      if (k >= used_end) return;
      nans += split_twins(from.value[k], value[k], begin, lanes);
      arrays.value[k] = value[k];
    });
    return nans == 0;
  }
};

/// Coefficients of each lane of a row.
template <class Op>
struct LaneCoefficients {
  using A = typename Op::A;
  static constexpr bool has_twins = has_column_twins<Op>;
  static constexpr bool fetches_to_l2 = !Op::has_halves;  // else bf16 of 50x256x784 infers in 1.1
  CoefficientArrays<A> arrays;

  inline BNORM_IN_LOOP Coefficients<A> at(int64_t l, int64_t left) const {
    return load_coefficients<Op>(arrays, l, left);
  }
  /// If `arrays` are laid out for twins.
  template <bool odd>
  inline BNORM_IN_LOOP Coefficients<A> twin(int64_t l) const {
    return at(odd ? l + kStrip : l, kStrip);
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

/// Whether several rows that adjoin may be one (map_row): of 16-bit types where there are twins. Scalars are mapped
/// side by side, since coefficients are half of their loads: 8x64x784 would infer in 1.8.
template <class Op>
constexpr bool makes_longer_rows = Op::has_halves ? has_column_twins<Op> : (Op::shares_lines) && Part<float>::size > 1;

/// Whether of rows side by side a later one is read, to a line, where in a page the first is written: such loads wait
/// for the store. One after the other 8x2048x49 infers in 0.95 of the time, its backward takes 0.88, on 2 threads 0.78
/// and 0.73, inference of 128x512 0.90, of 49x1536 0.90 (arrays that begin with pages, AVX2).
BNORM_SHARED bool rows_meet(const char* from, int64_t step, const char* to) {
  constexpr uintptr_t page = 4096;
  uintptr_t apart = reinterpret_cast<uintptr_t>(from) - reinterpret_cast<uintptr_t>(to) + kLineBytes;
  for (int k = 1; k < kMappedRows; ++k) {
    apart += static_cast<uintptr_t>(step);
    if (apart % page < 2 * kLineBytes) return true;
  }
  return false;
}

/// Whether rows that take no twins are mapped side by side; `longer`: each is several already.
template <class Op>
static inline bool rows_join(const Tile& t, const Cursor<Op>& row, const RowStep<Op>& step, int64_t rows, int64_t lanes,
                             bool longer) {
  const bool adjoin = step.from[0] == lanes;
  // Beyond L2 planar 1024x32x4, whose rows are of all channels, infers so in 0.87 of the time, trains in 0.93.
  const bool alone = makes_longer_rows<Op> && adjoin && (longer || !t.in_l2);
  const bool few = !alone && lanes <= (adjoin && t.in_l2 ? kMappedLanesInL2 : kMappedLanes);
  // The least that a map has: center, gain and offset. Halves are slower than their coefficients: f16 infers in 1.16.
  const int64_t coefficient_bytes = lanes * 3 * int64_t{sizeof(typename Op::A)};
  using E = Element<typename Op::Type>;
  const char* const from = E::place(row.from[0]);
  const bool wide = coefficient_bytes > t.l1_bytes / 2 && !Op::has_halves;
  return rows > 1 && !t.in_memory && (few || wide) &&
         !rows_meet(from, E::place(row.from[0] + step.from[0]) - from, E::place(row.to[0]));
}

/// `rows` rows of `lanes` lanes under the same coefficients, side by side.
template <class Op>
BNORM_FLAT __attribute__((noinline)) void map_joined_rows(const Tile& t, Cursor<Op> row, RowStep<Op> step, int64_t rows,
                                                          int64_t lanes,
                                                          const CoefficientArrays<typename Op::A>& arrays) {
  const LaneCoefficients<Op> coefficients = {arrays};  // copies: stores could change what is behind a reference
  const typename Op::Form form(*t.form);
  for (int64_t joined; rows > 0; rows -= joined) {
    joined = rows < kMappedRows ? rows : kMappedRows;
    // Not a function of its own: GCC would hold rows otherwise, and SSE4.2 infer 8x256x49 in 1.1 of the time.
    for (int64_t l = 0; l < lanes; l += kStrip) {
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
                                                          int64_t lanes, bool twins, bool streams,
                                                          const CoefficientArrays<typename Op::A>& arrays) {
  const LaneCoefficients<Op> coefficients = {arrays};
  const typename Op::Form form(*t.form);
  MapPath path(t, twins, step.from[0] == lanes);
  path.stream = path.stream && streams;
  const int64_t rows_ahead = kAheadInMemory / lanes + 1;
  SharedLine shared;
  for (; rows > 0; --rows, step.take(row)) {
    fetch_beyond_gaps<Op>(row, step, rows_ahead, lanes);
    map_run<Op, Streams::kWhereWorth>(row.from, row.to, row.mask, lanes, path, shared, coefficients, form);
  }
}

/// One position of 16 channels or more, through the caches: normalizing 1x16, 1x100 and 1x256 by prepared coefficients
/// takes 0.72, 0.73 and 0.76 of the time, inference 0.90, 0.86 and 0.91 (AVX2).
template <class Op>
BNORM_FLAT __attribute__((noinline)) void map_position(const Tile& t) {
  const Position p = first_position(t);
  const LaneCoefficients<Op> coefficients = {arrays_of<Op>(t, t.c0)};
  const typename Op::Form form(*t.form);
  map_cached_run<Op, Strip<Op>>(Cursor<Op>(t, p.n, t.c0, p.s), t.c1 - t.c0, coefficients, form);
}

/// How a map walks over its rows.
enum class Walk {
  kByStrides,      // rows of the least positions
  kBySamples,      // a sample is a row
  kWithinSamples,  // rows adjoin in a sample
  kThroughout      // rows adjoin
};

/// Where the rows of those of the tensors, a bit each, that are given adjoin: kByStrides where not even in samples.
static inline Walk rows_adjoin(const Tile& t, const LaneMap& map, unsigned tensors) {
  const Order& o = t.order;
  const bool of_samples = map.family == kColumnsPlanar || o.spatial == 1;
  bool throughout = true;
  for (int i = 0; tensors >> i != 0; ++i) {
    if ((tensors >> i & 1u) == 0 || !t.tensor[i].data) continue;
    const View& v = t.tensor[i];
    if (!of_samples && v.s != t.channels) return Walk::kByStrides;
    throughout = throughout && (o.batch == 1 || v.n == o.spatial * t.channels);
  }
  if (throughout) return Walk::kThroughout;
  return of_samples ? Walk::kByStrides : Walk::kWithinSamples;
}

/// The rows of a map.
struct MapRow {
  int64_t positions;  // of a row
  bool longer;        // several rows of the least positions are one
  Walk walk;
};

/// Rows of as many positions as kLongerRowLanes hold, or of a sample, where they may be longer and adjoin in all the
/// tensors, a bit each; else of the least. `whole_lines`: in memory rather whole lines of 16-bit elements.
// Fewer ends of rows, no rows side by side, no parts of vectors where channels are no multiple of 16. Inference,
// training and backward take of 1x200x196 0.74, 0.86 and 0.87 of the time, of 8x128x49 0.82, 0.92 and 0.95, of 60x100
// 0.85, 0.94 and 0.94; in the last-level cache of 8x128x784 0.76, 0.97 and 0.89, of 8x64x784 0.88, 1.0 and 0.88 (AVX2);
// in memory, where fewer lines hold two rows, of 50x200x784 0.76, 0.88 and 0.90 (AVX-512).
BNORM_SHARED MapRow map_row(const Tile& t, const LaneMap& map, unsigned tensors, bool may_be_longer, bool whole_lines) {
  const int64_t least = map.mapped_positions(), all = t.end - t.begin;
  const Walk least_walk = map.family == kColumnsNarrow ? rows_adjoin(t, map, tensors) : Walk::kByStrides;
  const MapRow shortest = {least, false, least_walk};
  if (!may_be_longer || all <= kLongerRows || t.c1 - t.c0 < t.channels) return shortest;  // small calls divide nothing
  // All twins of rows in memory begin with lines, if one does: bf16 of 50x200x784 infers in 0.45 of the time.
  int64_t unit = least;
  while (whole_lines && t.in_memory && unit * t.channels % kTwins != 0) unit *= 2;
  if (unit * t.channels > kTileLanes) unit = least;
  // Two rows of 256 channels are long enough: 1x256x196 would infer in 1.14.
  if (unit == least && 2 * least * t.channels >= kLongerRowLanes) return shortest;
  const int64_t units = kLongerRowLanes / (unit * t.channels), positions = units > 1 ? units * unit : unit;
  if (least * t.channels % kStrip == 0) {
    // Rows that are too short to go around the caches are faster in memory as they are: 100x3x50176 would infer in 1.2,
    // planar 200000x8x4 in 1.18.
    if (t.in_memory && map.family != kColumns && least * t.channels < kStreamedRun) return shortest;
    if (t.in_l2 && Part<float>::size < 8) return shortest;  // SSE4.2 infers 8x64x49 in 1.04
  }
  Walk walk = Walk::kByStrides;
  if (all >= kLongerRows * positions) walk = map.family == kColumnsNarrow ? least_walk : rows_adjoin(t, map, tensors);
  if (walk == Walk::kByStrides) return shortest;
  // As in nChw16c, whose blocks are groups: their samples lie apart.
  const int64_t spatial = t.order.spatial;
  if (walk == Walk::kWithinSamples && spatial * t.channels <= kTileLanes)
    return all < kLongerRows * spatial ? shortest : MapRow{spatial, true, Walk::kBySamples};
  return {positions, true, walk};
}

/// The tensors of a map, a bit each.
template <class Op>
constexpr unsigned mapped_tensors() {
  unsigned tensors = 0;
  for (int r = 0; r < Op::read_count; ++r) tensors |= 1u << Op::reads[r];
  for (int w = 0; w < Op::write_count; ++w) tensors |= 1u << Op::writes[w];
  return tensors;
}

/// The lane of each row with which twins begin where outputs go around the caches, -1: it is not the same of all.
template <class Op>
static inline int64_t first_twin(const Tile& t, const LaneMap& map, const MapRow& row, int64_t c, int64_t lanes) {
  static_assert(kTwins * sizeof(uint16_t) == kLineBytes);
  const Position begin = first_position(t);
  const To<Op> to = Cursor<Op>(t, begin.n, c, begin.s).to[0];
  if (!t.in_memory || !is_streamed<Op>(to, lanes)) return 0;  // as map_run
  const View& v = t.tensor[Op::writes[0]];
  int64_t steps = 0;  // from row to row, or-ed
  if (row.walk >= Walk::kWithinSamples) steps |= lanes;
  if (row.walk == Walk::kByStrides && map.family == kColumns && t.order.spatial > 1) steps |= v.s;
  if (row.walk != Walk::kThroughout && t.order.batch > 1) steps |= v.n | begin.s * v.s;
  return steps % kTwins == 0 ? elements_to_line<Op>(to) : -1;
}

/// Rows of a map that are equally far apart, the first at (n, s).
struct RowRun {
  int64_t n, s;
  int64_t rows, positions;  // positions of each
  int64_t View::*step;      // from a row to the next; NULL: they adjoin
};

/// Calls body(context, run) for all rows of a tile; of those that adjoin the last may have fewer positions, of samples
/// the first and the last. A pointer and what it points to, not a template: 20 KB of kernels less an ISA.
BNORM_SHARED void each_row_run(const Tile& t, const LaneMap& map, const MapRow& row,
                               void (*body)(const void*, const RowRun&), const void* context) {
  const int64_t spatial = t.order.spatial, positions = row.positions, all = t.end - t.begin;
  const Position begin = first_position(t);
  const auto adjoining = [&](int64_t n, int64_t s, int64_t count) {
    const int64_t rows = count / positions, rest = count - rows * positions, last = s + count - rest;
    if (rows > 0) body(context, {n, s, rows, positions, nullptr});
    if (rest > 0) body(context, {n + last / spatial, last % spatial, 1, rest, nullptr});
  };
  if (row.walk == Walk::kThroughout) return adjoining(begin.n, begin.s, all);
  if (row.walk == Walk::kBySamples) {
    const int64_t left = begin.s > 0 ? spatial - begin.s : 0, head = left < all ? left : all;
    const int64_t n = begin.n + (begin.s > 0), samples = (all - head) / spatial, rest = all - head - samples * spatial;
    if (head > 0) body(context, {begin.n, begin.s, 1, head, nullptr});
    if (samples > 0) body(context, {n, 0, samples, spatial, &View::n});
    if (rest > 0) body(context, {n + samples, 0, 1, rest, nullptr});
    return;
  }
  if (map.family != kColumnsPlanar && spatial > 1)
    return each_run(spatial, begin, all, [&](int64_t n, int64_t s0, int64_t s1) {
      if (row.walk == Walk::kWithinSamples) return adjoining(n, s0, s1 - s0);
      body(context, {n, s0, s1 - s0, 1, &View::s});
    });
  const int64_t end = spatial == 1 ? t.end : t.end / spatial;  // no division of dense layers
  body(context, {begin.n, 0, end - begin.n, positions, &View::n});
}

/// Row by row through memory: of a tile of channels; of several positions.
template <class Op>
static void map_columns(const Tile& t) {
  if constexpr (Op::has_lean_position)
    if (t.end - t.begin == 1 && t.c1 - t.c0 >= kStrip && !t.in_memory) return map_position<Op>(t);
  const LaneMap map(t);
  const MapRow row = map_row(t, map, mapped_tensors<Op>(), makes_longer_rows<Op>, has_column_twins<Op>);
  const typename Op::Form form(*t.form);
  const bool may_take_twins =
      has_column_twins<Op> && t.end - t.begin >= kTwinRows * row.positions && has_twin_types<Op>(t, form);
  const int64_t mapped = map.mapped_channels(t.c1 - t.c0);
  const int64_t tile = may_take_twins && mapped > kTwinLanes ? kTwinLanes : mapped;
  for (int64_t c = t.c0; c < t.c1; c += tile) {
    const int64_t channels = t.c1 - c < tile ? t.c1 - c : tile, lanes = row.positions * channels;
    const LaneArrays<Op> of_lanes(t, map, c, lanes);
    TwinArrays<Op> of_twins;
    bool twins = false, twins_stream = false;
    if constexpr (has_column_twins<Op>)
      if (may_take_twins && lanes >= kTwins) {
        // Twins through the caches are faster than strips around them: 50x513x784 infers in 0.77.
        const int64_t first = first_twin<Op>(t, map, row, c, lanes);
        twins_stream = first >= 0;
        twins = of_twins.lay(of_lanes.arrays, twins_stream ? first : 0, lanes, Op::used_end(form));
      }
    const auto map_rows_of = [&](const RowRun& run) {
      const Cursor<Op> first(t, run.n, c, run.s);
      const int64_t run_lanes = run.positions * channels;
      const RowStep<Op> step = run.step ? RowStep<Op>(t, run.step) : RowStep<Op>(run_lanes);
      if (has_column_twins<Op> && run_lanes == lanes && twins)
        return map_single_rows(t, first, step, run.rows, lanes, true, twins_stream, of_twins.arrays);
      // Loads hide behind curves, as with masks: 60x100 infers behind a sigmoid in 0.92 of the time so (AVX-512).
      if constexpr (!Op::has_mask)
        if (rows_join<Op>(t, first, step, run.rows, run_lanes, row.longer))
          return map_joined_rows(t, first, step, run.rows, run_lanes, of_lanes.arrays);
      map_single_rows(t, first, step, run.rows, run_lanes, false, true, of_lanes.arrays);
    };
    const auto call = [](const void* context, const RowRun& run) {
      (*static_cast<const decltype(map_rows_of)*>(context))(run);
    };
    each_row_run(t, map, row, call, &map_rows_of);
  }
}
