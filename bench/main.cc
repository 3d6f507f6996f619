// bnorm_bench: times bnorm against the traffic floor and its peers. See --help.
#include <oneapi/tbb/global_control.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "measure.hh"
#include "options.hh"
#include "report.hh"
#include "selftest.hh"

namespace {

using bnorm_bench::Options;
using bnorm_bench::Result;
using bnorm_bench::Row;

/// More threads than CPUs are measured as asked, not cut down.
size_t most_threads(const Options& options) {
  int most = 3;  // the self test's
  for (const Row& row : options.rows) most = std::max(most, row.threads);
  return static_cast<size_t>(most);
}

void run(const Options& options) {
  std::ofstream json_file;
  if (!options.json.empty()) {
    json_file.open(options.json);
    if (!json_file) {
      throw bnorm_bench::UsageError(
          "--json: \"" + options.json + "\" must be a file that can be written: " + std::strerror(errno), 2);
    }
  }
  for (const std::string& skipped : options.skipped) std::fprintf(stderr, "skipped: %s\n", skipped.c_str());
  bnorm_bench::print_head(options.rows.front().cold);
  nlohmann::json rows = nlohmann::json::array();
  std::vector<Result> results;
  for (const Row& row : options.rows) {
    std::vector<std::string> notes;
    results.push_back(bnorm_bench::measure(row, options, notes));
    bnorm_bench::print_row(results.back());
    for (const std::string& note : notes) std::fprintf(stderr, "%s\n", note.c_str());
    rows.push_back(bnorm_bench::to_json(results.back()));
  }
  bnorm_bench::print_foot(results);
  if (json_file.is_open() && !(json_file << rows.dump(1) << '\n' << std::flush)) {
    throw std::runtime_error("--json: writing \"" + options.json + "\" failed");
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a peer that died is reported, not died of
  try {
    const Options options = bnorm_bench::parse_options(argc, argv);
    const tbb::global_control threads(tbb::global_control::max_allowed_parallelism, most_threads(options));
    if (options.selftest) return bnorm_bench::run_selftest();
    run(options);
    return 0;
  } catch (const bnorm_bench::UsageError& error) {
    std::fprintf(error.exit_code == 0 ? stdout : stderr, "%s\n", error.what());
    return error.exit_code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
