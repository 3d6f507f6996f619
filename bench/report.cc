#include "report.hh"

#include <bnorm/bnorm.h>

#include <cstdio>
#include <fstream>
#include <set>
#include <string>

#include "floor.hh"

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

}  // namespace

void print_head(bool cold) {
  const int32_t version = bnorm_version();
  std::printf("bnorm %d.%d.%d, %s, last-level cache %zu MiB\n", version / 1000000, version / 1000 % 1000,
              version % 1000, cold ? "cold: buffers of 4 x the last-level cache in turn" : "hot: the same buffers",
              last_level_cache_bytes() >> 20);
  std::puts("time: median of paired rounds. fraction: floor / time. reads: how often the floor reads the inputs.");
  std::puts("oneDNN: its time / bnorm's, so above 1 bnorm is faster.\n");
  if (const int others = runnable_threads() - 1; others > 0) {
    std::fprintf(stderr, "warning: %d threads of other programs are running: expect wrong figures\n", others);
  }
  std::printf("%-22s %-13s %-5s %-20s %3s %-8s %8s %7s %8s %8s %5s  %-26s %s\n", "operation", "layout", "dtype",
              "GxNxCxS", "thr", "isa", "time", "GB/s", "floor", "fraction", "reads", "best twin", "oneDNN");
}

void print_row(const Result& result) {
  const Row& row = result.row;
  const auto [batch, channels, spatial] = row.shape;
  const std::string shape = std::to_string(row.groups) + "x" + std::to_string(batch) + "x" + std::to_string(channels) +
                            "x" + std::to_string(spatial);
  std::printf("%-22s %-13s %-5s %-20s %3d %-8s %8s %7.1f %8s %8.2f %5d  %-26s", operation_name(row).c_str(),
              to_string(row.layout).c_str(), to_string(row.dtype).c_str(), shape.c_str(), row.threads, row.isa.c_str(),
              time_text(result.ns).c_str(), static_cast<double>(result.bytes) / result.ns,
              time_text(result.floor_ns).c_str(), result.fraction, result.reads, result.floor_is.c_str());
  for (const auto& [name, peer] : result.peers) {
    std::printf(" %s %.2fx", name.substr(name.find('_') + 1).c_str(), peer.ratio);
  }
  std::puts("");
  std::fflush(stdout);
}

void print_foot(const std::vector<Result>& results) {
  std::set<std::string> implementations;
  for (const Result& result : results) {
    for (const auto& [name, peer] : result.peers) implementations.insert(peer.implementation);
  }
  if (implementations.empty()) return;
  std::printf("\noneDNN ran");
  for (const std::string& implementation : implementations) std::printf(" %s", implementation.c_str());
  std::puts("");
}

nlohmann::json to_json(const Result& result) {
  const Row& row = result.row;
  nlohmann::json peers = nlohmann::json::object();
  for (const auto& [name, peer] : result.peers) peers[name] = peer.ns;
  return {{"operation", operation_name(row)},
          {"layout", to_string(row.layout)},
          {"dtype", to_string(row.dtype)},
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

}  // namespace bnorm_bench
