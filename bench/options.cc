#include "options.hh"

#include <bnorm/bnorm.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include "cases.hh"
#include "element.hh"
#include "peer.hh"
#include "support/isa_scope.hh"

namespace bnorm_bench {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 40;  // a terabyte of bytes: beyond it, sizes could overflow

// A default run ends within about a minute: feature maps as in ResNet-50 (one image; a batch around the cache's size;
// 7 x 7), a dense layer of the tutorials, and sizes that no vector width divides.
const std::vector<std::string> kSuite = {"1,256,3136", "32,64,3136", "32,512,49", "60,100,1", "8,37,1003"};
const std::vector<std::string> kLatencySuite = {"1,256,1", "1,2048,1", "1,64,49"};

/// An operation as the command line names it.
struct NamedOperation {
  Operation operation;
  bool frozen = false;
  Gradients gradients = Gradients::all;

  bool operator==(const NamedOperation&) const = default;
};
const std::map<std::string, NamedOperation> kOperations = {
    {"infer", {Operation::infer}},
    {"prepared", {Operation::prepared}},
    {"train", {Operation::train}},
    {"backward", {Operation::backward}},
    {"backward_dx", {Operation::backward, false, Gradients::dx}},
    {"backward_params", {Operation::backward, false, Gradients::params}},
    {"frozen", {Operation::backward, true}},
    {"frozen_dx", {Operation::backward, true, Gradients::dx}},
    {"frozen_params", {Operation::backward, true, Gradients::params}},
    {"simple", {Operation::simple}},
    {"moments", {Operation::moments}},
    {"sums", {Operation::sums}},
    {"fold", {Operation::fold}}};
const std::map<std::string, Layout> kLayouts = {{"planar", Layout::planar},
                                                {"channels_last", Layout::channels_last},
                                                {"blocked", Layout::blocked},
                                                {"blocked8", Layout::blocked8}};
const std::map<std::string, Dtype> kDtypes = {
    {"f32", Dtype::f32}, {"f64", Dtype::f64}, {"bf16", Dtype::bf16}, {"f16", Dtype::f16}};
const std::map<std::string, bnorm_activation> kActivations = {{"identity", BNORM_IDENTITY},
                                                              {"relu", BNORM_RELU},
                                                              {"clip", BNORM_CLIP},
                                                              {"leaky_relu", BNORM_LEAKY_RELU},
                                                              {"elu", BNORM_ELU},
                                                              {"sigmoid", BNORM_SIGMOID},
                                                              {"tanh", BNORM_TANH},
                                                              {"silu", BNORM_SILU},
                                                              {"hard_swish", BNORM_HARD_SWISH},
                                                              {"gelu", BNORM_GELU},
                                                              {"gelu_tanh", BNORM_GELU_TANH}};

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

/// Sizes between separators; none if any is not one.
std::vector<int64_t> sizes_of(const std::string& text, char separator) {
  std::vector<int64_t> sizes;
  std::stringstream stream(text + separator);
  for (std::string part; std::getline(stream, part, separator);) {
    const auto size = whole_number(part);
    if (!size || *size < 1 || *size > kMostElements) return {};
    sizes.push_back(*size);
  }
  return sizes;
}

/// A shape as the command line names it.
struct NamedShape {
  Shape shape;
  int64_t depth;
};

/// N,C,S or N,C,DxHxW.
std::optional<NamedShape> shape_of(const std::string& text) {
  const size_t last = text.rfind(',');
  if (last == std::string::npos) return std::nullopt;
  const auto outer = sizes_of(text.substr(0, last), ',');
  const auto image = sizes_of(text.substr(last + 1), 'x');
  if (outer.size() != 2 || (image.size() != 1 && image.size() != 3)) return std::nullopt;
  if (image.size() == 1) return NamedShape{{outer[0], outer[1], image[0]}, 1};
  // Sizes are at most 2^40: beyond it their product could overflow.
  const double positions =
      static_cast<double>(image[0]) * static_cast<double>(image[1]) * static_cast<double>(image[2]);
  if (positions > static_cast<double>(kMostElements)) return std::nullopt;
  return NamedShape{{outer[0], outer[1], image[0] * image[1] * image[2]}, image[0]};
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
  int64_t groups = 1, ranks = 1;
  std::string activation = "identity", output_dtype, param_dtype;  // "": what the data's asks for
  bool residual = false, cold = false, weighted = false, renorm = false, from_output = false, from_mask = false,
       from_residual = false, slice = false, lengths = false;
};

/// Bytes of a row's tensors, or of one set of them if that alone is beyond any memory.
double bytes_in_use(const Row& row) {
  // In floating point: the product may be beyond any integer.
  const double elements = static_cast<double>(row.groups) * static_cast<double>(row.shape.batch) *
                          static_cast<double>(row.shape.channels) * static_cast<double>(row.shape.spatial);
  if (elements > static_cast<double>(kMostElements)) return elements * 8;
  const double partials = 2 + 2 * static_cast<double>(row.groups) * static_cast<double>(row.shape.channels + 1);
  const double messages = row.ranks > 1 ? static_cast<double>(row.ranks + 1) * partials * sizeof(double) : 0;
  return static_cast<double>(sets_of(row)) * static_cast<double>(set_bytes(row)) + messages;
}

/// `bytes`: of all rows that are timed together, but for peers' copies.
void refuse_larger_than_memory(double bytes, const Row& row, const std::string& shape) {
  const double physical = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  if (bytes <= physical / 2) return;
  std::ostringstream message;
  message << "--shape: \"" << shape << "\" with " << row.groups << " groups needs up to " << bytes / 1e9
          << " GB for its tensors; must be at most half of this machine's " << physical / 1e9 << " GB";
  throw UsageError(message.str(), 2);
}

/// Why a combination does not exist, or "".
std::string obstacle(const Row& row) {
  const bool plain =
      row.layout == Layout::planar && types_of(row) == "f32" && !row.param_dtype && row.groups == 1 && !row.slice;
  const int64_t block = channel_block(row.layout);
  const bool trains = row.operation == Operation::train || row.operation == Operation::backward;
  const bool in_parts = row.operation == Operation::moments || row.operation == Operation::sums;
  const bool invertible =
      row.activation == BNORM_IDENTITY || row.activation == BNORM_LEAKY_RELU || row.activation == BNORM_ELU;
  if ((row.dtype == Dtype::f64) != (row.output_dtype == Dtype::f64))
    return types_of(row) + ": both must be f64 or neither";
  if ((row.weighted || row.lengths) && !trains && !in_parts)
    return operation_name(row) + ": must be of training to have weights";
  if (row.weighted && row.lengths) return operation_name(row) + ": weights must be without lengths";
  if (row.operation == Operation::moments && (row.activation != BNORM_IDENTITY || row.residual))
    return operation_name(row) + ": must be without activation and residual, which moments know nothing of";
  if (row.ranks > 1 && (!trains || row.frozen))
    return operation_name(row) + ": must be train or backward, not frozen, to have ranks";
  if (row.renorm && (!trains || row.frozen)) return operation_name(row) + ": must be train or backward, not frozen";
  if (row.from_output && (row.operation != Operation::backward || !invertible || row.residual))
    return operation_name(row) + ": must be backward of identity, leaky_relu or elu without residual";
  const bool piecewise = row.activation >= BNORM_RELU && row.activation <= BNORM_LEAKY_RELU;
  if (row.from_mask && (!piecewise || row.from_output))
    return operation_name(row) + ": must be of relu, clip or leaky_relu to have a mask, and not from_output";
  if (row.from_residual && (row.operation != Operation::backward || !row.residual || row.from_mask))
    return operation_name(row) + ": must be backward behind a residual, and not from_mask";
  if (row.slice && (block > 0 || row.dtype != row.output_dtype || slice_run_bytes(row) % kLineBytes != 0))
    return operation_name(row) + ", " + to_string(row.layout) +
           ": a slice must be of one type, planar or channels_last, in runs of whole cache lines";
  if (row.operation == Operation::simple && (!plain || row.activation != BNORM_IDENTITY || row.residual)) {
    return "simple, " + to_string(row.layout) + ", " + types_of(row) +
           ": must be packed planar f32 with parameters in f32, one group, nothing fused";
  }
  if (row.operation == Operation::fold &&
      (row.shape.batch != 1 || row.threads != 1 || row.groups != 1 || block > 0 || row.slice || row.residual ||
       row.activation != BNORM_IDENTITY || row.dtype != row.output_dtype))
    return operation_name(row) + ", " + to_string(row.layout) +
           ": must be of one sample, on one thread, planar or channels_last, of one type, in one group, nothing fused";
  if (block > 0 && (row.shape.channels % block != 0 || row.groups != 1))
    return to_string(row.layout) + ": channels must be a multiple of " + std::to_string(block) + ", in one group";
  return "";
}

/// The row in each of the layouts, where they exist.
void add_group(Row row, const Words& words, const std::string& shape, Options& options) {
  RowGroup group;
  double bytes = 0;
  for (const std::string& layout : words.layouts) {
    row.layout = kLayouts.at(layout);
    refuse_larger_than_memory(bytes + bytes_in_use(row), row, shape);
    const std::string why_not = obstacle(row);
    if (why_not.empty()) {
      group.push_back(row);
      bytes += bytes_in_use(row);
    } else if (options.skipped.empty() || options.skipped.back() != why_not) {
      options.skipped.push_back(why_not);
    }
  }
  if (!group.empty()) options.groups.push_back(group);
}

void add_groups(const Words& words, const std::string& shape, const std::string& operation, const std::string& isa,
                Options& options) {
  const NamedShape sizes = *shape_of(shape);
  for (const std::string& dtype : words.dtypes) {
    for (const int threads : words.threads) {
      const NamedOperation& named = kOperations.at(operation);
      Row row = {.operation = named.operation,
                 .layout = Layout::planar,
                 .dtype = kDtypes.at(dtype),
                 .groups = words.groups,
                 .shape = sizes.shape,
                 .threads = threads,
                 .isa = isa,
                 .activation = kActivations.at(words.activation),
                 .residual = words.residual,
                 .cold = words.cold,
                 .depth = sizes.depth,
                 .frozen = named.frozen,
                 .gradients = named.gradients,
                 .output_dtype = kDtypes.at(words.output_dtype.empty() ? dtype : words.output_dtype),
                 .weighted = words.weighted,
                 .renorm = words.renorm,
                 .from_output = words.from_output,
                 .from_mask = words.from_mask,
                 .from_residual = words.from_residual,
                 .slice = words.slice,
                 .lengths = words.lengths,
                 .param_dtype = std::nullopt,
                 .ranks = words.ranks};
      if (!words.param_dtype.empty() && kDtypes.at(words.param_dtype) != parameter_dtype(row))
        row.param_dtype = kDtypes.at(words.param_dtype);
      add_group(row, words, shape, options);
    }
  }
}

void make_rows(const Words& words, Options& options) {
  for (const std::string& isa : words.isas) {
    for (const std::string& operation : words.operations) {
      const auto& suite = operation == "simple" ? kLatencySuite : kSuite;
      for (const std::string& shape : words.shapes.empty() ? suite : words.shapes) {
        add_groups(words, shape, operation, isa, options);
      }
    }
  }
  if (options.groups.empty()) throw UsageError("--operation: nothing to measure: " + options.skipped.front(), 2);
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

bool is_known_peer(const std::string& name) {
  const auto& libraries = peer_libraries();
  return std::any_of(libraries.begin(), libraries.end(), [&](const auto& library) { return library.name == name; });
}

std::string known_peers() {
  std::string names;
  for (const PeerLibrary& library : peer_libraries()) names += (names.empty() ? "" : ", ") + library.name;
  return names;
}

void add_options(CLI::App& app, Words& words, Options& options, double& sample_ms) {
  const auto shape = rule("N,C,S or N,C,DxHxW: batch, channels and spatial positions, whole numbers from 1 to 2^40",
                          [](const std::string& value) { return shape_of(value).has_value(); });
  app.add_option("--shape", words.shapes, "N,C,S (3-D images: N,C,DxHxW), several; default: a suite of typical shapes")
      ->check(shape);
  app.add_option("--layout", words.layouts,
                 "planar, channels_last, blocked (nChw16c), blocked8 (nChw8c); default: the first two")
      ->delimiter(',')
      ->check(one_of(kLayouts));
  app.add_option(
         "--operation", words.operations,
         "infer, prepared, train, backward, frozen (backward of inference), either with _dx or _params for these "
         "alone, simple (bnorm_infer_f32), moments and sums (parts of train and backward), fold (into a layer of C "
         "outputs with S weights each); default: infer,train,backward")
      ->delimiter(',')
      ->check(one_of(kOperations));
  app.add_option("--dtype", words.dtypes, "f32, f64, bf16, f16; default: f32")->delimiter(',')->check(one_of(kDtypes));
  app.add_option("--groups", words.groups, "groups of N samples each; default: 1")->check(whole(1, kMostElements));
  app.add_option("--ranks", words.ranks,
                 "statistics over so many callers, all with this batch, by copies in memory; default: 1")
      ->check(whole(1, 1 << 20));
  app.add_option("--threads", words.threads, "thread counts; 1 is BNORM_SERIAL; default: every CPU")
      ->delimiter(',')
      ->check(whole(1, 1024));
  app.add_option("--isa", words.isas, "ISAs as BNORM_ISA names them; default: the best")->delimiter(',');
  app.add_option("--activation", words.activation,
                 "fuse an activation, as bnorm_activation names them; default: identity")
      ->check(one_of(kActivations));
  app.add_option("--output-dtype", words.output_dtype, "of y, residual and their gradients; default: that of the data")
      ->check(one_of(kDtypes));
  app.add_option("--param-dtype", words.param_dtype,
                 "of scale, shift, running statistics and their gradients; default: f32, of f64 data f64")
      ->check(one_of(kDtypes));
  app.add_flag("--residual", words.residual, "add a residual");
  app.add_flag("--weighted", words.weighted, "weights of positions");
  app.add_flag("--lengths", words.lengths, "padded samples: lengths in place of weights");
  app.add_flag("--renorm", words.renorm, "batch renormalization");
  app.add_flag("--from-output", words.from_output, "backward from y in place of x");
  app.add_flag("--from-mask", words.from_mask,
               "forward keeps a mask of the activation's derivative, backward reads it");
  app.add_flag("--from-residual", words.from_residual, "backward from the residual in place of y");
  app.add_flag("--slice", words.slice, "tensors are half of the channels of ones twice as wide");
  app.add_flag("--cold", words.cold, "rotate over buffers of 4 x the last-level cache; default: hot");
  const std::string built = known_peers();
  const auto peer = rule("one of " + (built.empty() ? "none: the bench was built without peers" : built),
                         [](const std::string& value) { return is_known_peer(value); });
  auto* peers = app.add_option("--peers", options.peers, "libraries to time too: " + built + "; default: onednn")
                    ->delimiter(',')
                    ->check(peer);
  app.add_flag_callback(
         "--no-peers", [&options] { options.peers.clear(); }, "time no other library")
      ->excludes(peers);
  app.add_option("--rounds", options.rounds, "paired rounds, of which the medians are reported; default: 9")
      ->check(whole(1, 10000));
  app.add_option("--sample-ms", sample_ms, "least time of one sample in a round; default: 10")
      ->check(rule("a number from 0.001 to 10000", [](const std::string& value) {
        char* end = nullptr;
        const double number = std::strtod(value.c_str(), &end);
        return *end == '\0' && number >= 0.001 && number <= 10000;
      }));
  app.add_option("--json", options.json, "write the rows to this file as a JSON array");
  app.add_option("--details", options.details, "write all that is known of the rows and the machine to this file");
  app.add_flag("--selftest", options.selftest, "check the bench itself on tiny shapes");
}

}  // namespace

std::string to_string(Layout layout) { return name_in(kLayouts, layout); }
std::string types_of(const Row& row) {
  const std::string data = name_in(kDtypes, row.dtype);
  return row.output_dtype == row.dtype ? data : data + ">" + name_in(kDtypes, row.output_dtype);
}

std::string operation_name(const Row& row) {
  std::string name = name_in(kOperations, NamedOperation{row.operation, row.frozen, row.gradients});
  if (row.weighted) name += "+weights";
  if (row.lengths) name += "+lengths";
  if (row.param_dtype) name += "+" + name_in(kDtypes, *row.param_dtype) + "_params";
  if (row.renorm) name += "+renorm";
  if (row.from_output) name += "+from_output";
  if (row.from_mask) name += "+from_mask";
  if (row.from_residual) name += "+from_residual";
  if (row.slice) name += "+slice";
  if (row.ranks > 1) name += "+" + std::to_string(row.ranks) + "_ranks";
  if (row.residual) name += "+residual";
  if (row.activation != BNORM_IDENTITY) name += "+" + name_in(kActivations, row.activation);
  return name;
}

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Words words;
  double sample_ms = options.sample_seconds * 1e3;
  if (is_known_peer("onednn")) options.peers = {"onednn"};
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
