// A peer library in processes of its own, stopped while others are timed, so that its idle workers, which spin between
// calls, take none of their time.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "row.hh"

namespace bnorm_bench {

/// A library that the bench knows how to time; its program is bnorm_bench_<name>, beside the bench.
struct PeerLibrary {
  std::string name;
  bool fuses_relu;
  bool openmp;  ///< how its threads wait can be chosen
  bool blocks;  ///< has formats with channels in blocks

  /// Whether it has the row's operation: f32, one group, no residual.
  bool takes(const Row& row) const;
  /// The memory formats that it is fast in on that ISA, each a contender of its own.
  std::vector<std::string> formats(const std::string& isa) const;
};

/// Those that this bench was built with.
const std::vector<PeerLibrary>& peer_libraries();

/// How a peer's process is started.
struct PeerSetting {
  std::string library;
  int threads;
  std::string isa;          ///< the peer is kept to it, too
  std::string wait_policy;  ///< how OpenMP threads wait for work: "passive" (asleep) or "active" (spinning)
};

/// One line of JSON to the peer's standard input, one line back. Everything throws std::runtime_error with the peer's
/// reason if it cannot be done.
class Peer {
 public:
  explicit Peer(const PeerSetting& setting);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// Makes a row ready, in one of the library's formats, in place of the last one.
  void set_up(const Row& row, const std::string& format, size_t sets, double sample_seconds);
  /// Nanoseconds per call, over a sample of the agreed length.
  double measure();
  /// `count` elements of the output spread evenly over the logical order (sample_position).
  std::vector<double> output(int64_t count);
  /// Gives the row's memory back. Never throws: a peer that has ended holds none.
  void release() noexcept;

  bool alive() const { return pid_ > 0; }
  const std::string& implementation() const { return implementation_; }
  /// The library, its version and kind.
  const std::string& version() const { return version_; }

 private:
  void start(const PeerSetting& setting);
  nlohmann::json ask(const nlohmann::json& request);
  std::string read_line();
  void pause();
  void resume() const;
  void end();

  std::string name_;
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string implementation_, version_;
};

/// Peers stay from row to row: starting one can take longer than timing the row.
class PeerPool {
 public:
  struct Release {
    void operator()(Peer* peer) const { peer->release(); }
  };
  /// Gives the row's memory back when it goes; the process stays.
  using Lease = std::unique_ptr<Peer, Release>;

  /// A process for this setting and format, started anew if the last one has ended.
  Lease lease(const PeerSetting& setting, const std::string& format);

 private:
  std::map<std::tuple<std::string, int, std::string, std::string, std::string>, std::unique_ptr<Peer>> peers_;
};

}  // namespace bnorm_bench
