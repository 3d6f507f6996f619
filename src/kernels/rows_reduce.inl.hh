// SPDX-License-Identifier: Apache-2.0
// Reductions of rows: a channel's sums grow by a quad of strips at a time, those of several channels side by side.
#pragma once

// Channels whose sums are under way at once, so that packed samples are read in long runs. Their sums are 4 KB, an
// eighth of the smallest L1.
constexpr int64_t kRowChannels = 32;

/// The terms of the lanes before `lo` in octet 0, before `hi` in octet 1, where missing operands don't make them 0.
template <class Op, bool centered>
static inline Terms<Lanes<double>> keep(const Terms<Lanes<double>>& a, int64_t lo, int64_t hi) {
  if constexpr (Op::zeros_make_zeros && !centered) return a;
  return {keep(a.term, lo, hi), keep(a.factor, lo, hi)};
}

/// Adds a strip whose octets lie side by side to the sums of its quad.
template <class Op, bool centered>
static inline BNORM_IN_LOOP void add_octets(const Terms<Lanes<double>>& strip, Sums<Octet>& quad) {
  quad.grow<Op::template exact<centered>>({strip.term.lo, strip.factor.lo});
  quad.grow<Op::template exact<centered>>({strip.term.hi, strip.factor.hi});
}

/// What a reduction will read some time later lies `near` elements behind what it reads now, and from `border` of the
/// channels and positions of a sample on, `far` behind. Neither a template nor inlined: 10 KB of kernels less an ISA.
class Ahead {
 public:
  /// Of `channels` channels, sample by sample: each sample is a region of memory, or where one of the `count` tensors
  /// has gaps between channels, each channel of each.
  __attribute__((noinline)) Ahead(const Tile& t, const int* tensors, int count, int64_t channels)
      : tile_(t), tensors_(tensors), count_(count), packed_(true) {
    const int64_t spatial = t.order.spatial;
    for (int i = 0; i < count; ++i) packed_ = packed_ && (channels == 1 || t.tensor[tensors[i]].c == spatial);
    channel_length_ = packed_ ? spatial : 0;
    length_ = packed_ ? channels * spatial : spatial;
    const int64_t ahead = t.in_memory ? kAheadInMemory : kAhead;
    regions_ = ahead / length_;
    border_ = length_ - ahead % length_;
  }
  /// At sample n.
  __attribute__((noinline)) void go_to(int64_t n) {
    for (int i = 0; i < count_; ++i) {
      const View& v = tile_.tensor[tensors_[i]];
      near_[i] = region(v, n, regions_) + length_ - border_;
      far_[i] = region(v, n, regions_ + 1) - border_;
    }
  }
  /// Of channel j and position s.
  int64_t border(int64_t j, int64_t s) const { return border_ - j * channel_length_ - s; }
  /// For each tensor.
  const int64_t* steps(bool before_border) const { return before_border ? near_ : far_; }

 private:
  /// Elements from the region of sample n to that `more` further on; behind the last sample the next channels follow.
  int64_t region(const View& v, int64_t n, int64_t more) const {
    if (!packed_) return more * v.c;
    if (tile_.order.batch == 1) return more * length_;
    return n + more < tile_.order.batch ? more * v.n : (more - tile_.order.batch) * v.n + length_;
  }

  const Tile& tile_;
  const int* tensors_;
  int count_;
  bool packed_;
  int64_t channel_length_, length_, regions_, border_;
  int64_t near_[kMostOperands], far_[kMostOperands];
};

/// A channel's sums of the block under way.
struct ChannelSums {
  double pivot;
  Sums<Octet> sums;

  /// Begins those of block b and channel c.
  template <class Op>
  void begin(const Tile& t, int64_t b, int64_t c) {
    Op::first_pivots(t, c, 1, b, &pivot);
    sums = Sums<Octet>::zero();
  }
  /// Writes them as those of block b and channel c.
  void finish(const Tile& t, int64_t b, int64_t c) const {
    t.first[b * t.channels + c] = tree_sum(sums.first);
    t.second[b * t.channels + c] = tree_sum(sums.second);
  }
};

/// Adds `count` elements of one sample, from the beginning of a quad on, to the sums of its channel.
template <class Op, bool centered, bool unrolled>
static inline void add_run(const From<Op>* from, char* mask, int64_t count, const Ahead& ahead, int64_t border,
                           const Coefficients<typename Op::A>& k, const typename Op::Form& form, ChannelSums& s) {
  using E = Element<typename Op::Type>;
  const auto pivots = Lanes<double>::broadcast(s.pivot);
  const auto strip = [&](int64_t i, const int64_t* steps) BNORM_IN_LOOP {
    each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP {
      if (Op::is_read(r, form)) fetch(E::place(from[r] + (i + steps[r])), true);
    });
    return Op::template terms<centered>(Operands<Op, true>{from, mask, i, kStrip}, k, form, pivots);
  };
  Sums<Octet> all = s.sums;
  int64_t i = 0;
  for (; unrolled && i + kQuad <= count; i += kQuad) {
    Sums<Octet> quad = Sums<Octet>::zero();
    const int64_t* const steps = ahead.steps(i < border);
    each<0, kQuadStrips>([&](auto j) BNORM_IN_LOOP { add_octets<Op, centered>(strip(i + j * kStrip, steps), quad); });
    all.add(quad);
  }
  while (i < count) {
    Sums<Octet> quad = Sums<Octet>::zero();
    const int64_t* const steps = ahead.steps(i < border);
    const int64_t end = count - i < kQuad ? count : i + kQuad;
    for (; i + kStrip <= end; i += kStrip) add_octets<Op, centered>(strip(i, steps), quad);
    if (const int64_t left = end - i; left > 0) {
      const auto terms = Op::template terms<centered>(Operands<Op, false>{from, mask, i, left}, k, form, pivots);
      const auto kept = keep<Op, centered>(terms, left, left - 8);
      if (left > kOctet || !Op::drops_empty_octets)
        add_octets<Op, centered>(kept, quad);
      else
        quad.template grow<Op::template exact<centered>>({kept.term.lo, kept.factor.lo});
      i = end;
    }
    all.add(quad);
  }
  s.sums = all;
}

/// The same around a pivot, which f32 data seldom need. Not inlined beside the other: backward of 32x64x49 takes 0.96
/// of the instructions (AVX2), and generic kernels are 9 KB smaller.
template <class Op>
BNORM_FLAT __attribute__((noinline)) void add_centered_run(const From<Op>* from, char* mask, int64_t count,
                                                           const Ahead& ahead, int64_t border,
                                                           const Coefficients<typename Op::A>& k,
                                                           const typename Op::Form& form, ChannelSums& s) {
  add_run<Op, true, Op::quads_unrolled>(from, mask, count, ahead, border, k, form, s);
}

/// Calls body(centered) with what the pivot asks for.
template <class Op, class Body>
static inline BNORM_IN_LOOP void with_centering(double pivot, Body body) {
  if constexpr (!Op::always_centered)
    if (pivot == 0) return body(Index<0>());
  body(Index<1>());
}

/// Adds `count` elements of one sample to the sums of its channel, around their pivot unless it is 0.
template <class Op, bool unrolled>
static inline BNORM_IN_LOOP void add_around_pivot(const Cursor<Op>& at, int64_t count, const Ahead& ahead,
                                                  int64_t border, const Coefficients<typename Op::A>& k,
                                                  const typename Op::Form& form, ChannelSums& s) {
  with_centering<Op>(s.pivot, [&](auto centered) BNORM_IN_LOOP {
    if constexpr (centered != 0)
      add_centered_run<Op>(at.from, at.mask, count, ahead, border, k, form, s);
    else
      add_run<Op, false, unrolled>(at.from, at.mask, count, ahead, border, k, form, s);
  });
}

/// What block b counts: its positions, or their weights.
template <class Op>
static inline double values_in(const Tile& t, int64_t b, int64_t positions) {
  if constexpr (Op::is_weighted) return t.count[b];
  return static_cast<double>(positions);
}

/// Makes results of the sums of all blocks of `channels` channels from c on. Where they have to be taken once more,
/// add(begin, count, channel, sums) brings them, with the pivot that `sums` then has.
template <class Op, class Add>
static inline void finish_blocks(const Tile& t, int64_t c, int64_t channels, Add add) {
  double pivot[kRowChannels];
  int64_t end = block_begin(t.order, t.b0);
  for (int64_t b = t.b0; b < t.b1; ++b) {
    const int64_t begin = end;
    end = block_begin(t.order, b + 1);
    const double count = values_in<Op>(t, b, end - begin);
    double* const first = t.first + b * t.channels + c;
    double* const second = t.second + b * t.channels + c;
    Op::first_pivots(t, c, channels, b, pivot);
    Op::finish(t, c, count, pivot, first, second, channels);
    if (!Op::second_pivots(count, first, second, channels, pivot)) continue;
    for (int64_t j = 0; j < channels; ++j) {
      if (pivot[j] == 0 && !Op::always_pivoted) continue;
      ChannelSums sums = {pivot[j], Sums<Octet>::zero()};
      add(begin, end - begin, c + j, sums);
      sums.finish(t, b, c + j);
      Op::finish(t, c + j, count, pivot + j, first + j, second + j, 1);
    }
  }
}

/// The strips from `begin` on that lie in one sample and one block, and where they end.
struct Segment {
  int64_t n, s, length;  // sample, position in it, positions
  int64_t block, end;
  bool begins_block, ends_block;

  /// `last` is the end of all strips.
  Segment(const Order& o, int64_t sample, int64_t begin, int64_t last) : n(sample), block(begin / kBlockStrips) {
    begins_block = begin % kBlockStrips == 0;
    const int64_t sample_end = (n + 1) * o.strips_per_sample, block_end = (block + 1) * kBlockStrips;
    end = block_end < last ? block_end : last;
    ends_block = end <= sample_end;
    if (!ends_block) end = sample_end;
    s = (begin - n * o.strips_per_sample) * kStrip;
    const int64_t stop = (end - n * o.strips_per_sample) * kStrip;
    length = (stop < o.spatial ? stop : o.spatial) - s;
  }
  bool is_last(const Order& o, int64_t last) const { return end == last || s + length == o.spatial; }
};

/// Calls body(segment) for those of a sample from `part` on.
template <class Body>
static inline void each_segment(const Order& o, Segment part, int64_t last, Body body) {
  for (;; part = Segment(o, part.n, part.end, last)) {
    body(part);
    if (part.is_last(o, last)) return;
  }
}

// Short runs of data in cache spend much of their time between runs: without the loops over segments, whose state takes
// all registers, moments and gradient sums of 8x512x16 take 0.57 and 0.67 of the time, of 8x512x49 0.73 and 0.82, of
// 8x512x196 0.85 and 0.85 (AVX2). Runs of 400 gain nothing.
constexpr int64_t kShortRun = 4 * kQuad;

/// Adds a segment of short runs to the sums of `channels` channels from c on.
template <class Op>
BNORM_FLAT __attribute__((noinline)) void reduce_short_runs(const Tile& t, const Segment& part, Cursor<Op> at,
                                                            int64_t c, int64_t channels, const Ahead& ahead,
                                                            ChannelSums* sums) {
  const auto arrays = arrays_of<Op>(t, c);
  const typename Op::Form form(*t.form);
  for (int64_t j = 0; part.begins_block && j < channels; ++j) sums[j].begin<Op>(t, part.block, c + j);
  for (int64_t j = 0; j < channels; ++j, at.advance(t)) {
    const auto k = broadcast_coefficients<Op>(arrays, j);
    const int64_t border = ahead.border(j, part.s);
    add_around_pivot<Op, false>(at, part.length, ahead, border, k, form, sums[j]);
  }
  for (int64_t j = 0; part.ends_block && j < channels; ++j) sums[j].finish(t, part.block, c + j);
}

/// Adds a segment to the sums of channel c.
template <class Op>
static inline void reduce_segment(const Tile& t, const Segment& part, const Cursor<Op>& at, int64_t c,
                                  const Ahead& ahead, int64_t border, const Coefficients<typename Op::A>& k,
                                  const typename Op::Form& form, ChannelSums& s) {
  if (part.begins_block) s.begin<Op>(t, part.block, c);
  add_around_pivot<Op, Op::quads_unrolled>(at, part.length, ahead, border, k, form, s);
  if (part.ends_block) s.finish(t, part.block, c);
}

/// Sample by sample and channel by channel through memory, in groups of channels.
template <class Op>
static void reduce_rows(const Tile& t) {
  const Order& o = t.order;
  const auto arrays = arrays_of<Op>(t, 0);
  const typename Op::Form form(*t.form);
  const int64_t strips = strip_count(o), first = t.b0 * kBlockStrips;
  const int64_t last = t.b1 * kBlockStrips < strips ? t.b1 * kBlockStrips : strips;
  for (int64_t c = t.c0; c < t.c1; c += kRowChannels) {
    const int64_t channels = t.c1 - c < kRowChannels ? t.c1 - c : kRowChannels;
    ChannelSums sums[kRowChannels];
    static_assert(Op::read_count <= kMostOperands);
    Ahead ahead(t, Op::reads, Op::read_count, channels);
    int64_t n = strip_position(o, first).n;
    for (int64_t strip = first; strip < last; strip = ++n * o.strips_per_sample) {
      const Segment head(o, n, strip, last);
      Cursor<Op> run(t, n, c, head.s);
      ahead.go_to(n);
      if constexpr (Op::has_lean_rows && !Op::always_centered)
        if (!t.in_memory && o.spatial <= kShortRun) {
          each_segment(o, head, last, [&](const Segment& part) {
            reduce_short_runs<Op>(t, part, run, c, channels, ahead, sums);
            run.advance(part.length);
          });
          continue;
        }
      for (int64_t j = 0; j < channels; ++j, run.advance(t)) {
        const auto k = broadcast_coefficients<Op>(arrays, c + j);
        Cursor<Op> at_part = run;
        each_segment(o, head, last, [&](const Segment& part) {
          reduce_segment<Op>(t, part, at_part, c + j, ahead, ahead.border(j, part.s), k, form, sums[j]);
          at_part.advance(part.length);
        });
      }
    }
    finish_blocks<Op>(t, c, channels, [&](int64_t begin, int64_t count, int64_t channel, ChannelSums& s) {
      const auto k = broadcast_coefficients<Op>(arrays, channel);
      each_run(o.spatial, {begin / o.spatial, begin % o.spatial}, count, [&](int64_t sample, int64_t s0, int64_t s1) {
        const Cursor<Op> run(t, sample, channel, s0);
        add_centered_run<Op>(run.from, run.mask, s1 - s0, ahead, 0, k, form, s);
      });
    });
  }
}
