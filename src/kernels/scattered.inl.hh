// SPDX-License-Identifier: Apache-2.0
// Scattered: any strides in any tensor. Elements are packed into strips one by one: right, not fast.
#pragma once

/// One bit of the mask.
struct MaskBit {
  unsigned char* byte;
  unsigned bit;

  MaskBit(const View& v, int64_t n, int64_t c, int64_t s) {
    const int64_t at = n * v.n + c * v.c + s * v.s;
    byte = static_cast<unsigned char*>(v.data) + (at >> 3);
    bit = 1u << (at & 7);
  }
  LaneBits get() const { return (*byte & bit) != 0; }
  void put(LaneBits b) const { *byte = static_cast<unsigned char>((b & 1u) != 0 ? *byte | bit : *byte & ~bit); }
};

/// Packs the strip that begins at `position` into 16 elements (octets at 0 and 8, zeros where there is no position) and
/// returns how many each octet holds; and their bits of the mask, if there is one.
struct PackedStrip {
  int64_t lo, hi;
};

template <class Op>
static inline PackedStrip pack_strip(const Tile& t, int64_t c, int64_t position, int64_t end,
                                     typename Op::A (*buffer)[16], LaneBits* bits) {
  using E = Element<typename Op::Type>;
  const int64_t spatial = t.order.spatial;
  const int64_t octet = spatial > kOctet ? kOctet : t.order.octet_samples * spatial;
  const int64_t sample_end = spatial > kOctet ? (position / spatial + 1) * spatial : end;
  int64_t count[2];
  for (int h = 0; h < 2; ++h) {
    const int64_t left = (sample_end < end ? sample_end : end) - position;
    count[h] = left < octet ? left : octet;
    for (int64_t i = 0; i < count[h]; ++i, ++position) {
      const int64_t n = position / spatial, s = position % spatial, lane = 8 * h + i;
      for (int r = 0; r < Op::read_count; ++r) buffer[r][lane] = E::get(E::at(t.tensor[Op::reads[r]], n, c, s));
      if (Op::has_mask && t.tensor[kMask].data) *bits |= MaskBit(t.tensor[kMask], n, c, s).get() << lane;
    }
  }
  return {count[0], count[1]};
}

/// Adds the positions [begin, end) of one block to the sums of channel c.
template <class Op, bool centered>
static inline void add_scattered(const Tile& t, int64_t c, int64_t begin, int64_t end,
                                 const Coefficients<typename Op::A>& k, const typename Op::Form& form, double pivot,
                                 Sums<Octet>& sums) {
  using E = Element<typename Op::Type>;
  constexpr int reads = Op::read_count;
  const int64_t spatial = t.order.spatial;
  const auto pivots = Lanes<double>::broadcast(pivot);
  while (begin < end) {
    // Quads end with their sample where strips do.
    const int64_t sample_end = spatial > kOctet ? (begin / spatial + 1) * spatial : end;
    Sums<Octet> quad = Sums<Octet>::zero();
    for (int64_t i = 0; i < kQuadStrips && begin < end && begin < sample_end; ++i) {
      typename Op::A buffer[reads][16] = {};
      LaneBits bits = 0;
      char mask[2];
      const PackedStrip strip = pack_strip<Op>(t, c, begin, end, buffer, &bits);
      store_bits(mask, bits);
      From<Op> from[reads];
      each<0, reads>([&](auto r) { from[r] = E::plain(buffer[r]); });
      const auto terms = Op::template terms<centered>(Operands<Op, true>{from, mask, 0, kStrip}, k, form, pivots);
      add_octets<Op, centered>(keep<Op, centered>(terms, strip.lo, strip.hi), quad);
      begin += strip.lo + strip.hi;
    }
    sums.add(quad);
  }
}

template <class Op>
static void reduce_scattered(const Tile& t) {
  const auto arrays = arrays_of<Op>(t, 0);
  const typename Op::Form form(*t.form);
  const auto add = [&](int64_t begin, int64_t count, int64_t c, ChannelSums& s) {
    const auto k = broadcast_coefficients<Op>(arrays, c);
    with_centering<Op>(s.pivot, [&](auto centered) {
      add_scattered<Op, centered>(t, c, begin, begin + count, k, form, s.pivot, s.sums);
    });
  };
  for (int64_t c = t.c0; c < t.c1; ++c) {
    for (int64_t b = t.b0; b < t.b1; ++b) {
      ChannelSums sums;
      sums.begin<Op>(t, b, c);
      add(block_begin(t.order, b), block_length(t.order, b), c, sums);
      sums.finish(t, b, c);
    }
    finish_blocks<Op>(t, c, 1, add);
  }
}

template <class Op>
static void map_scattered(const Tile& t) {
  using E = Element<typename Op::Type>;
  constexpr int reads = Op::read_count, writes = Op::write_count;
  const int64_t spatial = t.order.spatial;
  const auto arrays = arrays_of<Op>(t, 0);
  const typename Op::Form form(*t.form);
  for (int64_t c = t.c0; c < t.c1; ++c) {
    const auto k = broadcast_coefficients<Op>(arrays, c);
    for (int64_t begin = t.begin; begin < t.end; begin += kStrip) {
      const int64_t count = t.end - begin < kStrip ? t.end - begin : kStrip;
      typename Op::A in[reads][16] = {}, out[writes][16];
      From<Op> from[reads];
      To<Op> to[writes];
      for (int r = 0; r < reads; ++r) from[r] = E::plain(in[r]);
      for (int w = 0; w < writes; ++w) to[w] = E::plain(out[w]);
      const auto at = [&](const View& v, int64_t i) {
        return E::at(v, (begin + i) / spatial, c, (begin + i) % spatial);
      };
      const bool masks = Op::has_mask && t.tensor[kMask].data, makes_mask = Op::writes[0] == kY;
      const auto bit_at = [&](int64_t i) {
        return MaskBit(t.tensor[kMask], (begin + i) / spatial, c, (begin + i) % spatial);
      };
      LaneBits bits = 0;
      char mask[2];
      for (int64_t i = 0; i < count; ++i) {
        for (int r = 0; r < reads; ++r) in[r][i] = E::get(at(t.tensor[Op::reads[r]], i));
        if (masks && !makes_mask) bits |= bit_at(i).get() << i;
      }
      store_bits(mask, bits);
      map_strip<Op, true>(from, to, masks ? mask : nullptr, 0, kStrip, k, form);
      for (int64_t i = 0; masks && makes_mask && i < count; ++i) bit_at(i).put(load_bits(mask) >> i);
      for (int w = 0; w < writes; ++w)
        for (int64_t i = 0; t.tensor[Op::writes[w]].data && i < count; ++i)
          E::put(at(t.tensor[Op::writes[w]], i), out[w][i]);
    }
  }
}
