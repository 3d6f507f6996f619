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

  /// To the next channel.
  void advance(const Tile& t) {
    each<0, Op::read_count>([&](auto r) { from[r] += t.tensor[Op::reads[r]].c; });
    each<0, Op::write_count>([&](auto w) {
      if (to[w]) to[w] += t.tensor[Op::writes[w]].c;
    });
    if (Op::has_mask && mask) mask += t.tensor[kMask].c >> 3;
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

// Elements that a pass fetches ahead of itself: half a page, since the hardware's prefetchers begin anew on every
// page; from memory two pages, whose addresses take long to find, and from where the loop will be then. With it
// training of 50x64x3136 takes 0.85 of the time, of 128x64x784 0.69, backward 0.91 and 0.74 (1 thread, AVX-512). Maps
// do so from memory alone: inference of 256x64x3136 takes 0.95 of the time planar and 0.88 channels-last, in bf16 0.63,
// training 0.96 and 0.92, in bf16 channels-last 0.80.
constexpr int64_t kAhead = 512, kAheadInMemory = 2048;

/// Fetches a line for reading, into L1 or only into L2, which waits for more lines at once. So do all reductions: from
/// memory moments of 50x64x3136 take 0.63 of the time planar and 0.48 channels-last, of 50x256x784 0.67 and 0.78, while
/// in cache planar gradient sums take 1.03. Of maps those of columns: inference of 50x256x784 takes 0.66, but planar it
/// would take 1.3 (AVX-512, 1 thread, EPYC).
static inline BNORM_IN_LOOP void fetch(const char* place, bool to_l2) {
  to_l2 ? __builtin_prefetch(place, 0, 2) : __builtin_prefetch(place);
}
