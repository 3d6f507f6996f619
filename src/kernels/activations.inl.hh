// SPDX-License-Identifier: Apache-2.0
// Activations that take a function, with their derivatives: plain formulas of one value, which the compiler vectorizes.
// Every operation is rounded on its own, so the bits are the same on every ISA. Errors: docs/numerics.md,
// "Activations".
#pragma once

// -------------------------------------------------------------------------------------- exponential function --

/// Facts of a type that exponentials use.
template <class A>
struct Binary;
template <>
struct Binary<float> {
  using Bits = uint32_t;
  static constexpr Bits high_half = 0xfffff000u;  // sign, exponent and 12 of 24 digits: squares have no rounding
  static constexpr int fraction_bits = 23, bias = 127;
  static constexpr float rounding = 0x1.8p23f;  // x + rounding - rounding: x to the nearest integer
  static constexpr float log2_e = 0x1.715476p0f;
  // ln 2 in two parts; the first times any exponent has no rounding.
  static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
  static constexpr float lowest = -104, highest = 89;  // beyond these, exp is 0 and infinite
  static constexpr float sqrt_half = 0x1.6a09e6p-1f;
  static constexpr int exp_degree = 8;    // 0.4^9 / 9! = 2^-30
  static constexpr int log_degree = 5;    // 0.172^12 / 13 = 2^-34
  static constexpr int tail_degree = 12;  // 2^-29.9
};
template <>
struct Binary<double> {
  using Bits = uint64_t;
  static constexpr Bits high_half = 0xfffffffff8000000u;
  static constexpr int fraction_bits = 52, bias = 1023;
  static constexpr double rounding = 0x1.8p52;
  static constexpr double log2_e = 0x1.71547652b82fep0;
  static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr double lowest = -746, highest = 710;
  static constexpr double sqrt_half = 0x1.6a09e667f3bcdp-1;
  static constexpr int exp_degree = 13;   // 0.35^14 / 14! = 2^-58
  static constexpr int log_degree = 11;   // 0.172^24 / 25 = 2^-65
  static constexpr int tail_degree = 24;  // 2^-58
};

template <class A>
static inline BNORM_IN_LOOP A magnitude(A x) {
  return x < 0 ? -x : x;
}

/// x within the bounds; NaN stays.
template <class A>
static inline BNORM_IN_LOOP A clamped(A x, A low, A high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

/// 2^n from n + Binary::rounding, n within the normal exponents.
template <class A>
static inline BNORM_IN_LOOP A power_of_two(A shifted) {
  using B = Binary<A>;
  const auto bits = __builtin_bit_cast(typename B::Bits, shifted);
  return __builtin_bit_cast(A, (bits << B::fraction_bits) + (typename B::Bits{B::bias} << B::fraction_bits));
}

template <class A>
static constexpr A factorial(int n) {
  return n < 2 ? 1 : static_cast<A>(n) * factorial<A>(n - 1);
}

/// e^(high + low) = (1 + rest) * two_to * two_to_rest; low is small.
template <class A>
struct Exponential {
  A rest, two_to, two_to_rest;

  BNORM_IN_LOOP Exponential(A high, A low) {
    using B = Binary<A>;
    const A x = clamped(high, B::lowest, B::highest);
    const A n = (x * B::log2_e + B::rounding) - B::rounding;
    const A r = ((x - n * B::ln2_high) - n * B::ln2_low) + low;
    // Two powers: a result may be subnormal where one could not be.
    const A shifted_half = n * A{0.5} + B::rounding;
    two_to = power_of_two(shifted_half);
    two_to_rest = power_of_two((n - (shifted_half - B::rounding)) + B::rounding);
    A p = 0;
    each<0, B::exp_degree - 1>([&](auto i) BNORM_IN_LOOP {
      constexpr A coefficient = 1 / factorial<A>(B::exp_degree - i);
      p = p * r + coefficient;
    });
    rest = r + r * r * p;
  }
  BNORM_IN_LOOP A value() const { return (1 + rest) * two_to * two_to_rest; }
  /// e^... - 1, for arguments of at most 0.
  BNORM_IN_LOOP A minus_one() const {
    const A power = two_to * two_to_rest;
    return rest * power + (power - 1);
  }
};

template <class A>
static inline BNORM_IN_LOOP A exp_of(A x) {
  return Exponential<A>(x, 0).value();
}

/// log(1 + u) for -1 <= u <= 0; at -1 some finite number below all others. 1 + u = m 2^n with m between the roots of
/// 1/2 and 2, log(m) = 2 atanh(f / (2 + f)), f = m - 1; what rounding 1 + u lost comes back by its derivative.
template <class A>
static inline BNORM_IN_LOOP A log_one_plus(A u) {
  using B = Binary<A>;
  using Bits = typename B::Bits;
  const A w = 1 + u, lost = u - (w - 1);
  constexpr Bits offset = __builtin_bit_cast(Bits, B::sqrt_half);
  const Bits bits = __builtin_bit_cast(Bits, w) - offset;
  constexpr Bits fraction = (Bits{1} << B::fraction_bits) - 1;
  const A f = __builtin_bit_cast(A, (bits & fraction) + offset) - 1;
  // n is at most 0: its bits are those of -n, taken from the rounding number's.
  const Bits down = (Bits{0} - (bits & ~fraction)) >> B::fraction_bits;
  const A n = B::rounding - __builtin_bit_cast(A, __builtin_bit_cast(Bits, B::rounding) + down);
  const A s = f / (2 + f), square = s * s;
  A p = 0;
  each<0, B::log_degree>([&](auto i) BNORM_IN_LOOP {
    constexpr A coefficient = A{2} / (2 * (B::log_degree - i) + 1);
    p = (p + coefficient) * square;
  });
  const A rest = w == 0 ? 0 : lost / w;
  return n * B::ln2_high + ((2 * s + s * p) + (n * B::ln2_low + rest));
}

// --------------------------------------------------------------------------------------- normal distribution --

/// e^(-z^2 / 2), |z| <= 40. The square in two parts: its rounding would cost z^2 / 2 roundoffs.
template <class A>
static inline BNORM_IN_LOOP A gauss(A z) {
  const A head = __builtin_bit_cast(A, __builtin_bit_cast(typename Binary<A>::Bits, z) & Binary<A>::high_half);
  return Exponential<A>(head * head * A{-0.5}, (z - head) * (z + head) * A{-0.5}).value();
}

// Phi(-a) e^(a^2 / 2) = t P(2 t - 1) with t = 1 / (1 + a / 5), for a >= 0: P interpolated in Chebyshev's points of
// [-1, 1], by degree.
template <class A>
struct TailPolynomial;
template <>
struct TailPolynomial<float> {
  static constexpr float c[] = {0.15383861f,       0.1330765025f,     0.09906112428f,   0.06270657626f,
                                0.03300404261f,    0.01382417143f,    0.004159261773f,  0.0005971341076f,
                                -0.0001604479061f, -0.0001063477735f, -1.034676404e-5f, 7.735537297e-6f,
                                1.98416896e-6f};
};
template <>
struct TailPolynomial<double> {
  static constexpr double c[] = {
      0.153838609950012592,     0.133076500578011382,     0.0990611231939952112,     0.0627066313342562227,
      0.0330040732340814084,    0.0138237277414157584,    0.00415901335985595557,    0.000598675351778593893,
      -0.000159573877924293321, -0.000108979793561346023, -0.0000118751610414693779, 9.95246512548039213e-6,
      3.33632694225873854e-6,   -7.95871106371088677e-7,  -5.54146959210060659e-7,   6.67064997348659707e-8,
      8.72830253790558149e-8,   -7.71201408043800192e-9,  -1.40979249884617577e-8,   1.38657744926057734e-9,
      2.26253528731455031e-9,   -2.5364014251453929e-10,  -3.12326563824639631e-10,  2.65140507769021514e-11,
      2.58717008634452811e-11};
};

/// The distribution function and the density of N(0, 1).
template <class A>
struct Normal {
  A value, derivative;

  explicit BNORM_IN_LOOP Normal(A unbounded) {
    const A z = clamped<A>(unbounded, -40, 40), e = gauss(z);
    const A t = 1 / (1 + magnitude(z) * A{0.2}), s = 2 * t - 1;
    A p = 0;
    constexpr int degree = Binary<A>::tail_degree;
    each<0, degree + 1>([&](auto i) BNORM_IN_LOOP {
      constexpr A coefficient = TailPolynomial<A>::c[degree - i];
      p = p * s + coefficient;
    });
    const A tail = t * p * e;
    value = z < 0 ? tail : 1 - tail;
    derivative = e * A{0.398942280401432678};
  }
};

// ------------------------------------------------------------------------------------------------ activations --

/// The logistic function s = 1 / (1 + e^-z) and its derivative, from e^-|z|.
template <class A>
struct Logistic {
  A value, derivative;

  explicit BNORM_IN_LOOP Logistic(A z) {
    const A e = exp_of(-magnitude(z)), share = 1 / (1 + e);
    value = z < 0 ? e * share : share;
    derivative = e * share * share;
  }
};

// Of each: the value and the derivative by z, the derivative from y = value(z) where y tells it, and z from y where it
// can be found.
struct Elu {
  static constexpr bool y_tells = true, has_inverse = true;
  template <class A>
  static BNORM_IN_LOOP A value(A z, A alpha) {
    const A negative = alpha * Exponential<A>(z, 0).minus_one();
    return z > 0 ? z : negative;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative(A z, A alpha) {
    const A negative = alpha * exp_of(z);
    return z > 0 ? 1 : negative;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative_of_y(A y, A alpha) {
    return y > 0 ? 1 : y + alpha;
  }
  template <class A>
  static BNORM_IN_LOOP A inverse(A y, A alpha) {
    const A negative = log_one_plus(clamped<A>(y / alpha, -1, 0));
    return y > 0 ? y : negative;
  }
};

struct Sigmoid {
  static constexpr bool y_tells = true, has_inverse = false;
  template <class A>
  static BNORM_IN_LOOP A value(A z, A) {
    return Logistic<A>(z).value;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative(A z, A) {
    return Logistic<A>(z).derivative;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative_of_y(A y, A) {
    return y * (1 - y);
  }
};

struct Tanh {
  static constexpr bool y_tells = true, has_inverse = false;
  template <class A>
  static BNORM_IN_LOOP A value(A z, A) {
    const A m = Exponential<A>(-2 * magnitude(z), 0).minus_one(), y = (0 - m) / (2 + m);
    return z < 0 ? -y : y;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative(A z, A) {
    return 4 * Logistic<A>(2 * z).derivative;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative_of_y(A y, A) {
    return (1 - y) * (1 + y);
  }
};

// Beyond this, logistic(z) is 0 or 1, and infinity would make NaN of products with 0.
constexpr int kFar = 1000;

/// z F(z), F a distribution function.
template <template <class> class Distribution>
struct Gated {
  static constexpr bool y_tells = false, has_inverse = false;
  template <class A>
  static BNORM_IN_LOOP A value(A z, A) {
    return (z < -kFar ? -kFar : z) * Distribution<A>(z).value;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative(A z, A) {
    const Distribution<A> f(z);
    return f.value + clamped<A>(z, -kFar, kFar) * f.derivative;
  }
};
using Silu = Gated<Logistic>;
using Gelu = Gated<Normal>;

struct HardSwish {
  static constexpr bool y_tells = false, has_inverse = false;
  template <class A>
  static BNORM_IN_LOOP A value(A z, A) {
    return (z < -kFar ? -kFar : z) * (clamped<A>(z + 3, 0, 6) * (A{1} / A{6}));
  }
  template <class A>
  static BNORM_IN_LOOP A derivative(A z, A) {
    const A inner = z * (A{1} / A{3}) + A{0.5}, high = z >= 3 ? 1 : inner;
    return z <= -3 ? 0 : high;
  }
};

/// z logistic(2 u), u = sqrt(2 / pi) (z + 0.044715 z^3), which is z (1 + tanh(u)) / 2.
struct GeluTanh {
  static constexpr bool y_tells = false, has_inverse = false;
  template <class A>
  static BNORM_IN_LOOP A twice_u(A z) {
    return A{1.59576912160573071} * z * (1 + A{0.044715} * z * z);
  }
  template <class A>
  static BNORM_IN_LOOP A value(A z, A) {
    const A near = z < -kFar ? -kFar : z;
    return near * Logistic<A>(twice_u(near)).value;
  }
  template <class A>
  static BNORM_IN_LOOP A derivative(A z, A) {
    const A near = clamped<A>(z, -kFar, kFar), slope = A{1.59576912160573071} * (1 + A{0.134145} * near * near);
    const Logistic<A> s(twice_u(near));
    return s.value + near * slope * s.derivative;
  }
};

// GCC's jump threading makes copies of a formula for values beyond its bounds, which are constants there, and as vector
// code computes every copy for every value; where a constant leads to a subnormal number, that takes a hundred cycles.
// Without it GELU takes 0.28 to 0.37 of the time on SSE4.2 and AVX2, 0.34 to 0.82 on AVX-512, the others 0.78 to 1.05.
#if defined(__clang__)
#define BNORM_UNTHREADED
#else
#define BNORM_UNTHREADED __attribute__((optimize("no-thread-jumps")))
#endif

template <class A, A (*f)(A, A)>
BNORM_UNTHREADED static void curve(void* values, double parameter) {
  A* const v = static_cast<A*>(values);
  const A p = static_cast<A>(parameter);
  for (int64_t i = 0; i < kStrip; ++i) v[i] = f(v[i], p);
}
