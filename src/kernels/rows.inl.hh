// SPDX-License-Identifier: Apache-2.0
// Rows: lanes are 16 consecutive positions of one channel; stride_s = 1 in every tensor, S > 8.
#pragma once

/// Calls body(n, s_begin, s_end) for each sample's part of `count` positions from p on.
template <class Body>
static inline void each_run(int64_t spatial, Position p, int64_t count, Body body) {
  while (count > 0) {
    const int64_t run = spatial - p.s < count ? spatial - p.s : count;
    body(p.n, p.s, p.s + run);
    count -= run;
    p = {p.n + 1, 0};
  }
}

static inline Position first_position(const Tile& t) {
  if (t.begin == 0) return {0, 0};
  return {t.begin / t.order.spatial, t.begin % t.order.spatial};
}

/// Elements of an operation's tensors at (n, c, s); outputs and masks that were not given are NULL.
template <class Op>
struct Cursor {
  using E = Element<typename Op::Type>;
  typename E::From from[Op::read_count];
  typename E::To to[Op::write_count > 0 ? Op::write_count : 1];
  char* mask;

  Cursor(const Tile& t, int64_t n, int64_t c, int64_t s) : mask(mask_at<Op>(t, n, c, s)) {
    each<0, Op::read_count>([&](auto r) { from[r] = E::at(t.tensor[Op::reads[r]], n, c, s); });
    each<0, Op::write_count>([&](auto w) {
      const View& v = t.tensor[Op::writes[w]];
      to[w] = v.data ? E::at(v, n, c, s) : typename E::To{};
    });
  }

  /// By `times` samples, channels or positions.
  void advance(const Tile& t, int64_t View::*stride, int64_t times = 1) {
    each<0, Op::read_count>([&](auto r) { from[r] += t.tensor[Op::reads[r]].*stride * times; });
    each<0, Op::write_count>([&](auto w) {
      if (to[w]) to[w] += t.tensor[Op::writes[w]].*stride * times;
    });
    if (Op::has_mask && mask) mask += (t.tensor[kMask].*stride * times) >> 3;
  }
  void advance(int64_t elements) {
    each<0, Op::read_count>([&](auto r) { from[r] += elements; });
    each<0, Op::write_count>([&](auto w) {
      if (to[w]) to[w] += elements;
    });
    if (Op::has_mask && mask) mask += elements >> 3;
  }
};

/// The element pointers that a cursor holds.
template <class Op>
using From = typename Element<typename Op::Type>::From;
template <class Op>
using To = typename Element<typename Op::Type>::To;

// Channels whose sums are under way at once, so that packed samples are read in long runs. Their sums are 4 KB, an
// eighth of the smallest L1.
constexpr int64_t kRowChannels = 32;

// Elements that a pass fetches ahead of itself: half a page, since the hardware's prefetchers begin anew on every
// page; from memory two pages, whose addresses take long to find, and from where the loop will be then. With it
// training of 50x64x3136 takes 0.85 of the time, of 128x64x784 0.69, backward 0.91 and 0.74 (1 thread, AVX-512). Maps
// do so from memory alone: inference of 256x64x3136 takes 0.95 of the time planar and 0.88 channels-last, in bf16 0.63,
// training 0.96 and 0.92, in bf16 channels-last 0.80.
constexpr int64_t kAhead = 512, kAheadInMemory = 2048;

// How far outputs are fetched ahead for writing, half a page: inference of 60 x 100, whose rows share lines, takes 0.69
// of the time, of 1 x 256 x 784 0.93.
constexpr int64_t kAheadBytes = 2048;

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

  /// Writes them as those of block b and channel c.
  void finish(const Tile& t, int64_t b, int64_t c) const {
    t.first[b * t.channels + c] = tree_sum(sums.first);
    t.second[b * t.channels + c] = tree_sum(sums.second);
  }
};

/// Adds `count` elements of one sample, from the beginning of a quad on, to the sums of its channel.
template <class Op, bool centered>
static inline void add_run(const From<Op>* from, char* mask, int64_t count, const Ahead& ahead, int64_t border,
                           const Coefficients<typename Op::A>& k, const typename Op::Form& form, ChannelSums& s) {
  using E = Element<typename Op::Type>;
  const auto pivots = Lanes<double>::broadcast(s.pivot);
  const auto strip = [&](int64_t i, const int64_t* steps) BNORM_IN_LOOP {
    each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP {
      if (Op::is_read(r, form)) __builtin_prefetch(E::place(from[r] + (i + steps[r])));
    });
    return Op::template terms<centered>(Operands<Op, true>{from, mask, i, kStrip}, k, form, pivots);
  };
  Sums<Octet> all = s.sums;
  int64_t i = 0;
  for (; Op::quads_unrolled && i + kQuad <= count; i += kQuad) {
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
      add_octets<Op, centered>(keep<Op, centered>(terms, left, left - 8), quad);
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
  add_run<Op, true>(from, mask, count, ahead, border, k, form, s);
}

/// Calls body(centered) with what the pivot asks for.
template <class Op, class Body>
static inline void with_centering(double pivot, Body body) {
  if constexpr (!Op::always_centered)
    if (pivot == 0) return body(Index<0>());
  body(Index<1>());
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

/// Adds a segment to the sums of channel c.
template <class Op>
static inline void reduce_segment(const Tile& t, const Segment& part, const Cursor<Op>& at, int64_t c,
                                  const Ahead& ahead, int64_t border, const Coefficients<typename Op::A>& k,
                                  const typename Op::Form& form, ChannelSums& s) {
  if (part.begins_block) {
    Op::first_pivots(t, c, 1, part.block, &s.pivot);
    s.sums = Sums<Octet>::zero();
  }
  with_centering<Op>(s.pivot, [&](auto centered) {
    if constexpr (centered)
      add_centered_run<Op>(at.from, at.mask, part.length, ahead, border, k, form, s);
    else
      add_run<Op, false>(at.from, at.mask, part.length, ahead, border, k, form, s);
  });
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
      for (int64_t j = 0; j < channels; ++j, run.advance(t, &View::c)) {
        const auto k = broadcast_coefficients<Op>(arrays, c + j);
        Cursor<Op> at_part = run;
        for (Segment part = head;; part = Segment(o, n, part.end, last)) {
          reduce_segment<Op>(t, part, at_part, c + j, ahead, ahead.border(j, part.s), k, form, sums[j]);
          if (part.is_last(o, last)) break;
          at_part.advance(part.length);
        }
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

/// Whether an output of a map is: the only one always is.
template <class Op>
static inline BNORM_IN_LOOP bool is_given(const To<Op>& to) {
  return Op::write_count == 1 || to;
}

/// Fetches lines of the outputs, ahead of element i of a run, for writing.
template <class Op>
static inline BNORM_IN_LOOP void fetch_ahead(const To<Op>* to, int64_t i) {
  using E = Element<typename Op::Type>;
  each<0, Op::write_count>([&](auto w) BNORM_IN_LOOP {
    if (is_given<Op>(to[w])) __builtin_prefetch(E::place(to[w] + i) + kAheadBytes, 1);
  });
}

/// Fetches what an operation reads `ahead` elements after element i of a run.
template <class Op>
static inline BNORM_IN_LOOP void fetch_reads(const From<Op>* from, int64_t i, int64_t ahead) {
  using E = Element<typename Op::Type>;
  each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP { __builtin_prefetch(E::place(from[r] + (i + ahead))); });
}

/// 16 elements of a run from i on, or unless `full` the first `count` of them.
template <class Op, bool full, bool stream = false>
static inline BNORM_IN_LOOP void map_strip(const From<Op>* from, const To<Op>* to, char* mask, int64_t i, int64_t count,
                                           const Coefficients<typename Op::A>& k, const typename Op::Form& form) {
  using E = Element<typename Op::Type>;
  Lanes<typename Op::A> out[Op::write_count];
  Op::apply(Operands<Op, full>{from, mask, i, count}, k, form, out);
  each<0, Op::write_count>([&](auto w) BNORM_IN_LOOP {
    if constexpr (stream && w == 0) return E::stream(to[w] + i, out[w]);
    if (!is_given<Op>(to[w])) return;
    if constexpr (full)
      E::store(to[w] + i, out[w]);
    else
      E::store_first(to[w] + i, out[w], count);
  });
}

/// How a map goes through its tile. Runs that are not streamed fetch nothing of what they read.
struct MapPath {
  bool stream;    // the first output around the caches
  bool twins;     // where there are 32 elements
  int64_t ahead;  // elements that streamed runs fetch ahead of what they read; 0: nothing

  /// `adjoin`: runs do, else gaps between them would be fetched, too.
  MapPath(const Tile& t, bool takes_twins, bool adjoin)
      : stream(t.in_memory), twins(takes_twins), ahead(t.from_memory && adjoin ? kAheadInMemory : 0) {}
};

/// The elements of a run from i on, 16 at a time; returns how far it came.
template <class Op, bool stream, class RunCoefficients>
static inline BNORM_IN_LOOP int64_t map_strips(const From<Op>* from, const To<Op>* to, char* mask, int64_t i,
                                               int64_t count, int64_t ahead, RunCoefficients coefficients,
                                               const typename Op::Form& form) {
  for (; i + kStrip <= count; i += kStrip) {
    stream ? fetch_reads<Op>(from, i, ahead) : fetch_ahead<Op>(to, i);
    map_strip<Op, true, stream>(from, to, mask, i, kStrip, coefficients.at(i, kStrip), form);
  }
  return i;
}

/// Whether any of the coefficients [begin, end) of a tile of f32 arithmetic is NaN.
static __attribute__((noinline)) bool has_nan(const Tile& t, int begin, int end) {
  unsigned count = 0;  // as wide as f32, to be counted in its lanes
  for (int k = begin; k < end; ++k) {
    const auto* const values = static_cast<const float*>(t.coefficient[k]);
    for (int64_t c = t.c0; c < t.c1; ++c) count += values[c] != values[c];
  }
  return count > 0;
}

/// Whether a map takes twins: bf16 comes in and goes out, and no coefficient is NaN, whose lower half may be anything.
template <class Op>
static inline bool takes_twins(const Tile& t, const typename Op::Form& form) {
  bool all = true;
  each<0, Op::read_count>(
      [&](auto r) { all = all && (t.tensor[Op::reads[r]].type == kBf16 || !Op::is_read(r, form)); });
  each<0, Op::write_count>([&](auto w) {
    const View& v = t.tensor[Op::writes[w]];
    all = all && (v.type == kBf16 || !v.data);
  });
  return all && !has_nan(t, Op::coefficient_begin, Op::used_end(form));
}

/// 32 bf16 elements of a run from i on; `stream`: the first output's around the cache.
template <class Op>
static inline BNORM_IN_LOOP void map_twin(const From<Op>* from, const To<Op>* to, int64_t i, bool stream,
                                          const Coefficients<typename Op::A>& of_even,
                                          const Coefficients<typename Op::A>& of_odd, const typename Op::Form& form) {
  using E = Element<typename Op::Type>;
  Lanes<typename Op::A> even[Op::write_count], odd[Op::write_count];
  Op::apply(TwinOperands<Op, false>{{from, nullptr, i, kStrip}}, of_even, form, even);
  Op::apply(TwinOperands<Op, true>{{from, nullptr, i, kStrip}}, of_odd, form, odd);
  each<0, Op::write_count>([&](auto w) BNORM_IN_LOOP {
    if (is_given<Op>(to[w])) E::store_twins(to[w] + i, stream && w == 0, even[w], odd[w]);
  });
}

/// The bf16 elements of a run from i on, 32 at a time; returns how far it came.
template <class Op, bool stream, class RunCoefficients>
static inline BNORM_IN_LOOP int64_t map_twins(const From<Op>* from, const To<Op>* to, int64_t i, int64_t count,
                                              int64_t ahead, RunCoefficients coefficients,
                                              const typename Op::Form& form) {
  for (; i + kTwins <= count; i += kTwins) {
    stream ? fetch_reads<Op>(from, i, ahead) : fetch_ahead<Op>(to, i);
    map_twin<Op>(from, to, i, stream, coefficients.template twin<false>(i), coefficients.template twin<true>(i), form);
  }
  return i;
}

// A cache line on every CPU of the ISAs that can store around the cache.
constexpr int64_t kLineBytes = 64;
// A run of fewer elements has too large a part of its lines in common with others: those are better completed in cache.
constexpr int64_t kStreamedRun = 128;

/// Whether `to` begins a cache line, and so does what lies `elements` behind it.
template <class Op>
static inline bool is_in_lines(const To<Op>& to, int64_t elements) {
  using E = Element<typename Op::Type>;
  const auto bytes = static_cast<uintptr_t>(elements * E::bytes(to));
  return (reinterpret_cast<uintptr_t>(E::place(to)) | bytes) % kLineBytes == 0;
}

/// Whether a run of output is worth storing around the cache: a long one, or nothing but whole lines.
template <class Op>
static inline bool is_streamed(const To<Op>& to, int64_t count) {
  return to && (count >= kStreamedRun || is_in_lines<Op>(to, count));
}

/// Elements of an output that take so many bytes.
template <class Op>
static inline int64_t elements_in(int64_t bytes, const To<Op>& to) {
  using E = Element<typename Op::Type>;
  return bytes >> __builtin_ctzll(static_cast<uint64_t>(E::bytes(to)));  // no division on the way of every run
}

/// Elements before the next cache line.
template <class Op>
static inline int64_t elements_to_line(const To<Op>& to) {
  using E = Element<typename Op::Type>;
  const auto address = reinterpret_cast<uintptr_t>(E::place(to));
  return elements_in<Op>(static_cast<int64_t>(-address % kLineBytes), to);
}

/// One run of `count` elements, contiguous in every tensor; coefficients.at(i, n) are those of the n elements from i
/// on, coefficients.twin<odd>(i) those of a twin. Streamed, whole cache lines of the first output go around the
/// cache; with a mask only where the run begins one, since its bits lie 16 by 16 from there on.
template <class Op, class RunCoefficients>
static inline void map_run(const From<Op>* from, const To<Op>* to, char* mask, int64_t count, const MapPath& path,
                           RunCoefficients coefficients, const typename Op::Form& form) {
  bool stream = path.stream && is_streamed<Op>(to[0], count);
  int64_t i = 0, part = stream ? elements_to_line<Op>(to[0]) : 0;
  if (Op::has_mask && mask && part > 0) {
    stream = false;
    part = 0;
  }
  // To the last whole line: a strip of 16-bit elements is half of one, whose other half would follow through the cache.
  // 32x256x784 took 1.5 of the time so.
  int64_t last = count;
  if constexpr (Op::has_halves)
    if (stream) last -= (count - part) & (elements_in<Op>(kLineBytes, to[0]) - 1);
  // Once, or twice where the run begins or ends with a part.
  for (;;) {
    for (int64_t some; part > 0; part -= some, i += some) {
      some = part < kStrip ? part : kStrip;
      map_strip<Op, false>(from, to, mask, i, some, coefficients.at(i, some), form);
    }
    if (i == count) return;
    if constexpr (RunCoefficients::has_twins)
      if (path.twins)
        i = stream ? map_twins<Op, true>(from, to, i, last, path.ahead, coefficients, form)
                   : map_twins<Op, false>(from, to, i, last, path.ahead, coefficients, form);
    i = stream ? map_strips<Op, true>(from, to, mask, i, last, path.ahead, coefficients, form)
               : map_strips<Op, false>(from, to, mask, i, count, path.ahead, coefficients, form);
    part = count - i;
    if (part == 0) return;
  }
}

/// The same coefficients for all elements of a run. By value: behind a reference they pass through memory, and
/// 8 x 512 x 16 infers in twice the time.
template <class Op>
struct SameCoefficients {
  static constexpr bool has_twins = Op::has_twins;
  Coefficients<typename Op::A> all;

  Coefficients<typename Op::A> at(int64_t, int64_t) { return all; }
  template <bool odd>
  Coefficients<typename Op::A> twin(int64_t) {
    return all;
  }
};

/// Sample by sample through memory: packed tensors are read and written from end to end.
template <class Op>
BNORM_FLAT void map_rows(const Tile& t) {
  const auto arrays = arrays_of<Op>(t, 0);
  const typename Op::Form form(*t.form);
  const MapPath path(t, Op::has_twins && t.order.spatial >= kTwins && takes_twins<Op>(t, form), true);
  each_run(t.order.spatial, first_position(t), t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
    Cursor<Op> run(t, n, t.c0, s0);
    for (int64_t c = t.c0; c < t.c1; ++c, run.advance(t, &View::c)) {
      SameCoefficients<Op> k = {broadcast_coefficients<Op>(arrays, c)};
      map_run<Op>(run.from, run.to, run.mask, s1 - s0, path, k, form);
    }
  });
}
