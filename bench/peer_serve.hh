// A peer's side of the protocol of peer.hh: what every peer program shares.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace bnorm_bench {

/// One row as a peer sets it up.
struct PeerSetUp {
  std::string operation;       ///< infer, train or backward
  std::string format;          ///< one of the peer's memory formats
  std::vector<int64_t> sizes;  ///< N, C, height, width; for 3-D images N, C, depth, height, width
  bool relu;
  size_t sets;

  bool backward() const { return operation == "backward"; }
  bool infer() const { return operation == "infer"; }
  int64_t channels() const { return sizes[1]; }
  int64_t elements() const;
};

/// One row in a peer's library, every set filled with the values of data.hh.
class PeerCase {
 public:
  virtual ~PeerCase() = default;
  /// The timed call, with the tensors of one set; returns when the result is there.
  virtual void run(size_t set) = 0;
  /// The result of the first set's last call in planar order.
  virtual std::vector<float> output() = 0;
  /// What the library runs, in its own words.
  virtual std::string implementation() const = 0;
};

/// Throws any std::exception if the library refuses the row.
using MakePeerCase = std::unique_ptr<PeerCase> (*)(const PeerSetUp& set_up);

/// Answers each line of JSON on the standard input until it ends; returns the exit code.
int serve(const std::string& version, MakePeerCase make);

}  // namespace bnorm_bench
