// SPDX-License-Identifier: Apache-2.0
// Reductions of columns: rows are added to running sums by class and lane, a quad of strips at a time; a block's sums
// are then folded into its channels.
#pragma once

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

  alignas(64) double room_[kTileLanes + kStrip];
};

/// The running sums of a tile: of class k and lane l at [k * stride + l].
struct LaneSums {
  alignas(64) double first[kOctet * kTileLanes];
  alignas(64) double second[kOctet * kTileLanes];
  int64_t stride;

  /// Those of the classes from k on. Not inlined: 4 KB of AVX2's kernels.
  __attribute__((noinline)) void clear(const LaneGroups& groups, int64_t k, int64_t classes) {
    const auto zero = Lanes<double>::broadcast(0);
    for (; k < classes; ++k)
      for (int64_t i = 0; i < groups.count; ++i) {
        zero.store(first + k * stride + groups.first[i]);
        zero.store(second + k * stride + groups.first[i]);
      }
  }
};

/// Fetches the next quad while one is added, in the order of memory, which the hardware's prefetchers follow. In the
/// order of the loop, 8 rows apart, moments and gradient sums of 256x16x3136 take 1.5 and 1.6 of the time, of
/// 64x64x3136 1.09 and 1.4 (moments of 80 to 127 channels 0.85); with nothing fetched 2.0 and 1.9, 1.33 and 1.14 (AVX2,
/// 1 thread). Its functions are neither templates nor inlined, as those of Ahead.
class QuadAhead {
 public:
  bool any() const { return count_ > 0; }
  /// Takes a tensor that has `lanes` of a row.
  __attribute__((noinline)) void add(const View& v, const LaneMap& map, int64_t octet_offset, int64_t lanes) {
    const int64_t bytes = bytes_of(v.type);
    tensors_[count_++] = {&v, lanes * bytes, octet_offset / map.classes() * bytes};
    quad_bytes_ += 2 * kQuadStrips * octet_offset * bytes;
  }
  /// Leaves long rows to the hardware, which fetches enough of them by itself: what both fetch leaves L2 too early.
  /// Fetched, moments and gradient sums of 64x256x784 take 1.1 and 1.18 of the time with L2 of 512 KB; with 1 MB and
  /// AVX-512 such moments gain.
  void choose(int64_t l2_bytes) {
    if (quad_bytes_ >= l2_bytes / 8) count_ = 0;
  }
  /// To the quad that begins with a strip and will be added while `groups` groups of lanes are.
  __attribute__((noinline)) void go_to(const Order& o, int64_t channel, int64_t strip, int64_t groups) {
    const auto [n, s] = strip_position(o, strip);
    for (Rows* r = tensors_; r != tensors_ + count_; ++r) {
      const View& v = *r->view;
      r->row = static_cast<const char*>(v.data) + (n * v.n + channel * v.c + s * v.s) * bytes_of(v.type);
      r->group_bytes = r->length / groups;
      r->next = r->due = 0;
    }
  }
  /// Fetches a group's share of some rows.
  __attribute__((noinline)) void fetch_group(int64_t rows) {
    for (Rows* r = tensors_; r != tensors_ + count_; ++r)
      for (r->due += rows * r->group_bytes; r->due > 0; r->due -= kLineBytes) {
        fetch(r->row + r->next, true);
        r->next += kLineBytes;
        if (r->next < r->length) continue;
        r->next -= r->length;
        r->row += r->step;
      }
  }

 private:
  struct Rows {
    const View* view;
    int64_t length;  // bytes of a row
    int64_t step;    // bytes to the next; between rows with different gaps on average
    const char* row = nullptr;
    int64_t group_bytes = 0;
    int64_t next = 0, due = 0;  // byte of the row, and bytes
  };
  Rows tensors_[kMostOperands];
  int count_ = 0;
  int64_t quad_bytes_ = 0;
};

/// From the first class of a quad to each, and returned from an octet to the next.
BNORM_SHARED int64_t find_offsets(const LaneMap& map, const View& v, int64_t* of_class) {
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
  int64_t class_offset[reads][kOctet], octet_offset[reads];
  int64_t class_mask[kOctet], octet_mask;  // of the mask, in bytes
  From<Op> base[reads];                    // first element of the quad
  char* mask;
  int64_t octets;      // that hold every class
  int64_t rest;        // classes of the octet behind them
  int64_t rest_lanes;  // of that octet's row
  QuadAhead ahead;

  QuadRows(const Tile& t, const LaneMap& m, int64_t first_channel, int64_t tile_lanes, const typename Op::Form& form)
      : tile(t), map(m), channel(first_channel), lanes(tile_lanes) {
    for (int r = 0; r < reads; ++r) {
      view[r] = &t.tensor[Op::reads[r]];
      octet_offset[r] = find_offsets(map, *view[r], class_offset[r]);
      if (t.in_memory && Op::is_read(r, form) && !is_of_row<Op>(r)) ahead.add(*view[r], map, octet_offset[r], lanes);
    }
    ahead.choose(t.l2_bytes);
    if constexpr (Op::has_mask) {
      const View& bits = t.tensor[kMask];
      octet_mask = find_offsets(map, {bits.data, bits.n >> 3, bits.c, bits.s >> 3, bits.type}, class_mask);
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

/// The sums of a class by lane; `begin`: from 0, whatever is there.
struct ClassSums {
  double* first;
  double* second;
  bool begin;

  Sums<Lanes<double>> before(int64_t l) const {
    static const double zero[16] = {};
    return {Lanes<double>::load(begin ? zero : first + l), Lanes<double>::load(begin ? zero : second + l)};
  }
};

/// Adds the first `rows` rows of a class to the sums of 16 lanes from l on. Unless `full`, rows may lack some of the
/// lanes: those count 0, as do their pivots.
template <class Op, bool centered, bool full>
static inline BNORM_IN_LOOP void add_rows(const ClassRows<Op>& at, int64_t rows, int64_t l,
                                          const LaneContext<Op>& context, const ClassSums& to) {
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
  // Begun at +0 or at the first term, sums differ only where that is -0, and the block's, which they are added to, is
  // not: it begins at +0. The former is less code, the latter less time.
  constexpr int first = full && Op::style > kPiecewise ? 1 : 0;
  auto sums = Sums<Lanes<double>>::zero();
  if constexpr (first == 1) sums = Sums<Lanes<double>>::of(terms(0));
  if (Op::unrolled && full && rows == 2 * kQuadStrips)
    each<first, 2 * kQuadStrips>([&](auto octet) BNORM_IN_LOOP { sums.template grow<exact>(terms(octet)); });
  else
    for (int64_t octet = first; octet < rows; ++octet) sums.template grow<exact>(terms(octet));
  sums.add(to.before(l));
  sums.first.store(to.first + l);
  sums.second.store(to.second + l);
}

/// Adds the rows of a class, in some groups of lanes.
template <class Op, bool centered>
static inline BNORM_IN_LOOP void add_class(const ClassRows<Op>& at, QuadAhead& ahead, const LaneContext<Op>& context,
                                           const LaneGroups& groups, const ClassSums& sums) {
  // The row behind the octets may end before the others do. Lanes that it does not reach go without it.
  const int64_t last = at.rows > at.octets ? at.rest_lanes : at.lanes;
  const int64_t reached = at.octets > 0 ? last : at.lanes;
  for (int64_t i = 0; i < groups.count; ++i) {
    const int64_t l = groups.first[i];
    const int64_t rows = l < reached ? at.rows : at.octets;
    if (ahead.any()) ahead.fetch_group(at.rows);
    if (l + 16 <= (l < reached ? last : at.lanes))
      add_rows<Op, centered, true>(at, rows, l, context, sums);
    else
      add_rows<Op, centered, false>(at, rows, l, context, sums);
  }
}

/// Adds all rows of a quad, in some groups of lanes, to the sums; `begins`: to 0, whatever those are. A function of its
/// own, with copies of what it reads: inlined, it finds all registers taken, and stores could change what is behind a
/// reference. With it moments of 8x64x784 and 8x512x49 take 0.8 of the time (AVX-512).
template <class Op, bool centered>
BNORM_FLAT __attribute__((noinline)) void add_quad(QuadRows<Op>& quad, LaneContext<Op> context,
                                                   const LaneGroups& groups, bool begins, LaneSums& sums) {
  for (int64_t k = 0; k < quad.classes(); ++k) {
    const int64_t at = k * sums.stride;
    add_class<Op, centered>(quad.class_rows(k), quad.ahead, context, groups,
                            {sums.first + at, sums.second + at, begins});
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
      if (channels - j >= 16)
        sum.store(result + j);
      else
        Element<double>::store_first(result + j, sum, channels - j);
    }
  }
}

/// Adds up the first `slots` of each channel's slots along the tree: 1, 2, 4 or 8; the others are 0.
BNORM_SHARED void fold_slots(const LaneMap& map, int64_t channels, int64_t slots, int64_t stride, const double* sums,
                             double* result) {
  const double* slot[kOctet];
  for (int64_t i = 0; i < kOctet; ++i) slot[i] = sums + map.slot_at(i, stride);
  // Sums of blocks are never -0, which 0 would change: the others are left out.
  if (slots == 8) return fold_slots_of<8>(map, channels, slot, result);
  if (slots == 4) return fold_slots_of<4>(map, channels, slot, result);
  if (slots == 2) return fold_slots_of<2>(map, channels, slot, result);
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
    if (quad.ahead.any()) quad.ahead.go_to(quad.map.order, quad.channel, begin + strips, groups.count);
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
  QuadRows<Op> quad(t, map, c, lanes, form);
  const int64_t slots = map.slots_in(positions), classes = map.classes_of(slots);
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
    fold_slots(map, channels, slots, sums.stride, sums.first, first);
    fold_slots(map, channels, slots, sums.stride, sums.second, second);
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
