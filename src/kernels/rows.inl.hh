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

static inline Position first_position(const Tile& t) { return {t.begin / t.order.spatial, t.begin % t.order.spatial}; }

template <class T>
static inline T* at(const View& v, int64_t n, int64_t c, int64_t s) {
  return static_cast<T*>(v.data) + (n * v.n + c * v.c + s * v.s);
}

/// Element pointers of an operation's tensors at (n, c, s); NULL for outputs that were not given.
template <class Op>
struct Cursor {
  using T = typename Op::Type;
  const T* from[Op::read_count];
  T* to[Op::write_count > 0 ? Op::write_count : 1];

  Cursor(const Tile& t, int64_t n, int64_t c, int64_t s) {
    each<0, Op::read_count>([&](auto r) { from[r] = at<T>(t.tensor[Op::reads[r]], n, c, s); });
    each<0, Op::write_count>([&](auto w) {
      const View& v = t.tensor[Op::writes[w]];
      to[w] = v.data ? at<T>(v, n, c, s) : nullptr;
    });
  }

  /// To the next sample, channel or position.
  void advance(const Tile& t, int64_t View::*stride) {
    each<0, Op::read_count>([&](auto r) { from[r] += t.tensor[Op::reads[r]].*stride; });
    each<0, Op::write_count>([&](auto w) {
      if (to[w]) to[w] += t.tensor[Op::writes[w]].*stride;
    });
  }
  void advance(int64_t elements) {
    each<0, Op::read_count>([&](auto r) { from[r] += elements; });
    each<0, Op::write_count>([&](auto w) {
      if (to[w]) to[w] += elements;
    });
  }
};

// Channels summed side by side where S is small: of 7 x 7 images 6 KB, a run of memory long enough for the prefetchers.
// Their 16 sums each fill 4 KB of the smallest L1, 32 KB.
constexpr int64_t kRowChannels = 32;
// From 2 KB on a channel's positions are such a run themselves.
constexpr int64_t kLongRow = 512;

// Half a page: the hardware's prefetchers begin anew on every page. Moments of 32 x 64 x 3136 take 0.85 of the time.
constexpr int64_t kAheadBytes = 2048;

/// Adds one run of `count` elements to the sums of its channel.
template <class Op>
static inline void add_run(const typename Op::Type* const* from, int64_t count, const Coefficients<typename Op::A>& k,
                           Octet& first, Octet& second) {
  using In = Input<typename Op::Type>;
  constexpr int reads = Op::read_count;
  Octet p = first, q = second;
  In in[reads];
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    each<0, reads>([&](auto r) {
      __builtin_prefetch(reinterpret_cast<const char*>(from[r] + i) + kAheadBytes);
      in[r] = In::load(from[r] + i);
    });
    const Summands a = Op::summands(in, k);
    p = p + octet_sum(a.first);
    q = q + octet_sum(a.second);
  }
  if (i < count) {
    const int64_t left = count - i;
    each<0, reads>([&](auto r) { in[r] = In::load_first(from[r] + i, left); });
    const Summands a = Op::summands(in, k);
    p = p + octet_sum(keep(a.first, left, left - 8));
    q = q + octet_sum(keep(a.second, left, left - 8));
  }
  first = p;
  second = q;
}

/// The reduction of one block for up to kRowChannels channels from c on; add(begin, count, coefficients, first, second)
/// adds its positions to the channels' sums, with coefficients(j) those of channel c + j.
template <class Op, class Add>
static inline void reduce_channels(const Tile& t, int64_t c, int64_t channels, int64_t b, Add add) {
  using A = typename Op::A;
  const Position begin = strip_position(t.order, b * kBlockStrips);
  const int64_t count = block_begin(t.order, b + 1) - (begin.n * t.order.spatial + begin.s);
  const auto arrays = arrays_of<A>(t);
  double pivot[kRowChannels] = {};
  double* const first = t.first + b * t.channels + c;
  double* const second = t.second + b * t.channels + c;
  const auto coefficients = [&](int64_t j) {
    if constexpr (!Op::takes_pivot) return broadcast_coefficients<Op>(arrays, c + j);
    Coefficients<A> k;
    k.mean = Lanes<double>::broadcast(pivot[j]);
    return k;
  };
  for (int pass = 0; pass < Op::passes; ++pass) {
    Octet p[kRowChannels], q[kRowChannels];
    for (int64_t j = 0; j < channels; ++j) {
      p[j] = q[j] = Octet::broadcast(0);
      if constexpr (Op::takes_pivot)
        pivot[j] =
            pass > 0
                ? first[j]
                : Element<typename Op::Type>::widen_one(*at<typename Op::Type>(t.tensor[kX], begin.n, c + j, begin.s));
    }
    add(begin, count, coefficients, p, q);
    for (int64_t j = 0; j < channels; ++j) {
      first[j] = tree_sum(p[j]);
      second[j] = tree_sum(q[j]);
    }
    Op::finish(static_cast<double>(count), pivot, first, second, channels);
  }
}

template <class Op>
static void reduce_rows(const Tile& t) {
  const int64_t step = t.order.spatial < kLongRow ? kRowChannels : 1;
  for (int64_t c = t.c0; c < t.c1; c += step) {
    const int64_t channels = t.c1 - c < step ? t.c1 - c : step;
    for (int64_t b = t.b0; b < t.b1; ++b)
      reduce_channels<Op>(t, c, channels, b, [&](Position begin, int64_t count, const auto& k, Octet* p, Octet* q) {
        each_run(t.order.spatial, begin, count, [&](int64_t n, int64_t s0, int64_t s1) {
          Cursor<Op> run(t, n, c, s0);
          for (int64_t j = 0; j < channels; ++j, run.advance(t, &View::c))
            add_run<Op>(run.from, s1 - s0, k(j), p[j], q[j]);
        });
      });
  }
}

/// The elements [i, i + n), n <= 16, of a run.
template <class Op>
static inline BNORM_IN_LOOP void map_part(const typename Op::Type* const* from, typename Op::Type* const* to, int64_t i,
                                          int64_t n, const Coefficients<typename Op::A>& k) {
  using E = Element<typename Op::Type>;
  constexpr int reads = Op::read_count, writes = Op::write_count;
  Lanes<typename Op::A> in[reads], out[writes];
  each<0, reads>([&](auto r) { in[r] = E::load_first(from[r] + i, n); });
  Op::apply(in, k, out);
  each<0, writes>([&](auto w) {
    if (to[w]) E::store_first(to[w] + i, out[w], n);
  });
}

/// The elements of a run from i on, 16 at a time; returns how far it came.
template <class Op, bool stream, class CoefficientsAt>
static inline BNORM_IN_LOOP int64_t map_lanes(const typename Op::Type* const* from, typename Op::Type* const* to,
                                              int64_t i, int64_t count, CoefficientsAt coefficients) {
  using E = Element<typename Op::Type>;
  constexpr int reads = Op::read_count, writes = Op::write_count;
  Lanes<typename Op::A> in[reads], out[writes];
  for (; i + 16 <= count; i += 16) {
    each<0, reads>([&](auto r) { in[r] = E::load(from[r] + i); });
    Op::apply(in, coefficients(i), out);
    each<0, writes>([&](auto w) {
      if (stream && w == 0)
        E::stream(to[w] + i, out[w]);
      else if (to[w])
        E::store(to[w] + i, out[w]);
    });
  }
  return i;
}

// A cache line on every CPU of the ISAs that can store around the cache.
constexpr int64_t kLineBytes = 64;
// A run of fewer elements has too large a part of its lines in common with others: those are better completed in cache.
constexpr int64_t kStreamedRun = 128;

/// Whether a run of output is worth storing around the cache: a long one, or nothing but whole lines.
template <class T>
static inline bool is_streamed(const T* to, int64_t count) {
  const auto bytes = static_cast<uintptr_t>(count) * sizeof(T);
  return to && (count >= kStreamedRun || (reinterpret_cast<uintptr_t>(to) | bytes) % kLineBytes == 0);
}

/// Elements before the next cache line.
template <class T>
static inline int64_t elements_to_line(const T* p) {
  return static_cast<int64_t>(-reinterpret_cast<uintptr_t>(p) % kLineBytes / sizeof(T));
}

/// One run of `count` elements, contiguous in every tensor; coefficients(i) are those of the elements i .. i + 15.
/// With `stream`, whole cache lines of the first output go around the cache.
template <class Op, class CoefficientsAt>
static inline void map_run(const typename Op::Type* const* from, typename Op::Type* const* to, int64_t count,
                           bool stream, CoefficientsAt coefficients) {
  int64_t i = 0;
  if (stream && is_streamed(to[0], count)) {
    i = elements_to_line(to[0]);
    if (i > 0) map_part<Op>(from, to, 0, i, coefficients(0));
    i = map_lanes<Op, true>(from, to, i, count, coefficients);
  } else {
    i = map_lanes<Op, false>(from, to, 0, count, coefficients);
  }
  if (i < count) map_part<Op>(from, to, i, count - i, coefficients(i));
}

/// Sample by sample through memory: packed tensors are read and written from end to end.
template <class Op>
BNORM_FLAT void map_rows(const Tile& t) {
  const auto arrays = arrays_of<typename Op::A>(t);
  each_run(t.order.spatial, first_position(t), t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
    Cursor<Op> run(t, n, t.c0, s0);
    for (int64_t c = t.c0; c < t.c1; ++c, run.advance(t, &View::c)) {
      const auto k = broadcast_coefficients<Op>(arrays, c);
      map_run<Op>(
          run.from, run.to, s1 - s0, t.stream, [&](int64_t) -> const auto& { return k; });
    }
  });
  if (t.stream) finish_stores();
}
