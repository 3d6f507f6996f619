#include "measure.hh"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <thread>

#include "cases.hh"
#include "data.hh"
#include "engine.hh"
#include "support/isa_scope.hh"

namespace bnorm_bench {
namespace {

// Before a peer's sample: bnorm's workers, which spin for a while after a call, are asleep by then. The peer's own
// stand still outside of its samples.
constexpr std::chrono::milliseconds kIdle{1};

// Peers and ways to the floor without hope can't be the fastest, and all rounds of them would take most of the run's
// time. But peers' times are reported, and a sample may have been disturbed.
constexpr size_t kLeastRounds = 3;

/// A row but for its layout.
std::string name_of(const Row& row) {
  return operation_name(row) + " " + std::to_string(row.shape.batch) + "x" + std::to_string(row.shape.channels) + "x" +
         std::to_string(row.shape.spatial) + ", threads " + std::to_string(row.threads) + ", " + row.isa;
}

struct NamedPeer {
  std::string name;
  PeerPool::Lease peer;
};

/// A row of the group with what is timed for it.
struct Measured {
  explicit Measured(const Row& timed) : row(timed), ours(timed), floor(floor_variants(ours.traffic(), timed.threads)) {}

  Row row;
  Case ours;
  std::vector<FloorVariant> floor;
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
/// out a time slice whenever another program holds a CPU. The smaller median of three samples in turn decides.
PeerPool::Lease start_peer(const Row& row, const Options& options, const PeerLibrary& library,
                           const std::string& format, PeerPool& pool) {
  const auto start = [&](const std::string& wait_policy) {
    PeerPool::Lease peer = pool.lease({library.name, row.threads, row.isa, wait_policy}, format);
    peer->set_up(row, format, sets_of(row), options.sample_seconds);
    return peer;
  };
  auto passive = start("passive");
  if (row.threads == 1 || !library.openmp) return passive;
  auto active = start("active");
  Samples asleep, spinning;
  for (int sample = 0; sample < 3; ++sample) {
    asleep.push_back(passive->measure());
    spinning.push_back(active->measure());
  }
  return median(spinning) < median(asleep) ? std::move(active) : std::move(passive);
}

std::vector<NamedPeer> start_peers(const Measured& measured, const Options& options, PeerPool& pool,
                                   std::vector<std::string>& notes) {
  std::vector<NamedPeer> peers;
  for (const PeerLibrary& library : peer_libraries()) {
    const bool wanted = std::count(options.peers.begin(), options.peers.end(), library.name) > 0;
    if (!wanted || !library.takes(measured.row)) continue;
    for (const std::string& format : library.formats(measured.row.isa)) {
      try {
        auto peer = start_peer(measured.row, options, library, format, pool);
        if (!same_output(measured.row, measured.ours, *peer)) throw std::runtime_error("it computes something else");
        peers.push_back({library.name + "_" + format, std::move(peer)});
      } catch (const std::exception& error) {
        notes.push_back(name_of(measured.row) + ": peer " + library.name + " " + format + " left out: " + error.what());
      }
    }
  }
  return peers;
}

/// Each row's own call and its ways to reach the floor, then the peers.
std::vector<Contestant> make_contestants(const std::vector<std::unique_ptr<Measured>>& rows,
                                         const std::vector<NamedPeer>& peers) {
  std::vector<Contestant> contestants;
  for (const auto& row : rows) {
    const std::string layout = to_string(row->row.layout);
    contestants.push_back({"bnorm " + layout, [&ours = row->ours](benchmark::State& state) { ours.time(state); }});
    for (const FloorVariant& variant : row->floor) {
      contestants.push_back({std::string(variant.name).append(", ").append(layout), variant.body, false,
                             "floor " + layout, kLeastRounds});
    }
  }
  for (const NamedPeer& peer : peers) {
    const auto body = [timed = peer.peer.get()](benchmark::State& state) {
      std::this_thread::sleep_for(kIdle);
      for (auto _ : state) state.SetIterationTime(timed->measure() * 1e-9);
    };
    contestants.push_back({peer.name, body, true, "peers", kLeastRounds});
  }
  return contestants;
}

/// Times them all; anew without those peers that end on the way, which are taken out of `peers`.
std::vector<Samples> time_all(const std::vector<std::unique_ptr<Measured>>& rows, std::vector<NamedPeer>& peers,
                              const Options& options, std::vector<std::string>& notes) {
  for (;;) {
    try {
      return paired_rounds(make_contestants(rows, peers), options.rounds, options.sample_seconds);
    } catch (const std::exception& error) {
      const auto ended = std::partition(peers.begin(), peers.end(), [](const NamedPeer& p) { return p.peer->alive(); });
      if (ended == peers.end()) throw;
      peers.erase(ended, peers.end());
      notes.push_back(name_of(rows.front()->row) + ": left out while being timed: " + error.what());
    }
  }
}

/// `ours`: this row's samples, followed by those of its ways to reach the floor; `theirs`: those of the peers.
Result make_result(const Measured& measured, const std::vector<NamedPeer>& peers, const Samples* ours,
                   const Samples* theirs) {
  const Traffic& traffic = measured.ours.traffic();
  Result result = {measured.row, median(*ours), floor_bytes(traffic), 0, {}, traffic.reads, "", 0, {}};
  result.working_set = working_set_bytes(traffic);
  for (size_t i = 0; i < measured.floor.size(); ++i) {
    const Samples& variant = ours[1 + i];
    if (result.floor_ns > 0 && median(variant) >= result.floor_ns) continue;
    result.floor_ns = median(variant);
    result.fraction = paired_ratio(variant, *ours);
    result.floor_is = measured.floor[i].name;
  }
  for (size_t i = 0; i < peers.size(); ++i) {
    const Peer& peer = *peers[i].peer;
    result.peers[peers[i].name] = {median(theirs[i]), paired_ratio(theirs[i], *ours), peer.implementation(),
                                   peer.version()};
  }
  return result;
}

}  // namespace

std::vector<Result> measure(const RowGroup& group, const Options& options, PeerPool& pool,
                            std::vector<std::string>& notes) {
  const bnorm_support::IsaScope isa(group.front().isa);
  std::vector<std::unique_ptr<Measured>> rows;
  for (const Row& row : group) {
    rows.push_back(std::make_unique<Measured>(row));
    rows.back()->ours.verify();
  }
  std::vector<NamedPeer> peers = start_peers(*rows.front(), options, pool, notes);
  const std::vector<Samples> samples = time_all(rows, peers, options, notes);

  std::vector<Result> results;
  const Samples* ours = samples.data();
  const Samples* theirs = samples.data() + samples.size() - peers.size();
  for (const auto& row : rows) {
    results.push_back(make_result(*row, peers, ours, theirs));
    ours += 1 + row->floor.size();
  }
  return results;
}

}  // namespace bnorm_bench
