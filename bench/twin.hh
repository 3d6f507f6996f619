// The arithmetic-free twin's inner loops, compiled once per ISA so that they move data as wide as the kernels do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bnorm_bench {

/// Alignment of every buffer and of every range but the end of the last.
inline constexpr size_t kLineBytes = 64;

// Backward behind a residual, of outputs twice as wide: x, dy and y make 1 + 2 + 2, dx and dresidual 1 + 2.
constexpr int kMostIns = 5, kMostOuts = 3;

/// Tensors of one call, of equal size: one of twice the element size counts as two. Their bytes are numbered without
/// the gaps that slices have.
struct Tensors {
  const std::byte* in[kMostIns];
  int ins;
  std::byte* out[kMostOuts];
  int outs;
  size_t run_bytes = 0;  ///< of slices, between two gaps, which are as long: whole lines; 0: no gaps
};

/// Loops that move tensors, without fetching anything ahead of themselves or with it.
struct TwinLoops {
  /// Reads bytes [begin, end) of every input; returns their xor, so that no read can be dropped.
  uint64_t (*read)(const Tensors& tensors, size_t begin, size_t end);
  /// Writes the xor of the inputs to bytes [begin, end) of every output, with regular stores.
  void (*write)(const Tensors& tensors, size_t begin, size_t end);
  /// The same with non-temporal stores; NULL where there are none.
  void (*stream)(const Tensors& tensors, size_t begin, size_t end);
};

struct TwinTable {
  const char* isa;
  TwinLoops plain, fetching;
};

extern const TwinTable twin_generic;
extern const TwinTable twin_avx2;    ///< x86-64 only
extern const TwinTable twin_avx512;  ///< x86-64 only

}  // namespace bnorm_bench
