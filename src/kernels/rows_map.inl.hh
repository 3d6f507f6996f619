// SPDX-License-Identifier: Apache-2.0
// Maps of rows: runs of memory under the coefficients of one channel, or, of columns, of each lane.
#pragma once

// How far outputs are fetched ahead for writing, half a page: inference of 60 x 100, whose rows share lines, takes 0.69
// of the time, of 1 x 256 x 784 0.93.
constexpr int64_t kAheadBytes = 2048;

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
static inline BNORM_IN_LOOP void fetch_reads(const From<Op>* from, int64_t i, int64_t ahead, bool to_l2) {
  using E = Element<typename Op::Type>;
  each<0, Op::read_count>([&](auto r) BNORM_IN_LOOP { fetch(E::place(from[r] + (i + ahead)), to_l2); });
}

/// 16 elements of a run from i on, or unless `full` the first `count` of them.
template <class Op>
struct Strip {
  using E = Element<typename Op::Type>;
  static constexpr int64_t size = kStrip;
  Lanes<typename Op::A> out[Op::write_count];

  template <bool full = true>
  inline BNORM_IN_STRIP void make(const From<Op>* from, char* mask, int64_t i, int64_t count,
                                  const Coefficients<typename Op::A>& k, const typename Op::Form& form) {
    Op::apply(Operands<Op, full>{from, mask, i, count}, k, form, out);
  }
  template <class RunCoefficients>
  inline BNORM_IN_STRIP void make(const From<Op>* from, char* mask, int64_t i, const RunCoefficients& coefficients,
                                  const typename Op::Form& form) {
    make(from, mask, i, kStrip, coefficients.at(i, kStrip), form);
  }
  /// `stream`: the first output around the caches.
  template <bool stream, bool full = true>
  inline BNORM_IN_STRIP void store(const To<Op>* to, int64_t i, int64_t count = kStrip) const {
    each<0, Op::write_count>([&](auto w) BNORM_IN_LOOP {
      if constexpr (stream && w == 0) return E::stream(to[w] + i, out[w]);
      if (!is_given<Op>(to[w])) return;
      if constexpr (full)
        E::store(to[w] + i, out[w]);
      else
        E::store_first(to[w] + i, out[w], count);
    });
  }
};

/// 32 bf16 elements of a run from i on.
template <class Op>
struct Twin {
  using E = Element<typename Op::Type>;
  static constexpr int64_t size = kTwins;
  Lanes<typename Op::A> even[Op::write_count], odd[Op::write_count];

  template <class RunCoefficients>
  inline BNORM_IN_STRIP void make(const From<Op>* from, char*, int64_t i, const RunCoefficients& coefficients,
                                  const typename Op::Form& form) {
    const auto& of_even = coefficients.template twin<false>(i);
    const auto& of_odd = coefficients.template twin<true>(i);
    Op::apply(TwinOperands<Op, false>{{from, nullptr, i, kStrip}}, of_even, form, even);
    Op::apply(TwinOperands<Op, true>{{from, nullptr, i, kStrip}}, of_odd, form, odd);
  }
  template <bool stream>
  inline BNORM_IN_STRIP void store(const To<Op>* to, int64_t i) const {
    each<0, Op::write_count>([&](auto w) BNORM_IN_LOOP {
      if (is_given<Op>(to[w])) E::store_twins(to[w] + i, stream && w == 0, even[w], odd[w]);
    });
  }
};

/// Elements i ... i + count - 1 of a run, at most 16.
template <class Op, bool full>
static inline BNORM_IN_LOOP void map_strip(const From<Op>* from, const To<Op>* to, char* mask, int64_t i, int64_t count,
                                           const Coefficients<typename Op::A>& k, const typename Op::Form& form) {
  Strip<Op> strip;
  strip.template make<full>(from, mask, i, count, k, form);
  strip.template store<false, full>(to, i, count);
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

/// The elements of a run from i on, by strips or twins; returns how far it came.
template <class Op, class Unit, bool stream, class RunCoefficients>
static inline BNORM_IN_LOOP int64_t map_units(const From<Op>* from, const To<Op>* to, char* mask, int64_t i,
                                              int64_t count, int64_t ahead, RunCoefficients coefficients,
                                              const typename Op::Form& form) {
  for (; i + Unit::size <= count; i += Unit::size) {
    stream ? fetch_reads<Op>(from, i, ahead, RunCoefficients::fetches_to_l2) : fetch_ahead<Op>(to, i);
    Unit unit;
    unit.make(from, mask, i, coefficients, form);
    unit.template store<stream>(to, i);
  }
  return i;
}

static inline bool is_nan(float v) { return v != v; }

/// Whether any of the coefficients [begin, end) of a tile of f32 arithmetic is NaN.
static __attribute__((noinline)) bool has_nan(const Tile& t, int begin, int end) {
  unsigned count = 0;  // as wide as f32, to be counted in its lanes
  for (int k = begin; k < end; ++k) {
    const auto* const values = static_cast<const float*>(t.coefficient[k]);
    for (int64_t c = t.c0; c < t.c1; ++c) count += is_nan(values[c]);
  }
  return count > 0;
}

/// Whether a map may take twins: bf16 comes in and goes out. It does if no coefficient it uses is NaN, whose lower half
/// may be anything.
template <class Op>
static inline bool has_twin_types(const Tile& t, const typename Op::Form& form) {
  bool all = true;
  each<0, Op::read_count>(
      [&](auto r) { all = all && (t.tensor[Op::reads[r]].type == kBf16 || !Op::is_read(r, form)); });
  each<0, Op::write_count>([&](auto w) {
    const View& v = t.tensor[Op::writes[w]];
    all = all && (v.type == kBf16 || !v.data);
  });
  return all;
}

// A cache line on every CPU of the ISAs that can store around the cache.
constexpr int64_t kLineBytes = 64;
// A run of fewer elements has too large a part of its lines in common with others: what is collected of those costs as
// much as it saves. With a border of 32 elements inference of 50x100x784 channels-last takes 1.05, of 50x2048x49 0.96.
constexpr int64_t kStreamedRun = 128;

/// The line in which one streamed run ends and the next begins, of f64 with one before it: collected here, it goes
/// around the cache whole. Stored in two parts through the cache, it would have to be fetched.
class SharedLine {
 public:
  SharedLine() = default;
  SharedLine(const SharedLine&) = delete;
  SharedLine& operator=(const SharedLine&) = delete;
  ~SharedLine() { flush(); }

  /// Where to store the next `bytes` of output (at most 128) for `place`; there, if the beginning of its line is not
  /// here.
  __attribute__((noinline)) char* room(char* place, int64_t bytes) {
    store_whole();
    if (place != end_) {
      flush();
      if (reinterpret_cast<uintptr_t>(place) % kLineBytes != 0) return place;
      line_ = place;
    }
    end_ = place + bytes;
    return bytes_ + (place - line_);
  }

 private:
  /// Stores whole lines.
  void store_whole() {
    for (; end_ - line_ >= kLineBytes; line_ += kLineBytes) {
      Lanes<float>::load(reinterpret_cast<const float*>(bytes_)).stream(reinterpret_cast<float*>(line_));  // any type
      __builtin_memmove(bytes_, bytes_ + kLineBytes, sizeof bytes_ - kLineBytes);
    }
  }
  /// Stores all.
  __attribute__((noinline)) void flush() {
    store_whole();
    if (end_ > line_) __builtin_memcpy(line_, bytes_, static_cast<size_t>(end_ - line_));
    line_ = end_ = nullptr;
  }

  alignas(64) char bytes_[3 * kLineBytes];
  char *line_ = nullptr, *end_ = nullptr;  // of the output
};

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

/// Whether the rows of a tile are: long ones, or where all begin with lines and are nothing else.
template <class Op>
static inline bool streams_rows(const Tile& t) {
  if (!t.in_memory) return false;
  const To<Op> to = Cursor<Op>(t, 0, t.c0, 0).to[0];
  const View& v = t.tensor[Op::writes[0]];
  const int64_t spatial = t.order.spatial;
  return to && (spatial >= kStreamedRun || is_in_lines<Op>(to, spatial | v.c | v.n));
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

/// Which runs are streamed.
enum class Streams { kAll, kWhereWorth };

/// One run of `count` elements, contiguous in every tensor; coefficients.at(i, n) are those of the n elements from i
/// on, coefficients.twin<odd>(i) those of a twin. Streamed, whole cache lines of the first output go around the cache;
/// with a mask only where the run begins one, since its bits lie 16 by 16 from there on. The parts of lines at the
/// run's ends pass through `shared` if the operation shares lines.
template <class Op, Streams streams, class RunCoefficients>
static inline void map_run(const From<Op>* from, const To<Op>* to, char* mask, int64_t count, const MapPath& path,
                           SharedLine& shared, RunCoefficients coefficients, const typename Op::Form& form) {
  using E = Element<typename Op::Type>;
  bool stream = streams == Streams::kAll || (path.stream && is_streamed<Op>(to[0], count));
  const int64_t to_line = stream ? elements_to_line<Op>(to[0]) : 0;
  int64_t i = 0, part = to_line < count ? to_line : count;
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
      To<Op> at[Op::write_count];
      each<0, Op::write_count>([&](auto w) { at[w] = to[w]; });
      if (__builtin_expect(Op::shares_lines && stream, 0))  // in cache the call should not be felt
        at[0] = E::moved(to[0], shared.room(const_cast<char*>(E::place(to[0] + i)), some * E::bytes(to[0]))) + -i;
      map_strip<Op, false>(from, at, mask, i, some, coefficients.at(i, some), form);
    }
    if (i == count) return;
    if constexpr (RunCoefficients::has_twins)
      if (path.twins)
        i = stream ? map_units<Op, Twin<Op>, true>(from, to, mask, i, last, path.ahead, coefficients, form)
                   : map_units<Op, Twin<Op>, false>(from, to, mask, i, last, path.ahead, coefficients, form);
    i = stream ? map_units<Op, Strip<Op>, true>(from, to, mask, i, last, path.ahead, coefficients, form)
               : map_units<Op, Strip<Op>, false>(from, to, mask, i, count, path.ahead, coefficients, form);
    part = count - i;
    if (part == 0) return;
  }
}

/// The same coefficients for all elements of a run. Passed on by value: behind a reference they pass through memory,
/// and 8 x 512 x 16 infers in twice the time.
template <class Op>
struct SameCoefficients {
  static constexpr bool has_twins = Op::has_twins;
  static constexpr bool fetches_to_l2 = false;
  Coefficients<typename Op::A> all;

  const Coefficients<typename Op::A>& at(int64_t, int64_t) const { return all; }
  template <bool odd>
  const Coefficients<typename Op::A>& twin(int64_t) const {
    return all;
  }
};

/// A run of at least one unit, in cache. Where units don't divide it, the last of it lies over others: it is made
/// before those are stored, since outputs may lie where inputs do.
// A part of a strip takes longer: of 8x64x49 inference and training take 0.89 and 0.94 of the time so, of 8x64x63 0.76
// and 0.88 (AVX2).
template <class Op, class Unit, class RunCoefficients>
static inline BNORM_IN_LOOP void map_cached_run(const Cursor<Op>& run, int64_t count, RunCoefficients coefficients,
                                                const typename Op::Form& form) {
  const auto map_all = [&]() BNORM_IN_LOOP {
    map_units<Op, Unit, false>(run.from, run.to, run.mask, 0, count, 0, coefficients, form);
  };
  const int64_t last = count - Unit::size;
  if (last % Unit::size == 0) return map_all();
  Unit end;
  end.make(run.from, run.mask, last, coefficients, form);
  map_all();
  end.template store<false>(run.to, last);
}

/// Whether rows are mapped by twins, where there are 32 elements.
template <class Op>
static inline bool takes_twins(const Tile& t) {
  if constexpr (Op::has_twins)
    if (t.order.spatial >= kTwins) {
      const typename Op::Form form(*t.form);
      return has_twin_types<Op>(t, form) && !has_nan(t, Op::coefficient_begin, Op::used_end(form));
    }
  return false;
}

/// map_rows through the caches alone: inference, training and backward of 8x512x49 take 0.75, 0.87 and 0.87 of the
/// time, inference of 8x512x16 0.44 (AVX2).
template <class Op>
BNORM_FLAT __attribute__((noinline)) void map_cached_rows(const Tile& t, bool twins) {
  const auto arrays = arrays_of<Op>(t, 0);
  const typename Op::Form form(*t.form);
  each_run(t.order.spatial, first_position(t), t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
    const int64_t count = s1 - s0;
    Cursor<Op> run(t, n, t.c0, s0);
    for (int64_t c = t.c0; c < t.c1; ++c, run.advance(t)) {
      const SameCoefficients<Op> k = {broadcast_coefficients<Op>(arrays, c)};
      if constexpr (Op::has_twins)
        if (twins && count >= kTwins) {
          map_cached_run<Op, Twin<Op>>(run, count, k, form);
          continue;
        }
      if (count >= kStrip)
        map_cached_run<Op, Strip<Op>>(run, count, k, form);
      else
        map_strip<Op, false>(run.from, run.to, run.mask, 0, count, k.all, form);
    }
  });
}

/// Sample by sample through memory: packed tensors are read and written from end to end.
template <class Op>
BNORM_FLAT void map_rows(const Tile& t) {
  const bool twins = takes_twins<Op>(t);
  if constexpr (Op::has_lean_rows)
    if (!streams_rows<Op>(t)) return map_cached_rows<Op>(t, twins);
  const auto arrays = arrays_of<Op>(t, 0);
  const typename Op::Form form(*t.form);
  const MapPath path(t, twins, true);
  constexpr Streams streams = Op::has_lean_rows ? Streams::kAll : Streams::kWhereWorth;
  SharedLine shared;
  each_run(t.order.spatial, first_position(t), t.end - t.begin, [&](int64_t n, int64_t s0, int64_t s1) {
    Cursor<Op> run(t, n, t.c0, s0);
    for (int64_t c = t.c0; c < t.c1; ++c, run.advance(t)) {
      SameCoefficients<Op> k = {broadcast_coefficients<Op>(arrays, c)};
      map_run<Op, streams>(run.from, run.to, run.mask, s1 - s0, path, shared, k, form);
    }
  });
}
