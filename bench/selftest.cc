#include "selftest.hh"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "cases.hh"
#include "engine.hh"
#include "measure.hh"
#include "options.hh"
#include "peer.hh"
#include "report.hh"

namespace bnorm_bench {
namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

Options parse(std::vector<const char*> words) {
  words.insert(words.begin(), "bnorm_bench");
  return parse_options(static_cast<int>(words.size()), words.data());
}

void check_json(const Result& result, const std::string& what) {
  const nlohmann::json row = nlohmann::json::parse(to_json(result).dump());
  const std::set<std::string> expected = {"operation", "layout", "dtype", "groups", "batch",    "channels", "spatial",
                                          "threads",   "isa",    "ns",    "bytes",  "floor_ns", "peers"};
  std::set<std::string> keys;
  for (const auto& item : row.items()) keys.insert(item.key());
  expect(keys == expected, what + ": JSON keys");
  expect(row["ns"].is_number() && row["ns"] > 0, what + ": ns > 0");
  expect(row["floor_ns"].is_number() && row["floor_ns"] > 0, what + ": floor_ns > 0");
  const size_t smaller =
      std::min(tensor_bytes(result.row, result.row.dtype), tensor_bytes(result.row, result.row.output_dtype));
  const int64_t least = result.row.operation == Operation::moments ? 1 : 2;
  expect(row["bytes"].is_number_integer() && row["bytes"] >= least * static_cast<int64_t>(smaller), what + ": bytes");
  for (const auto& peer : row["peers"].items()) expect(peer.value() > 0, what + ": " + peer.key() + " > 0");
}

/// Peers that must take part in a row.
size_t contenders(const Row& row, const Options& options) {
  size_t count = 0;
  for (const PeerLibrary& library : peer_libraries()) {
    const bool wanted = std::count(options.peers.begin(), options.peers.end(), library.name) > 0;
    if (wanted && library.takes(row)) count += library.formats(row.isa).size();
  }
  return count;
}

/// Every row of a command line: measure() verifies the output of the timed call.
void check_rows(std::vector<const char*> words) {
  words.insert(words.end(), {"--rounds", "2", "--sample-ms", "0.02"});
  const Options options = parse(words);
  PeerPool pool;
  for (const RowGroup& group : options.groups) {
    const Row& row = group.front();
    const std::string what = operation_name(row) + " " + types_of(row) + " " + std::to_string(row.shape.channels) +
                             " channels, " + std::to_string(row.threads) + " threads";
    try {
      std::vector<std::string> notes;
      const std::vector<Result> results = measure(group, options, pool, notes);
      expect(results.size() == group.size(), what + ": a result a row");
      for (const Result& result : results) {
        check_json(result, what);
        expect(result.peers.size() == contenders(row, options), what + ": peers");
      }
      for (const std::string& note : notes) expect(false, std::string(what).append(": ").append(note));
    } catch (const std::exception& error) {
      expect(false, what + ": " + error.what());
    }
  }
}

/// A peer that cannot do what it is asked says so, and its process serves the next row.
void check_broken_peers() {
  const Row row = parse({"--shape", "2,16,9"}).groups.front().front();
  const auto fails = [](const auto& call, const std::string& reason) {
    try {
      call();
    } catch (const std::runtime_error& error) {
      return std::string(error.what()).find(reason) != std::string::npos;
    }
    return false;
  };
  expect(fails([] { const Peer peer({"missing", 1, "", "passive"}); }, "missing"), "a peer without a program");
  for (const PeerLibrary& library : peer_libraries()) {
    PeerPool pool;
    const PeerSetting setting = {library.name, 1, row.isa, "passive"};
    const std::string format = library.formats(row.isa).front();
    const auto peer = pool.lease(setting, format);
    peer->set_up(row, format, 1, 1e-5);
    Row impossible = row;
    impossible.shape.channels = -1;
    expect(fails([&] { peer->set_up(impossible, format, 1, 1e-5); }, library.name), library.name + " refuses a row");
    peer->set_up(row, format, 1, 1e-5);
    expect(peer->measure() > 0, library.name + " serves on");
  }
}

/// The twin writes every byte, from every input, in every variant, and leaves gaps behind runs of run_bytes alone.
void check_twin(int ins, int outs, int reads, size_t tensor_bytes, size_t run_bytes = 0) {
  const size_t bytes = run_bytes > 0 ? 2 * tensor_bytes : tensor_bytes;
  std::vector<Buffer> buffers(kMostIns + kMostOuts);
  for (Buffer& buffer : buffers) buffer = Buffer(bytes);
  Tensors tensors = {};
  for (; tensors.ins < ins; ++tensors.ins) {
    std::byte* data = buffers[static_cast<size_t>(tensors.ins)].data();
    for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * 31 + static_cast<size_t>(tensors.ins) * 7);
    tensors.in[tensors.ins] = data;
  }
  for (; tensors.outs < outs; ++tensors.outs)
    tensors.out[tensors.outs] = buffers[kMostIns + size_t(tensors.outs)].data();
  tensors.run_bytes = run_bytes;
  Traffic traffic;
  traffic.sets = {tensors};
  traffic.tensor_bytes = tensor_bytes;
  traffic.reads = reads;
  traffic.first_pass_ins = ins;
  traffic.tile_bytes = 150'000;
  for (const FloorVariant& variant : floor_variants(traffic, 3)) {
    for (int o = 0; o < outs; ++o) std::memset(tensors.out[o], 0xa5, bytes);
    paired_rounds({{variant.name, variant.body}}, 1, 1e-6);
    bool same = true;
    for (size_t i = 0; i < bytes; ++i) {
      const bool in_gap = run_bytes > 0 && i / run_bytes % 2 == 1;
      std::byte expected{static_cast<unsigned char>(in_gap ? 0xa5 : 0)};
      for (int k = 0; k < ins && !in_gap; ++k) expected ^= tensors.in[k][i];
      for (int o = 0; o < outs; ++o) same = same && tensors.out[o][i] == expected;
    }
    expect(same, "twin, " + variant.name + ", " + std::to_string(ins) + " in, " + std::to_string(outs) + " out, " +
                     std::to_string(reads) + " reads, " + std::to_string(bytes) + " bytes, runs of " +
                     std::to_string(run_bytes));
  }
}

/// Bad input: a message with option, value and rule, and exit code 2.
void check_refused(const std::vector<const char*>& words, const std::string& option, const std::string& value) {
  try {
    parse(words);
    expect(false, option + " " + value + " was accepted");
  } catch (const UsageError& error) {
    const std::string message = error.what();
    expect(error.exit_code == 2, option + " " + value + ": exit code 2");
    expect(message.find(option + ":") != std::string::npos && message.find(value) != std::string::npos &&
               message.find("must be") != std::string::npos,
           "message names option, value and rule: " + message);
  }
}

void check_command_line() {
  expect(parse({"--shape", "3,5,7", "2,4,1", "--layout", "planar", "--threads", "1,2"}).groups.size() == 12, "12 rows");
  expect(parse({"--shape", "3,5,2x4x4"}).groups.front().front().shape.spatial == 32, "3-D images");
  check_refused({"--shape", "1,2"}, "--shape", "1,2");
  check_refused({"--shape", "1,0,3"}, "--shape", "1,0,3");
  check_refused({"--shape", "1,x,3"}, "--shape", "1,x,3");
  check_refused({"--shape", "9999999,9999999,9999999"}, "--shape", "9999999,9999999,9999999");
  check_refused({"--shape", "1,2,3x4"}, "--shape", "1,2,3x4");
  check_refused({"--layout", "nchw"}, "--layout", "nchw");
  check_refused({"--operation", "forward"}, "--operation", "forward");
  check_refused({"--dtype", "f8"}, "--dtype", "f8");
  check_refused({"--activation", "mish"}, "--activation", "mish");
  check_refused({"--threads", "0"}, "--threads", "0");
  check_refused({"--groups", "-1"}, "--groups", "-1");
  check_refused({"--isa", "avx9"}, "--isa", "avx9");
  check_refused({"--peers", "cudnn"}, "--peers", "cudnn");
  check_refused({"--rounds", "many"}, "--rounds", "many");
}

}  // namespace

int run_selftest() {
  check_command_line();
  check_broken_peers();
  for (const int reads : {1, 2}) {
    for (const size_t bytes : {size_t{1003}, size_t{400'040}}) {
      for (const auto& [ins, outs] :
           {std::pair{1, 0}, {2, 0}, {1, 1}, {2, 1}, {3, 1}, {1, 2}, {2, 2}, {3, 2}, {4, 1}, {5, 3}}) {
        check_twin(ins, outs, reads, bytes);
        check_twin(ins, outs, reads, bytes / 192 * 192, 192);
      }
    }
  }
  check_twin(2, 1, 1, 2 * cache_bytes(2));
  check_twin(2, 1, 2, 2 * cache_bytes(2));
  check_rows({"--shape", "3,5,7", "2,16,40", "--operation", "infer,prepared,train,backward", "--dtype",
              "f32,f64,bf16,f16", "--threads", "1,2", "--no-peers"});
  check_rows({"--shape", "3,5,7", "--operation", "infer,prepared,train,backward", "--groups", "2", "--activation",
              "relu", "--residual", "--dtype", "f32,bf16"});
  for (const char* activation : {"clip", "leaky_relu", "elu", "tanh", "silu", "gelu"})
    check_rows({"--shape", "3,5,7", "--operation", "infer,train,backward", "--activation", activation, "--residual",
                "--dtype", "f32,f64,f16"});
  for (const char* operation : {"backward_dx,backward_params", "frozen,frozen_dx,frozen_params"})
    for (const char* activation : {"identity", "relu", "gelu"}) {
      check_rows({"--shape", "3,5,7", "--operation", operation, "--activation", activation, "--dtype", "f32,bf16"});
      check_rows({"--shape", "3,5,7", "--operation", operation, "--activation", activation, "--residual"});
    }
  for (const auto& [dtype, output] : {std::pair{"bf16,f16", "f32"}, {"f32,f16", "bf16"}})
    for (const char* residual : {"", "--residual"}) {
      std::vector<const char*> words = {
          "--shape",      "3,5,7", "--operation",    "infer,prepared,train,backward,frozen",
          "--dtype",      dtype,   "--output-dtype", output,
          "--activation", "relu"};
      if (*residual) words.push_back(residual);
      check_rows(words);
    }
  check_rows({"--shape", "3,5,7", "3,100,20", "--operation", "moments,sums", "--dtype", "f32,f64,bf16", "--groups", "2",
              "--threads", "1,2"});
  for (const char* feature : {"--weighted", "--lengths"})
    check_rows({"--shape", "3,5,7", "--operation", "moments,sums", feature});
  check_rows({"--shape", "3,16,7", "--operation", "moments,sums", "--slice"});
  check_rows({"--shape", "3,5,7", "--operation", "sums", "--activation", "relu", "--residual"});
  check_rows({"--shape", "3,32,7", "--operation", "moments,sums", "--layout", "blocked,blocked8"});
  check_rows({"--shape", "3,5,7", "--operation", "train,backward", "--groups", "2", "--ranks", "5"});
  check_refused({"--operation", "moments", "--residual"}, "--operation", "moments know nothing of");
  check_refused({"--operation", "infer", "--ranks", "2"}, "--operation", "ranks");
  check_refused({"--operation", "frozen", "--ranks", "2"}, "--operation", "ranks");
  check_refused({"--shape", "1,2048,1", "--operation", "train", "--ranks", "1048576"}, "--shape", "GB");
  check_refused({"--operation", "simple", "--param-dtype", "bf16"}, "--operation", "nothing fused");
  check_refused({"--operation", "train", "--weighted", "--lengths"}, "--operation", "without lengths");
  for (const char* dtype : {"bf16", "f16", "f32"})
    check_rows({"--shape", "3,5,7", "--operation", "infer,prepared,train,backward", "--dtype", "f32,bf16",
                "--param-dtype", dtype});
  for (const char* feature : {"--weighted", "--lengths", "--renorm"})
    check_rows({"--shape", "3,5,7", "--operation", "train,backward,backward_dx,backward_params", "--activation", "relu",
                "--dtype", "f32,f64,bf16", "--groups", "2", feature});
  for (const char* activation : {"identity", "leaky_relu", "elu"})
    check_rows({"--shape", "3,5,7", "--operation", "backward,frozen", "--activation", activation, "--dtype", "f32,f64",
                "--from-output"});
  for (const char* activation : {"relu", "clip", "leaky_relu"})
    for (const char* residual : {"--residual", "--weighted"})
      check_rows({"--shape", "3,5,7", "3,17,20", "--operation", "train,backward,backward_dx", "--activation",
                  activation, "--dtype", "f32,f64,bf16", residual, "--from-mask"});
  check_rows(
      {"--shape", "3,5,7", "--operation", "infer,prepared,frozen,frozen_dx", "--activation", "relu", "--from-mask"});
  for (const char* activation : {"relu", "leaky_relu", "sigmoid"})
    check_rows({"--shape", "3,5,7", "--operation", "backward,backward_dx,frozen", "--activation", activation, "--dtype",
                "f32,f64,bf16", "--residual", "--from-residual"});
  check_refused({"--operation", "backward", "--from-residual"}, "--operation", "behind a residual");
  check_refused({"--operation", "train", "--from-mask"}, "--operation", "from_mask");
  check_refused({"--operation", "train", "--from-output"}, "--operation", "from_output");
  check_refused({"--operation", "infer", "--weighted"}, "--operation", "weights");
  check_refused({"--dtype", "f64", "--output-dtype", "f32"}, "--operation", "f64");
  check_rows({"--shape", "3,32,7", "1,16,1", "--layout", "blocked,blocked8", "--operation",
              "infer,prepared,train,backward", "--dtype", "f32,bf16", "--no-peers"});
  check_refused({"--shape", "3,20,7", "--layout", "blocked"}, "--operation", "multiple of 16");
  check_rows({"--shape", "3,16,7", "--operation", "infer,prepared,train,backward,frozen_dx", "--activation", "relu",
              "--residual", "--groups", "2", "--dtype", "f32,f64", "--slice"});
  check_refused({"--shape", "3,20,7", "--slice"}, "--operation", "whole cache lines");
  check_rows({"--shape", "1,256,1", "--operation", "simple", "--threads", "1,2"});
  check_rows({"--shape", "1,5,7", "1,70,100", "--operation", "fold", "--dtype", "f32,f64,bf16,f16", "--threads", "1"});
  check_refused({"--shape", "2,5,7", "--operation", "fold"}, "--operation", "one sample");
  check_refused({"--shape", "1,5,7", "--operation", "fold", "--threads", "2"}, "--operation", "one thread");
  for (const PeerLibrary& library : peer_libraries()) {
    check_rows({"--shape", "4,32,25", "2,16,2x3x4", "--operation", "infer,train,backward", "--threads", "1,2",
                "--peers", library.name.c_str()});
    check_rows({"--shape", "4,32,25", "--operation", "infer,train,backward", "--activation", "relu", "--peers",
                library.name.c_str()});
  }
  std::puts(failures == 0 ? "bench self test passed" : "bench self test FAILED");
  return failures == 0 ? 0 : 1;
}

}  // namespace bnorm_bench
