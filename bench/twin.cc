// Compiled once per ISA with that ISA's flags and BNORM_BENCH_TWIN naming it. Everything but the table is local: an
// inline function shared with other files could be linked in from a copy that this CPU cannot run.
#include "twin.hh"

#include <cstring>
#include <type_traits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace bnorm_bench {
namespace {

// The widest register that this file's flags allow, as a GCC vector type.
#if defined(__AVX512F__)
constexpr int kWordBytes = 64;
#elif defined(__AVX__)
constexpr int kWordBytes = 32;
#else
constexpr int kWordBytes = 16;
#endif
typedef uint64_t Word __attribute__((vector_size(kWordBytes), may_alias));
constexpr int kWords = static_cast<int>(kLineBytes) / kWordBytes;
// As far as bnorm's maps from memory: two pages.
constexpr size_t kFetchedAhead = 8192;

/// A cache line in registers.
struct Line {
  Word words[kWords];
};

#if defined(__SSE2__)
#define BNORM_BENCH_STREAM(fetches) twin_write<fetches, true>
void store_streaming(Word* to, const Line& line) {
  for (int i = 0; i < kWords; ++i) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), reinterpret_cast<__m512i>(line.words[i]));
#elif defined(__AVX__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), reinterpret_cast<__m256i>(line.words[i]));
#else
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), reinterpret_cast<__m128i>(line.words[i]));
#endif
  }
}
void end_streaming() { _mm_sfence(); }
#elif defined(__aarch64__)
#define BNORM_BENCH_STREAM(fetches) twin_write<fetches, true>
void store_streaming(Word* to, const Line& line) {
  for (int i = 0; i < kWords; i += 2) {
    asm volatile("stnp %q1, %q2, [%0]" ::"r"(to + i), "w"(line.words[i]), "w"(line.words[i + 1]) : "memory");
  }
}
void end_streaming() {}
#else
#define BNORM_BENCH_STREAM(fetches) nullptr
void store_streaming(Word*, const Line&) {}
void end_streaming() {}
#endif

void add(Line& sum, const Line& line) {
  for (int i = 0; i < kWords; ++i) sum.words[i] ^= line.words[i];
}

Line load_line(const std::byte* from) {
  Line line;
  for (int i = 0; i < kWords; ++i) line.words[i] = reinterpret_cast<const Word*>(from)[i];
  return line;
}

template <bool fetches, int ins>
Line load(const Tensors& tensors, size_t at) {
  Line line = {};
  for (int i = 0; fetches && i < ins; ++i) __builtin_prefetch(tensors.in[i] + at + kFetchedAhead);
  if constexpr (ins > 0) line = load_line(tensors.in[0] + at);
  for (int i = 1; i < ins; ++i) add(line, load_line(tensors.in[i] + at));
  return line;
}

/// The last, partial line of a tensor, padded with zeros.
template <int ins>
Line load_tail(const Tensors& tensors, size_t at, size_t bytes) {
  Line line = {};
  for (int i = 0; i < ins; ++i) {
    Line part = {};
    std::memcpy(&part, tensors.in[i] + at, bytes);
    add(line, part);
  }
  return line;
}

/// Calls run(from, to) for what bytes [begin, end) are in memory, gap by gap.
template <class Run>
void each_run(const Tensors& tensors, size_t begin, size_t end, const Run& run) {
  if (tensors.run_bytes == 0) return run(begin, end);
  for (size_t i = begin / tensors.run_bytes, next; begin < end; begin = next, ++i) {
    next = (i + 1) * tensors.run_bytes < end ? (i + 1) * tensors.run_bytes : end;
    run(begin + i * tensors.run_bytes, next + i * tensors.run_bytes);
  }
}

template <bool fetches, int ins>
void read_lines(const Tensors& tensors, size_t begin, size_t end, Line& sum) {
  const size_t whole = begin + (end - begin) / kLineBytes * kLineBytes;
  size_t at = begin;
#pragma GCC unroll 4
  for (; at < whole; at += kLineBytes) add(sum, load<fetches, ins>(tensors, at));
  if (at < end) add(sum, load_tail<ins>(tensors, at, end - at));
}

template <bool fetches, int ins>
uint64_t read_runs(const Tensors& tensors, size_t begin, size_t end) {
  Line sum = {};
  each_run(tensors, begin, end, [&](size_t from, size_t to) { read_lines<fetches, ins>(tensors, from, to, sum); });
  uint64_t folded = 0;
  for (const Word& word : sum.words) {
    for (int i = 0; i < kWordBytes / 8; ++i) folded ^= word[i];
  }
  return folded;
}

template <bool fetches, int ins, int outs, bool streaming>
void write_lines(const Tensors& tensors, size_t begin, size_t end) {
  const size_t whole = begin + (end - begin) / kLineBytes * kLineBytes;
  size_t at = begin;
#pragma GCC unroll 4
  for (; at < whole; at += kLineBytes) {
    const Line line = load<fetches, ins>(tensors, at);
    for (int o = 0; o < outs; ++o) {
      Word* to = reinterpret_cast<Word*>(tensors.out[o] + at);
      if constexpr (streaming) {
        store_streaming(to, line);
      } else {
        for (int i = 0; i < kWords; ++i) to[i] = line.words[i];
      }
    }
  }
  if (at < end) {
    const Line line = load_tail<ins>(tensors, at, end - at);
    for (int o = 0; o < outs; ++o) std::memcpy(tensors.out[o] + at, &line, end - at);
  }
}

template <bool fetches, int ins, int outs, bool streaming>
void write_runs(const Tensors& given, size_t begin, size_t end) {
  const Tensors tensors = given;  // a local copy: stores to `out` cannot alias its pointers
  each_run(tensors, begin, end,
           [&](size_t from, size_t to) { write_lines<fetches, ins, outs, streaming>(tensors, from, to); });
  if constexpr (streaming) end_streaming();
}

/// Calls body with a constant of the value of n, from `least` to `most`.
template <int least, int most, class Body>
auto with_constant(int n, const Body& body) {
  if constexpr (most > least)
    if (n < most) return with_constant<least, most - 1>(n, body);
  return body(std::integral_constant<int, most>());
}

template <bool fetches>
uint64_t twin_read(const Tensors& tensors, size_t begin, size_t end) {
  return with_constant<1, kMostIns>(tensors.ins,
                                    [&](auto ins) { return read_runs<fetches, ins>(tensors, begin, end); });
}

template <bool fetches, bool streaming>
void twin_write(const Tensors& tensors, size_t begin, size_t end) {
  with_constant<0, kMostIns>(tensors.ins, [&](auto ins) {
    with_constant<1, kMostOuts>(tensors.outs,
                                [&](auto outs) { write_runs<fetches, ins, outs, streaming>(tensors, begin, end); });
  });
}

}  // namespace

#define BNORM_BENCH_JOIN(a, b) a##b
#define BNORM_BENCH_NAME(isa) BNORM_BENCH_JOIN(twin_, isa)
#define BNORM_BENCH_TEXT(isa) #isa
#define BNORM_BENCH_STRING(isa) BNORM_BENCH_TEXT(isa)
extern const TwinTable BNORM_BENCH_NAME(BNORM_BENCH_TWIN);
const TwinTable BNORM_BENCH_NAME(BNORM_BENCH_TWIN) = {
    BNORM_BENCH_STRING(BNORM_BENCH_TWIN),
    {twin_read<false>, twin_write<false, false>, BNORM_BENCH_STREAM(false)},
    {twin_read<true>, twin_write<true, false>, BNORM_BENCH_STREAM(true)},
};

}  // namespace bnorm_bench
