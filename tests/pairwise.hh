// SPDX-License-Identifier: Apache-2.0
// Rows of levels such that every pair of levels of any two factors meets in some row: faults of one or two factors show
// with far fewer rows than the product.
#pragma once
#include <cstddef>
#include <set>
#include <utility>
#include <vector>

namespace bnorm_tests {

/// One level per factor.
using Row = std::vector<size_t>;

/// Greedy and deterministic. `levels` holds the number of levels of each factor.
class Pairwise {
 public:
  explicit Pairwise(std::vector<size_t> levels) : levels_(std::move(levels)) {
    for (size_t a = 0; a < levels_.size(); ++a)
      for (size_t b = a + 1; b < levels_.size(); ++b)
        for (size_t i = 0; i < levels_[a]; ++i)
          for (size_t j = 0; j < levels_[b]; ++j) open_.insert({{a, i}, {b, j}});
  }

  std::vector<Row> rows() {
    std::vector<Row> r;
    while (!open_.empty()) {
      r.push_back(next_row(r.size()));
      close(r.back());
    }
    return r;
  }

 private:
  using Level = std::pair<size_t, size_t>;  // factor, level

  /// Starts from the first open pair; each other factor takes the level that closes most pairs with those chosen.
  Row next_row(size_t number) const {
    constexpr size_t kFree = static_cast<size_t>(-1);
    Row row(levels_.size(), kFree);
    const auto [first, second] = *open_.begin();
    row[first.first] = first.second;
    row[second.first] = second.second;
    for (size_t f = 0; f < row.size(); ++f) {
      if (row[f] != kFree) continue;
      size_t best = number % levels_[f], most = closes(row, f, best);
      for (size_t level = 0; level < levels_[f]; ++level) {
        const size_t n = closes(row, f, level);
        if (n > most) best = level, most = n;
      }
      row[f] = best;
    }
    return row;
  }

  size_t closes(const Row& row, size_t factor, size_t level) const {
    size_t n = 0;
    for (size_t f = 0; f < row.size(); ++f)
      if (f != factor && row[f] < levels_[f]) n += open_.count(ordered({f, row[f]}, {factor, level}));
    return n;
  }

  void close(const Row& row) {
    for (size_t a = 0; a < row.size(); ++a)
      for (size_t b = a + 1; b < row.size(); ++b) open_.erase({{a, row[a]}, {b, row[b]}});
  }

  static std::pair<Level, Level> ordered(Level a, Level b) { return a < b ? std::pair{a, b} : std::pair{b, a}; }

  std::vector<size_t> levels_;
  std::set<std::pair<Level, Level>> open_;
};

}  // namespace bnorm_tests
