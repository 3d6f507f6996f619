// SPDX-License-Identifier: Apache-2.0
// Rows: lanes are 16 consecutive positions of one channel; stride_s = 1 in every tensor, S > 8.
#pragma once

/// Calls body(n, s_begin, s_end) for each sample's part of the positions [begin, end).
template <class Body>
static inline void each_run(int64_t spatial, int64_t begin, int64_t end, Body body) {
  int64_t n = begin / spatial, s = begin % spatial;
  while (begin < end) {
    const int64_t run = spatial - s < end - begin ? spatial - s : end - begin;
    body(n, s, s + run);
    begin += run;
    ++n;
    s = 0;
  }
}

template <class T>
static inline T* at(const View& v, int64_t n, int64_t c, int64_t s) {
  return static_cast<T*>(v.data) + (n * v.n + c * v.c + s * v.s);
}

/// Sums of the positions [begin, end) of channel c with the given coefficients.
template <class Op>
static inline void sum_row(const Tile& t, int64_t c, int64_t begin, int64_t end, const Coefficients<typename Op::A>& k,
                           double* first, double* second) {
  using E = Element<typename Op::Type>;
  constexpr int reads = Op::read_count;
  Octet p = Octet::zero(), q = Octet::zero();
  each_run(t.order.spatial, begin, end, [&](int64_t n, int64_t s0, int64_t s1) {
    const typename Op::Type* from[reads];
    for (int r = 0; r < reads; ++r) from[r] = at<typename Op::Type>(t.tensor[Op::reads[r]], n, c, s0);
    const int64_t count = s1 - s0;
    Lanes<typename Op::A> in[reads];
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
      for (int r = 0; r < reads; ++r) in[r] = E::load(from[r] + i);
      const Summands a = Op::summands(in, k);
      p.add(a.first);
      q.add(a.second);
    }
    if (i == count) return;
    const int64_t left = count - i, lo = left < 8 ? left : 8;
    for (int r = 0; r < reads; ++r) in[r] = E::load_first(from[r] + i, left);
    const Summands a = Op::summands(in, k);
    p.add(keep(a.first, lo, left - lo));
    q.add(keep(a.second, lo, left - lo));
  });
  *first = p.sum();
  *second = q.sum();
}

/// The reduction of one channel and block, given how positions are summed; shared by rows and scattered.
template <class Op, class Sum>
static inline void reduce_block(const Tile& t, int64_t c, int64_t b, Sum sum) {
  const int64_t begin = block_begin(t.order, b), end = block_begin(t.order, b + 1);
  Coefficients<typename Op::A> k = {};
  if constexpr (!Op::takes_pivot) k = broadcast_coefficients<Op>(arrays_of<typename Op::A>(t), c);
  double pivot = 0, first = 0, second = 0;
  for (int pass = 0; pass < Op::passes; ++pass) {
    if constexpr (Op::takes_pivot) {
      using T = typename Op::Type;
      const int64_t s = t.order.spatial;
      pivot = pass > 0 ? first : Element<T>::widen_one(*at<T>(t.tensor[kX], begin / s, c, begin % s));
      k.mean = Lanes<double>::broadcast(pivot);
    }
    sum(begin, end, k, &first, &second);
    Op::finish(static_cast<double>(end - begin), pivot, first, second);
  }
  t.first[b * t.channels + c] = first;
  t.second[b * t.channels + c] = second;
}

template <class Op>
static void reduce_rows(const Tile& t) {
  for (int64_t c = t.c0; c < t.c1; ++c)
    for (int64_t b = t.b0; b < t.b1; ++b)
      reduce_block<Op>(t, c, b, [&](int64_t begin, int64_t end, const auto& k, double* first, double* second) {
        sum_row<Op>(t, c, begin, end, k, first, second);
      });
}

/// One run of `count` elements, contiguous in every tensor; coefficients(i) are those of the elements i .. i + 15.
template <class Op, class CoefficientsAt>
static inline void map_run(const typename Op::Type* const* from, typename Op::Type* const* to, int64_t count,
                           CoefficientsAt coefficients) {
  using E = Element<typename Op::Type>;
  constexpr int reads = Op::read_count, writes = Op::write_count;
  Lanes<typename Op::A> in[reads], out[writes];
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int r = 0; r < reads; ++r) in[r] = E::load(from[r] + i);
    Op::apply(in, coefficients(i), out);
    for (int w = 0; w < writes; ++w)
      if (to[w]) E::store(to[w] + i, out[w]);
  }
  if (i == count) return;
  for (int r = 0; r < reads; ++r) in[r] = E::load_first(from[r] + i, count - i);
  Op::apply(in, coefficients(i), out);
  for (int w = 0; w < writes; ++w)
    if (to[w]) E::store_first(to[w] + i, out[w], count - i);
}

/// Element pointers of an operation's tensors at (n, c, s); NULL for outputs that were not given.
template <class Op>
struct Cursor {
  const typename Op::Type* from[Op::read_count];
  typename Op::Type* to[Op::write_count];

  Cursor(const Tile& t, int64_t n, int64_t c, int64_t s) {
    for (int r = 0; r < Op::read_count; ++r) from[r] = at<typename Op::Type>(t.tensor[Op::reads[r]], n, c, s);
    for (int w = 0; w < Op::write_count; ++w) {
      const View& v = t.tensor[Op::writes[w]];
      to[w] = v.data ? at<typename Op::Type>(v, n, c, s) : nullptr;
    }
  }

  /// To the next position of the sample.
  void advance(const Tile& t) {
    for (int r = 0; r < Op::read_count; ++r) from[r] += t.tensor[Op::reads[r]].s;
    for (int w = 0; w < Op::write_count; ++w)
      if (to[w]) to[w] += t.tensor[Op::writes[w]].s;
  }
  void advance(int64_t elements) {
    for (auto& p : from) p += elements;
    for (auto& p : to)
      if (p) p += elements;
  }
};

template <class Op>
static void map_rows(const Tile& t) {
  const auto arrays = arrays_of<typename Op::A>(t);
  const int64_t begin = block_begin(t.order, t.b0), end = block_begin(t.order, t.b1);
  for (int64_t c = t.c0; c < t.c1; ++c) {
    const auto k = broadcast_coefficients<Op>(arrays, c);
    each_run(t.order.spatial, begin, end, [&](int64_t n, int64_t s0, int64_t s1) {
      const Cursor<Op> run(t, n, c, s0);
      map_run<Op>(
          run.from, run.to, s1 - s0, [&](int64_t) -> const auto& { return k; });
    });
  }
}
