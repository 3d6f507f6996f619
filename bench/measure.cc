#include "measure.hh"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "cases.hh"
#include "engine.hh"
#include "peer.hh"
#include "support/isa_scope.hh"

namespace bnorm_bench {
namespace {

struct NamedPeer {
  std::string name;
  std::unique_ptr<Peer> peer;
};

/// Whether the peer's output is bnorm's. 1e-3: in channels-last oneDNN's variance is off by 1e-4 on N(0, 1) data. One
/// in a hundred may differ, since such an error can turn a value at ReLU's edge; a wrong set-up changes nearly all.
bool same_output(const Row& row, const Case& ours, Peer& peer) {
  const int64_t count = std::min<int64_t>(row.elements(), 4096);
  const std::vector<double> theirs = peer.output(count);
  int64_t same = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double value = ours.output(sample_position(i, count, row.elements()));
    if (std::fabs(theirs[static_cast<size_t>(i)] - value) <= 1e-3 * (1 + std::fabs(value))) ++same;
  }
  return same * 100 >= count * 99;
}

/// The peer with the way of waiting that suits it: asleep, its threads pay a wake-up in every call; spinning, they wait
/// out a time slice whenever another program holds a CPU. Spinning must win three samples of three.
std::unique_ptr<Peer> start_peer(const Row& row, const Options& options, const std::string& format) {
  const auto start = [&](const std::string& wait_policy) {
    return std::make_unique<Peer>(row, format, wait_policy, sets_of(row), options.sample_seconds);
  };
  auto passive = start("passive");
  if (row.threads == 1) return passive;
  auto active = start("active");
  for (int sample = 0; sample < 3; ++sample) {
    if (active->measure() >= passive->measure()) return passive;
  }
  return active;
}

std::vector<NamedPeer> start_peers(const Row& row, const Options& options, const Case& ours,
                                   std::vector<std::string>& notes) {
  std::vector<NamedPeer> peers;
  if (!options.peers || !has_peer(row)) return peers;
  for (const std::string& format : kOnednnFormats) {
    try {
      auto peer = start_peer(row, options, format);
      if (!same_output(row, ours, *peer)) throw std::runtime_error("oneDNN " + format + " computes something else");
      peers.push_back({"onednn_" + format, std::move(peer)});
    } catch (const std::exception& error) {
      notes.push_back(operation_name(row) + ": peer left out: " + error.what());
    }
  }
  return peers;
}

/// Ours first, then the ways to reach the floor, then the peers.
std::vector<Contestant> make_contestants(Case& ours, const std::vector<FloorVariant>& floor,
                                         const std::vector<NamedPeer>& peers) {
  std::vector<Contestant> contestants = {{"bnorm", [&ours](benchmark::State& state) { ours.time(state); }}};
  for (const FloorVariant& variant : floor) contestants.push_back({variant.name, variant.body, false, true});
  for (const NamedPeer& peer : peers) {
    const auto body = [timed = peer.peer.get()](benchmark::State& state) {
      for (auto _ : state) state.SetIterationTime(timed->measure() * 1e-9);
    };
    contestants.push_back({peer.name, body, true});
  }
  return contestants;
}

}  // namespace

Result measure(const Row& row, const Options& options, std::vector<std::string>& notes) {
  const bnorm_support::IsaScope isa(row.isa);
  Case ours(row);
  ours.verify();
  const std::vector<NamedPeer> peers = start_peers(row, options, ours, notes);
  const std::vector<FloorVariant> floor = floor_variants(ours.traffic(), row.threads);
  const auto samples = paired_rounds(make_contestants(ours, floor, peers), options.rounds, options.sample_seconds);

  Result result = {row, median(samples[0]), floor_bytes(ours.traffic()), 0, 0, ours.traffic().reads, "", {}};
  for (size_t i = 0; i < floor.size(); ++i) {
    const Samples& variant = samples[1 + i];
    if (variant.empty() || (result.floor_ns > 0 && median(variant) >= result.floor_ns)) continue;
    result.floor_ns = median(variant);
    result.fraction = median_ratio(variant, samples[0]);
    result.floor_is = floor[i].name;
  }
  for (size_t i = 0; i < peers.size(); ++i) {
    const Samples& peer = samples[1 + floor.size() + i];
    result.peers[peers[i].name] = {median(peer), median_ratio(peer, samples[0]), peers[i].peer->implementation()};
  }
  return result;
}

}  // namespace bnorm_bench
