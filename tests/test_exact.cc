// SPDX-License-Identifier: Apache-2.0
// The tests' own exact arithmetic.
#include <doctest/doctest.h>

#include <cmath>

#include "exact.hh"

namespace bnorm_tests::test_exact {

TEST_CASE("exact: sums keep every digit from the smallest to the largest number") {
  ExactSum sum;
  const float largest = std::numeric_limits<float>::max(), smallest = std::numeric_limits<float>::denorm_min();
  sum.add(largest);
  sum.add(smallest);
  sum.add(-largest);
  CHECK(sum.value() == exactly(static_cast<double>(smallest)));
  ExactSum products;
  products.add_product(std::numeric_limits<double>::max(), std::numeric_limits<double>::max());
  products.add_product(std::numeric_limits<double>::denorm_min(), -std::numeric_limits<double>::denorm_min());
  const Rational most = exactly(std::numeric_limits<double>::max());
  CHECK(products.value() == most * most - power_of_two(-2148));
}

TEST_CASE("exact: moments of 1, 2, 4 are 7/3 and 14/9") {
  ExactMoments<float> m;
  for (const float x : {1.0f, 2.0f, 4.0f}) m.add(x);
  CHECK(m.mean() == Rational(7, 3));
  CHECK(m.var() == Rational(14, 9));
}

TEST_CASE("exact: units in the last place, and which float is nearest") {
  CHECK(unit_in_last_place(1, 24) == power_of_two(-23));
  CHECK(unit_in_last_place(Rational(2) - power_of_two(-40), 24) == power_of_two(-23));
  CHECK(unit_in_last_place(power_of_two(-149), 24) == power_of_two(-149));
  const Rational third(1, 3);
  CHECK(correctly_rounded(1.0f / 3, third));
  CHECK_FALSE(correctly_rounded(std::nextafter(1.0f / 3, 1.0f), third));
  CHECK(error_in_ulp(1.0f, Rational(1) + power_of_two(-24), 1) == 0.5);
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(correctly_rounded(infinity, power_of_two(128)));
  CHECK_FALSE(correctly_rounded(infinity, power_of_two(127)));
  CHECK_FALSE(correctly_rounded(-infinity, power_of_two(128)));
}

}  // namespace bnorm_tests::test_exact
