// A peer library in a process of its own: started for one row, stopped while others are timed, so that its idle
// workers, which spin between calls, take none of their time.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "row.hh"

namespace bnorm_bench {

/// Memory formats of oneDNN, each a peer.
inline const std::vector<std::string> kOnednnFormats = {"nchw", "nhwc", "nChw16c"};

/// Whether the bench was built with a peer, and the peer has the row's operation: f32, one group, no residual.
bool has_peer(const Row& row);

/// One line of JSON to the peer's standard input, one line back.
class Peer {
 public:
  /// Starts the peer, which sets up the row. `wait_policy`: how its OpenMP threads wait for work, "passive" (asleep)
  /// or "active" (spinning). Throws std::runtime_error with the peer's reason if it can't.
  Peer(const Row& row, const std::string& format, const std::string& wait_policy, size_t sets, double sample_seconds);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// Nanoseconds per call, over a sample of the agreed length.
  double measure();
  /// `count` elements of the output spread evenly over the logical order (sample_position).
  std::vector<double> output(int64_t count);
  const std::string& implementation() const { return implementation_; }

 private:
  nlohmann::json ask(const nlohmann::json& request);
  std::string read_line();
  void pause();
  void resume();
  void end();

  std::string name_;
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string implementation_;
};

}  // namespace bnorm_bench
