#include "options.hh"

#include <bnorm/bnorm.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include "cases.hh"
#include "peer.hh"
#include "support/isa_scope.hh"

namespace bnorm_bench {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 40;  // a terabyte of bytes: beyond it, sizes could overflow

// A default run ends within about a minute: feature maps as in ResNet-50 (one image; a batch around the cache's size;
// 7 x 7), a dense layer of the tutorials, and sizes that no vector width divides.
const std::vector<std::string> kSuite = {"1,256,3136", "32,64,3136", "32,512,49", "60,100,1", "8,37,1003"};
const std::vector<std::string> kLatencySuite = {"1,256,1", "1,2048,1", "1,64,49"};

const std::map<std::string, Operation> kOperations = {{"infer", Operation::infer},
                                                      {"prepared", Operation::prepared},
                                                      {"train", Operation::train},
                                                      {"backward", Operation::backward},
                                                      {"simple", Operation::simple}};
const std::map<std::string, Layout> kLayouts = {{"planar", Layout::planar}, {"channels_last", Layout::channels_last}};
const std::map<std::string, Dtype> kDtypes = {{"f32", Dtype::f32}, {"f64", Dtype::f64}, {"bf16", Dtype::bf16}};

template <class Value>
std::string name_in(const std::map<std::string, Value>& names, Value value) {
  for (const auto& [name, named] : names) {
    if (named == value) return name;
  }
  return "";
}

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<Shape> shape_of(const std::string& text) {
  std::vector<int64_t> sizes;
  std::stringstream stream(text + ",");
  for (std::string part; std::getline(stream, part, ',');) {
    const auto size = whole_number(part);
    if (!size || *size < 1 || *size > kMostElements) return std::nullopt;
    sizes.push_back(*size);
  }
  if (sizes.size() != 3) return std::nullopt;
  return Shape{sizes[0], sizes[1], sizes[2]};
}

// Each check returns "" or value and rule; the option's name is put before.
CLI::Validator rule(const std::string& text, const std::function<bool(const std::string&)>& holds) {
  return CLI::Validator(
      [=](std::string& value) { return holds(value) ? std::string() : "\"" + value + "\" must be " + text; }, "");
}

template <class Value>
CLI::Validator one_of(const std::map<std::string, Value>& names) {
  std::string text = "one of";
  for (const auto& [name, value] : names) text += (text == "one of" ? " " : ", ") + name;
  return rule(text, [&names](const std::string& value) { return names.count(value) > 0; });
}

CLI::Validator whole(int64_t least, int64_t most) {
  return rule("a whole number from " + std::to_string(least) + " to " + std::to_string(most),
              [=](const std::string& value) {
                const auto number = whole_number(value);
                return number && *number >= least && *number <= most;
              });
}

/// The command line's words, checked one by one.
struct Words {
  std::vector<std::string> shapes, layouts = {"planar", "channels_last"}, operations = {"infer", "train", "backward"},
                                   dtypes = {"f32"}, isas;
  std::vector<int> threads;
  int64_t groups = 1;
  bool relu = false, residual = false, cold = false;
};

void refuse_larger_than_memory(const Row& row, const std::string& shape) {
  // In floating point: the product may be beyond any integer.
  const double elements = static_cast<double>(row.groups) * static_cast<double>(row.shape.batch) *
                          static_cast<double>(row.shape.channels) * static_cast<double>(row.shape.spatial);
  const double physical = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  const double needed = elements * 8 * tensors_of(row);
  if (elements <= static_cast<double>(kMostElements) && needed <= physical / 2) return;
  std::ostringstream message;
  message << "--shape: \"" << shape << "\" with " << row.groups << " groups needs up to " << needed / 1e9
          << " GB for its tensors; must be at most half of this machine's " << physical / 1e9 << " GB";
  throw UsageError(message.str(), 2);
}

/// Why a combination does not exist, or "".
std::string obstacle(const Row& row) {
  const bool plain = row.layout == Layout::planar && row.dtype == Dtype::f32 && row.groups == 1;
  if (row.operation == Operation::simple && (!plain || row.relu || row.residual)) {
    return "simple, " + to_string(row.layout) + ", " + to_string(row.dtype) +
           ": the simple calls take packed planar f32, one group, nothing fused";
  }
  return "";
}

void add_rows(const Words& words, const std::string& shape, const std::string& operation, const std::string& isa,
              Options& options) {
  for (const std::string& layout : words.layouts) {
    for (const std::string& dtype : words.dtypes) {
      for (const int threads : words.threads) {
        const Row row = {kOperations.at(operation),
                         kLayouts.at(layout),
                         kDtypes.at(dtype),
                         words.groups,
                         *shape_of(shape),
                         threads,
                         isa,
                         words.relu,
                         words.residual,
                         words.cold};
        refuse_larger_than_memory(row, shape);
        const std::string why_not = obstacle(row);
        if (why_not.empty()) {
          options.rows.push_back(row);
        } else if (options.skipped.empty() || options.skipped.back() != why_not) {
          options.skipped.push_back(why_not);
        }
      }
    }
  }
}

void make_rows(const Words& words, Options& options) {
  for (const std::string& isa : words.isas) {
    for (const std::string& operation : words.operations) {
      const auto& suite = operation == "simple" ? kLatencySuite : kSuite;
      for (const std::string& shape : words.shapes.empty() ? suite : words.shapes) {
        add_rows(words, shape, operation, isa, options);
      }
    }
  }
  if (options.rows.empty()) throw UsageError("--operation: nothing to measure: " + options.skipped.front(), 2);
}

/// Names of ISAs become those that plans report; a name that this machine lacks is refused.
void resolve_isas(Words& words) {
  const auto refuse = [](std::string option, const std::string& isa) {
    throw UsageError(option.append(": \"").append(isa).append("\" must be an ISA of bnorm that this machine has"), 2);
  };
  if (words.isas.empty()) {
    words.isas = {bnorm_isa()};
    const char* given = std::getenv("BNORM_ISA");
    if (words.isas[0].empty()) refuse("BNORM_ISA", given == nullptr ? "" : given);
  }
  for (const std::string& isa : words.isas) {
    const bnorm_support::IsaScope scope(isa);
    if (isa.empty() || bnorm_isa() != isa) refuse("--isa", isa);
  }
}

void add_options(CLI::App& app, Words& words, Options& options, double& sample_ms) {
  const auto shape = rule("N,C,S: batch, channels and spatial positions, whole numbers from 1 to 2^40",
                          [](const std::string& value) { return shape_of(value).has_value(); });
  app.add_option("--shape", words.shapes, "N,C,S, several; default: a suite of typical shapes")->check(shape);
  app.add_option("--layout", words.layouts, "planar, channels_last; default: both")
      ->delimiter(',')
      ->check(one_of(kLayouts));
  app.add_option("--operation", words.operations,
                 "infer, prepared, train, backward, simple (bnorm_infer_f32); default: infer,train,backward")
      ->delimiter(',')
      ->check(one_of(kOperations));
  app.add_option("--dtype", words.dtypes, "f32, f64, bf16; default: f32")->delimiter(',')->check(one_of(kDtypes));
  app.add_option("--groups", words.groups, "groups of N samples each; default: 1")->check(whole(1, kMostElements));
  app.add_option("--threads", words.threads, "thread counts; 1 is BNORM_SERIAL; default: every CPU")
      ->delimiter(',')
      ->check(whole(1, 1024));
  app.add_option("--isa", words.isas, "ISAs as BNORM_ISA names them; default: the best")->delimiter(',');
  app.add_flag("--relu", words.relu, "fuse ReLU");
  app.add_flag("--residual", words.residual, "add a residual");
  app.add_flag("--cold", words.cold, "rotate over buffers of 4 x the last-level cache; default: hot");
  app.add_flag("--peers,!--no-peers", options.peers, "time oneDNN too, where it has the operation; default: yes");
  app.add_option("--rounds", options.rounds, "paired rounds, of which the medians are reported; default: 9")
      ->check(whole(1, 10000));
  app.add_option("--sample-ms", sample_ms, "least time of one sample in a round; default: 10")
      ->check(rule("a number from 0.001 to 10000", [](const std::string& value) {
        char* end = nullptr;
        const double number = std::strtod(value.c_str(), &end);
        return *end == '\0' && number >= 0.001 && number <= 10000;
      }));
  app.add_option("--json", options.json, "write the rows to this file as a JSON array");
  app.add_flag("--selftest", options.selftest, "check the bench itself on tiny shapes");
}

}  // namespace

std::string to_string(Operation operation) { return name_in(kOperations, operation); }
std::string to_string(Layout layout) { return name_in(kLayouts, layout); }
std::string to_string(Dtype dtype) { return name_in(kDtypes, dtype); }

std::string operation_name(const Row& row) {
  return to_string(row.operation) + (row.residual ? "+residual" : "") + (row.relu ? "+relu" : "");
}

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Words words;
  double sample_ms = options.sample_seconds * 1e3;
  CLI::App app("Times bnorm, each row as a fraction of its traffic floor and beside its peers.", "bnorm_bench");
  add_options(app, words, options, sample_ms);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    throw UsageError(app.help(), 0);
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what(), 2);
  }
  options.sample_seconds = sample_ms / 1e3;
  if (words.threads.empty()) words.threads = {static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))};
#if defined(BNORM_BENCH_SERIAL_LIBRARY)
  for (int& threads : words.threads) {
    if (app.count("--threads") == 0) threads = 1;
    if (threads > 1) {
      throw UsageError("--threads: \"" + std::to_string(threads) + "\" must be 1: bnorm was built without oneTBB", 2);
    }
  }
#endif
  resolve_isas(words);
  make_rows(words, options);
  return options;
}

}  // namespace bnorm_bench
