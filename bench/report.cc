#include "report.hh"

#include <bnorm/bnorm.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "cases.hh"

namespace bnorm_bench {
namespace {

std::string time_text(double ns) {
  char text[32];
  const char* unit = ns < 1e3 ? "ns" : ns < 1e6 ? "us" : "ms";
  const double scaled = ns < 1e3 ? ns : ns < 1e6 ? ns / 1e3 : ns / 1e6;
  std::snprintf(text, sizeof text, scaled < 100 ? "%.3g %s" : "%.0f %s", scaled, unit);
  return text;
}

/// Threads of all programs that want a CPU now; 0 if the system does not tell.
int runnable_threads() {
  std::ifstream file("/proc/loadavg");
  std::string skipped;
  int runnable = 0;
  file >> skipped >> skipped >> skipped >> runnable;
  return runnable;
}

std::string version_text() {
  const int32_t version = bnorm_version();
  return std::to_string(version / 1000000) + "." + std::to_string(version / 1000 % 1000) + "." +
         std::to_string(version % 1000);
}

nlohmann::json to_json(const Spread& spread) { return {spread.low, spread.median, spread.high}; }

}  // namespace

void print_head(bool cold) {
  std::printf("bnorm %s, %s, last-level cache %zu MiB\n", version_text().c_str(),
              cold ? "cold: buffers of 4 x the last-level cache in turn" : "hot: the same buffers",
              last_level_cache_bytes() >> 20);
  std::puts("time: median of paired rounds. fraction: floor / time. reads: how often the floor reads the inputs.");
  std::puts("peers: their time / bnorm's, so above 1 bnorm is faster.\n");
  if (const int others = runnable_threads() - 1; others > 0) {
    std::fprintf(stderr, "warning: %d threads of other programs are running: expect wrong figures\n", others);
  }
  std::printf("%-22s %-13s %-9s %-20s %3s %-8s %8s %7s %8s %8s %5s  %-26s %s\n", "operation", "layout", "dtype",
              "GxNxCxS", "thr", "isa", "time", "GB/s", "floor", "fraction", "reads", "best twin", "peers");
}

void print_row(const Result& result) {
  const Row& row = result.row;
  const auto [batch, channels, spatial] = row.shape;
  const std::string shape = std::to_string(row.groups) + "x" + std::to_string(batch) + "x" + std::to_string(channels) +
                            "x" + std::to_string(spatial);
  std::printf("%-22s %-13s %-9s %-20s %3d %-8s %8s %7.1f %8s %8.2f %5d  %-26s", operation_name(row).c_str(),
              to_string(row.layout).c_str(), types_of(row).c_str(), shape.c_str(), row.threads, row.isa.c_str(),
              time_text(result.ns).c_str(), static_cast<double>(result.bytes) / result.ns,
              time_text(result.floor_ns).c_str(), result.fraction.median, result.reads, result.floor_is.c_str());
  for (const auto& [name, peer] : result.peers) std::printf(" %s %.2fx", name.c_str(), peer.ratio.median);
  std::puts("");
  std::fflush(stdout);
}

void print_foot(const std::vector<Result>& results) {
  std::map<std::string, std::set<std::string>> ran;
  for (const Result& result : results) {
    for (const auto& [name, peer] : result.peers) ran[peer.version].insert(peer.implementation);
  }
  if (!ran.empty()) std::puts("");
  for (const auto& [version, implementations] : ran) {
    std::printf("%s ran", version.c_str());
    for (const std::string& implementation : implementations) std::printf(" %s", implementation.c_str());
    std::puts("");
  }
}

nlohmann::json to_json(const Result& result) {
  const Row& row = result.row;
  nlohmann::json peers = nlohmann::json::object();
  for (const auto& [name, peer] : result.peers) peers[name] = peer.ns;
  return {{"operation", operation_name(row)},
          {"layout", to_string(row.layout)},
          {"dtype", types_of(row)},
          {"groups", row.groups},
          {"batch", row.shape.batch},
          {"channels", row.shape.channels},
          {"spatial", row.shape.spatial},
          {"threads", row.threads},
          {"isa", row.isa},
          {"ns", result.ns},
          {"bytes", result.bytes},
          {"floor_ns", result.floor_ns},
          {"peers", peers}};
}

nlohmann::json to_details(const Result& result) {
  nlohmann::json row = to_json(result);
  row["depth"] = result.row.depth;
  row["tensor_bytes"] = tensor_bytes(result.row, result.row.dtype);
  row["working_set"] = result.working_set;
  row["fraction"] = to_json(result.fraction);
  row["reads"] = result.reads;
  row["floor_is"] = result.floor_is;
  for (const auto& [name, peer] : result.peers) {
    row["ratios"][name] = to_json(peer.ratio);
    row["versions"][name] = peer.version;
    row["implementations"][name] = peer.implementation;
  }
  return row;
}

nlohmann::json details(const Options& options, const std::vector<Result>& results,
                       const std::vector<std::string>& notes) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Result& result : results) rows.push_back(to_details(result));
  return {{"version", version_text()},
          {"l2_cache", cache_bytes(2)},
          {"last_level_cache", last_level_cache_bytes()},
          {"rounds", options.rounds},
          {"sample_seconds", options.sample_seconds},
          {"notes", notes},
          {"rows", rows}};
}

}  // namespace bnorm_bench
