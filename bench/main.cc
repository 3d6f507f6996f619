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
using bnorm_bench::RowGroup;

/// More threads than CPUs are measured as asked, not cut down.
size_t most_threads(const Options& options) {
  int most = 3;  // the self test's
  for (const RowGroup& group : options.groups) most = std::max(most, group.front().threads);
  return static_cast<size_t>(most);
}

/// A file that an option names; opened before measuring, so that hours are not spent for nothing.
class OutputFile {
 public:
  OutputFile(const std::string& option, const std::string& path) : option_(option), path_(path) {
    if (path.empty()) return;
    file_.open(path);
    if (file_) return;
    throw bnorm_bench::UsageError(
        option + ": \"" + path + "\" must be a file that can be written: " + std::strerror(errno), 2);
  }
  void write(const nlohmann::json& content) {
    if (path_.empty() || file_ << content.dump(1) << '\n' << std::flush) return;
    throw std::runtime_error(option_ + ": writing \"" + path_ + "\" failed");
  }

 private:
  std::string option_, path_;
  std::ofstream file_;
};

void run(const Options& options) {
  OutputFile json_file("--json", options.json);
  OutputFile details_file("--details", options.details);
  for (const std::string& skipped : options.skipped) std::fprintf(stderr, "skipped: %s\n", skipped.c_str());
  bnorm_bench::print_head(options.groups.front().front().cold);
  nlohmann::json rows = nlohmann::json::array();
  std::vector<Result> results;
  std::vector<std::string> notes;
  bnorm_bench::PeerPool pool;
  for (const RowGroup& group : options.groups) {
    const size_t noted = notes.size();
    for (const Result& result : bnorm_bench::measure(group, options, pool, notes)) {
      bnorm_bench::print_row(result);
      rows.push_back(bnorm_bench::to_json(result));
      results.push_back(result);
    }
    for (size_t i = noted; i < notes.size(); ++i) std::fprintf(stderr, "%s\n", notes[i].c_str());
  }
  bnorm_bench::print_foot(results);
  json_file.write(rows);
  details_file.write(bnorm_bench::details(options, results, notes));
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
