#include "peer.hh"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace bnorm_bench {
namespace {

// A peer that says nothing for this long has hung: the largest set-ups take seconds.
constexpr int kPatienceMs = 120'000;

const std::vector<PeerLibrary> kLibraries = {{"onednn", true, true, true},
                                             {"onednn_openmp", true, true, true},
                                             {"onednn_sycl", true, false, true},
                                             {"pytorch", false, true, false}};

/// What keeps oneDNN and PyTorch to an ISA of bnorm; those not named here are the best of their machines.
const std::map<std::string, std::vector<std::string>> kIsaVariables = {
    {"avx2", {"ONEDNN_MAX_CPU_ISA=AVX2", "ATEN_CPU_CAPABILITY=avx2"}},
    {"sse42", {"ONEDNN_MAX_CPU_ISA=SSE41", "ATEN_CPU_CAPABILITY=default"}},
    {"generic", {"ONEDNN_MAX_CPU_ISA=SSE41", "ATEN_CPU_CAPABILITY=default"}}};

/// Peers have one way to infer.
std::string peer_operation(Operation operation) {
  if (operation == Operation::train) return "train";
  return operation == Operation::backward ? "backward" : "infer";
}

std::filesystem::path program_of(const std::string& library) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / ("bnorm_bench_" + library);
}

/// What variables begin with that decide how a peer runs.
constexpr const char* kPeerVariables[] = {"OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_"};

/// This process's environment but for those.
std::vector<std::string> environment_of(const PeerSetting& setting) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const auto chooses = [&](const char* prefix) { return text.starts_with(prefix); };
    if (std::any_of(std::begin(kPeerVariables), std::end(kPeerVariables), chooses)) continue;
    variables.emplace_back(text);
  }
  variables.push_back("OMP_NUM_THREADS=" + std::to_string(setting.threads));
  variables.push_back("OMP_WAIT_POLICY=" + setting.wait_policy);
  // Outputs that a peer allocates come from memory it has used before, not from pages that fault at each call.
  variables.insert(variables.end(), {"MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=1099511627776"});
  variables.push_back("OCL_ICD_FILENAMES=libintelocl.so");  // the CPU of oneDNN's SYCL
  if (const auto kept = kIsaVariables.find(setting.isa); kept != kIsaVariables.end()) {
    variables.insert(variables.end(), kept->second.begin(), kept->second.end());
  }
  return variables;
}

}  // namespace

bool PeerLibrary::takes(const Row& row) const {
  const bool fused = row.activation == BNORM_IDENTITY || (fuses_relu && row.activation == BNORM_RELU);
  const bool has_peers =
      row.operation != Operation::moments && row.operation != Operation::sums && row.operation != Operation::fold;
  const bool whole = !row.frozen && row.gradients == Gradients::all && has_peers && row.ranks == 1;
  const bool plain = !row.weighted && !row.lengths && !row.param_dtype && !row.renorm && !row.from_output &&
                     !row.from_mask && !row.slice && row.output_dtype == Dtype::f32;
  return row.dtype == Dtype::f32 && plain && row.groups == 1 && !row.residual && fused && whole;
}

std::vector<std::string> PeerLibrary::formats(const std::string& isa) const {
  if (!blocks) return {"contiguous", "channels_last"};
  // A block is a register: oneDNN's other one is hundreds of times slower.
  return {"nchw", "nhwc", isa == "avx512" ? "nChw16c" : "nChw8c"};
}

const std::vector<PeerLibrary>& peer_libraries() {
  static const std::vector<PeerLibrary> built = [] {
    std::vector<PeerLibrary> libraries;
    std::stringstream names(BNORM_BENCH_PEERS);
    for (std::string name; std::getline(names, name, ',');) {
      for (const PeerLibrary& library : kLibraries) {
        if (library.name == name) libraries.push_back(library);
      }
    }
    return libraries;
  }();
  return built;
}

Peer::Peer(const PeerSetting& setting) : name_(setting.library) { start(setting); }

Peer::~Peer() { end(); }

void Peer::start(const PeerSetting& setting) {
  int request[2], response[2];
  if (pipe2(request, O_CLOEXEC) != 0 || pipe2(response, O_CLOEXEC) != 0) {
    throw std::runtime_error(name_ + ": pipe: " + std::strerror(errno));
  }
  to_ = request[1];
  from_ = response[0];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, request[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, response[1], STDOUT_FILENO);
  std::string path = program_of(setting.library);
  std::vector<std::string> environment = environment_of(setting);
  std::vector<char*> variables;
  variables.reserve(environment.size() + 1);
  for (std::string& variable : environment) variables.push_back(variable.data());
  variables.push_back(nullptr);
  char* arguments[] = {path.data(), nullptr};
  const int failed = posix_spawn(&pid_, path.c_str(), &actions, nullptr, arguments, variables.data());
  posix_spawn_file_actions_destroy(&actions);
  close(request[0]);
  close(response[1]);
  if (failed == 0) return;
  pid_ = -1;
  end();
  throw std::runtime_error(name_ + ": cannot start " + path + ": " + std::strerror(failed));
}

void Peer::set_up(const Row& row, const std::string& format, size_t sets, double sample_seconds) {
  const nlohmann::json answer = ask({{"operation", peer_operation(row.operation)},
                                     {"format", format},
                                     {"batch", row.shape.batch},
                                     {"channels", row.shape.channels},
                                     {"spatial", row.shape.spatial},
                                     {"depth", row.depth},
                                     {"relu", row.activation == BNORM_RELU},
                                     {"sets", sets},
                                     {"sample_seconds", sample_seconds}});
  implementation_ = answer.at("implementation");
  version_ = answer.at("version");
}

void Peer::release() noexcept try {
  if (alive()) ask({{"release", true}});
} catch (const std::exception&) {
  end();
}

/// The peer ends when its input does.
void Peer::end() {
  for (int* file : {&to_, &from_}) {
    if (*file >= 0) close(*file);
    *file = -1;
  }
  if (pid_ <= 0) return;
  kill(pid_, SIGCONT);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void Peer::resume() const { kill(pid_, SIGCONT); }

/// Returns when the peer's threads stand still.
void Peer::pause() {
  kill(pid_, SIGSTOP);
  int status = 0;
  waitpid(pid_, &status, WUNTRACED);
  if (WIFSTOPPED(status)) return;
  pid_ = -1;
  throw std::runtime_error(name_ + " has ended");
}

double Peer::measure() { return ask({{"measure", true}}).at("ns"); }

std::vector<double> Peer::output(int64_t count) { return ask({{"output", count}}).at("values"); }

nlohmann::json Peer::ask(const nlohmann::json& request) {
  if (!alive()) throw std::runtime_error(name_ + " has ended");
  resume();
  const std::string line = request.dump() + "\n";
  if (write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    end();
    throw std::runtime_error(name_ + " has ended");
  }
  nlohmann::json response = nlohmann::json::parse(read_line());
  pause();
  if (response.contains("error")) throw std::runtime_error(name_ + ": " + response["error"].get<std::string>());
  return response;
}

std::string Peer::read_line() {
  std::string line;
  char part[4096];
  while (line.empty() || line.back() != '\n') {
    pollfd ready = {from_, POLLIN, 0};
    if (poll(&ready, 1, kPatienceMs) == 0) {
      kill(pid_, SIGKILL);
      end();
      throw std::runtime_error(name_ + " gave no answer in " + std::to_string(kPatienceMs / 1000) + " s");
    }
    const ssize_t bytes = read(from_, part, sizeof part);
    if (bytes <= 0) {
      end();
      throw std::runtime_error(name_ + " has ended");
    }
    line.append(part, static_cast<size_t>(bytes));
  }
  return line;
}

PeerPool::Lease PeerPool::lease(const PeerSetting& setting, const std::string& format) {
  const auto& [library, threads, isa, wait_policy] = setting;
  std::unique_ptr<Peer>& peer = peers_[{library, threads, isa, wait_policy, format}];
  if (peer == nullptr || !peer->alive()) peer = std::make_unique<Peer>(setting);
  return Lease(peer.get());
}

}  // namespace bnorm_bench
