// The table on standard output and the JSON file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "options.hh"
#include "row.hh"

namespace bnorm_bench {

/// Prints what holds for all rows, and the table's head.
void print_head(bool cold);
void print_row(const Result& result);
/// Prints which implementations the peers chose.
void print_foot(const std::vector<Result>& results);

/// One object with exactly the keys operation, layout, dtype, groups, batch, channels, spatial, threads, isa, ns,
/// bytes, floor_ns and peers {name: ns}.
nlohmann::json to_json(const Result& result);

/// All that is known: of the machine, of how it was measured, and of each row the keys above and more.
nlohmann::json details(const Options& options, const std::vector<Result>& results,
                       const std::vector<std::string>& notes);

}  // namespace bnorm_bench
