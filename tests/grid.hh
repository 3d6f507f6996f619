// SPDX-License-Identifier: Apache-2.0
// The factors of the test grid and the cases that their levels make.
#pragma once
#include <vector>

#include "pairwise.hh"
#include "problem.hh"

namespace bnorm_tests {

struct GridCase {
  Operation operation;
  Case config;
  size_t executor;  // index into executors()
};

/// Cases in which every two levels of any two factors meet.
std::vector<GridCase> pairwise_grid();

/// The product of operation, layout, types, channels and geometry; the other factors take their levels in turn.
/// Calls visit for each case rather than return some hundred thousand of them.
template <class Visit>
void full_grid(Visit visit);

/// Number of levels of each factor.
std::vector<size_t> grid_levels();
/// The factors that full_grid multiplies come first.
constexpr size_t kMultipliedFactors = 5;
/// The case of one row; `number` seeds it.
GridCase grid_case(const Row& row, size_t number);

template <class Visit>
void full_grid(Visit visit) {
  const std::vector<size_t> levels = grid_levels();
  Row row(levels.size(), 0);
  for (size_t number = 0;; ++number) {
    // Coprime steps, so that the factors taken in turn don't move in lockstep.
    for (size_t f = kMultipliedFactors; f < row.size(); ++f) row[f] = (number * (2 * f + 1) + number / 7) % levels[f];
    visit(grid_case(row, number));
    size_t f = 0;
    while (f < kMultipliedFactors && ++row[f] == levels[f]) row[f++] = 0;
    if (f == kMultipliedFactors) return;
  }
}

}  // namespace bnorm_tests
