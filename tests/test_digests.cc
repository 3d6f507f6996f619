// SPDX-License-Identifier: Apache-2.0
// Digests of results on inputs made by integer arithmetic: any ISA and architecture must reproduce digests.txt, which
// --write-digests rewrites (a change of it is a change of BNORM_NUMERICS_VERSION).
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "isas.hh"
#include "options.hh"
#include "problem.hh"

namespace bnorm_tests::test_digests {
namespace {

/// FNV-1a, 64 bits (Fowler, Noll and Vo), over the bits of every value.
uint64_t digest(const Outputs& out) {
  uint64_t hash = 0xcbf29ce484222325u;
  const std::vector<double>* const all[] = {&out.y,           &out.mean,     &out.inv_std,  &out.running_mean,
                                            &out.running_var, &out.renorm_r, &out.renorm_d, &out.dx,
                                            &out.dresidual,   &out.dscale,   &out.dshift};
  for (const std::vector<double>* values : all)
    for (const double value : *values)
      for (int byte = 0; byte < 8; ++byte) {
        hash ^= std::bit_cast<uint64_t>(value) >> (8 * byte) & 0xffu;
        hash *= 0x100000001b3u;
      }
  return hash;
}

std::filesystem::path table_path() { return std::filesystem::path(__FILE__).parent_path() / "digests.txt"; }

std::map<std::string, std::string> read_table() {
  std::ifstream file(table_path());
  std::map<std::string, std::string> table;
  std::string name, hash;
  while (file >> name >> hash) table[name] = hash;
  return table;
}

/// A case by what sets it apart; `number` seeds its values.
Case case_of(const Shape& shape, bnorm_type data, bool epilogue, size_t number) {
  Case c;
  c.shape = shape;
  c.data = data;
  c.param = data == BNORM_F64 ? BNORM_F64 : BNORM_F32;
  c.stats = epilogue ? BNORM_F32 : BNORM_F64;
  c.residual = epilogue;
  c.activation = relu_if(epilogue);
  c.frozen = number % 3 == 0;
  c.mode = BNORM_RUNNING_MEAN;
  c.values = Values::kIntegers;
  c.mu = 3;
  c.sigma = 1.0 / 3;  // so that sums round
  c.far = 1000;
  c.seed = number + 1;
  return c;
}

std::string size_of_shape(const Shape& s) {
  return std::to_string(s.g) + 'x' + std::to_string(s.n) + 'x' + std::to_string(s.c) + 'x' + std::to_string(s.s);
}

/// Later additions come last: they must not move the numbers of the others.
std::map<std::string, Case> cases() {
  const Shape shapes[] = {{1, 7, 3, 1},   {1, 1100, 5, 1}, {2, 33, 17, 4}, {1, 9, 2, 49},
                          {1, 2, 3, 784}, {1, 65, 16, 16}, {3, 4, 65, 9},  {1, 1, 1, 2100}};
  const char* const types[] = {"", "f32", "f64", "bf16", "f16"};
  std::map<std::string, Case> r;
  const auto add = [&](const Shape& shape, bnorm_type data, bool epilogue) {
    r[size_of_shape(shape) + '-' + types[data] + (epilogue ? "-relu-residual" : "-identity")] =
        case_of(shape, data, epilogue, r.size());
  };
  for (const Shape& shape : shapes)
    for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
      for (const bool epilogue : {false, true}) add(shape, data, epilogue);
  for (const Shape& shape : shapes)
    for (const bool epilogue : {false, true}) add(shape, BNORM_F16, epilogue);
  // Without a residual, so that no digest hangs on what the machine's own exp makes of y.
  for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
    for (bnorm_activation a = BNORM_CLIP; a < kActivations; ++a) {
      Case c = case_of({1, 9, 20, 49}, data, false, r.size());
      c.activation = a;
      c.sigma = 3;
      r[std::string("1x9x20x49-") + types[data] + "-activation" + std::to_string(a)] = c;
    }
  for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
    for (const Shape& shape : {Shape{2, 33, 17, 4}, Shape{1, 65, 16, 16}, Shape{1, 1100, 5, 1}})
      for (const Weights weights : {Weights::kFrequency, Weights::kReliability, Weights::kLengths}) {
        Case c = case_of(shape, data, true, r.size());
        c.weights = weights;
        r[size_of_shape(shape) + '-' + types[data] + "-weights" + std::to_string(static_cast<int>(weights))] = c;
      }
  for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16})
    for (const Shape& shape : {Shape{2, 33, 17, 4}, Shape{1, 65, 16, 16}}) {
      Case c = case_of(shape, data, false, r.size());
      c.frozen = false;
      c.renorm = true;
      r[size_of_shape(shape) + '-' + types[data] + "-renorm"] = c;
      c.renorm = false;
      c.from_output = true;
      c.activation = BNORM_LEAKY_RELU;
      r[size_of_shape(shape) + '-' + types[data] + "-leaky-from-output"] = c;
      c.from_output = false;
      c.residual = c.mask = true;
      r[size_of_shape(shape) + '-' + types[data] + "-leaky-residual-mask"] = c;
    }
  return r;
}

std::string hexadecimal(uint64_t hash) {
  static const char digits[] = "0123456789abcdef";
  std::string r;
  for (int shift = 60; shift >= 0; shift -= 4) r += digits[hash >> shift & 15u];
  return r;
}

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("digests: every ISA and architecture gives the recorded bits") {
    const std::pair<const char*, Operation> operations[] = {
        {"infer", Operation::kInfer}, {"train", Operation::kTrain}, {"backward", Operation::kBackward}};
    const std::map<std::string, std::string> table = read_table();
    std::map<std::string, std::string> written;
    for (const auto& [name, config] : cases()) {
      const Problem problem(config);
      for (const auto& [operation_name, operation] : operations)
        for (const std::string& isa : isas()) {
          const IsaScope scope(isa);
          const std::string key = std::string(operation_name) + '-' + name;
          const std::string hash = hexadecimal(digest(problem.run(operation, BNORM_SERIAL)));
          INFO(key, " on ", isa);
          if (options().write_digests) {
            const bool first_or_same = written.count(key) == 0 || written[key] == hash;
            CHECK(first_or_same);
            written[key] = hash;
          } else {
            const auto found = table.find(key);
            REQUIRE(found != table.end());
            CHECK(found->second == hash);
          }
        }
    }
    if (!options().write_digests) return;
    std::ofstream file(table_path());
    for (const auto& [key, hash] : written) file << key << ' ' << hash << '\n';
    CHECK(file.good());
  }
}

}  // namespace bnorm_tests::test_digests
