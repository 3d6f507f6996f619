// SPDX-License-Identifier: Apache-2.0
// binary16 (f16) in integers, for ISAs without instructions for it: the same bits as theirs.
#pragma once

/// All ones where a < b, else 0; both below 2^31.
static inline Words all_ones_below(Words a, Words b) { return 0u - ((a - b) >> 31); }

// Neither is inlined: the kernels of SSE4.2 would take 0.27 MB more.
static __attribute__((noinline)) Words bits_from_f16(Halves x) {
  const Words wide = widen_halves(x), none = wide * 0u;
  const Words sign = (wide & 0x8000u) << 16, magnitude = (wide & 0x7fffu) << 13;
  constexpr uint32_t rebias = 112u << 23;
  // Below 2^-14 a number is a multiple of 2^-24: as a fraction of 2^-14 whose leading one is taken off again.
  const Words unit = none + (113u << 23);
  const Words subnormal =
      __builtin_bit_cast(Words, __builtin_bit_cast(Floats, magnitude + unit) - __builtin_bit_cast(Floats, unit));
  const Words is_subnormal = all_ones_below(magnitude, none + (1u << 23));
  const Words is_finite = all_ones_below(magnitude, none + (31u << 23));
  const Words normal = magnitude + rebias + (~is_finite & rebias);
  return sign | (subnormal & is_subnormal) | (normal & ~is_subnormal);
}

/// Round to nearest even; NaN becomes a quiet NaN.
static __attribute__((noinline)) Halves bits_to_f16(Words bits) {
  const Words magnitude = bits & 0x7fffffffu, sign = (bits >> 16) & 0x8000u, none = magnitude * 0u;
  const Words normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Added to 1/2, whose last place is 2^-24, a number below 2^-14 is rounded as f16 rounds it.
  const Words half = none + (126u << 23);
  const Words subnormal =
      __builtin_bit_cast(Words, __builtin_bit_cast(Floats, magnitude) + __builtin_bit_cast(Floats, half)) - half;
  const Words is_subnormal = all_ones_below(magnitude, none + (113u << 23));
  const Words is_small = all_ones_below(magnitude, none + (143u << 23));  // below 2^16
  const Words is_nan = all_ones_below(none + (255u << 23), magnitude);
  const Words finite = (subnormal & is_subnormal) | (normal & ~is_subnormal);
  return narrow_words(sign | (finite & is_small) | (~is_small & (0x7c00u | (is_nan & 0x200u))));
}
