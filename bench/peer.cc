#include "peer.hh"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace bnorm_bench {
namespace {

// A peer that says nothing for this long has hung: the largest set-ups take seconds.
constexpr int kPatienceMs = 120'000;

/// The peer's executable lies beside this one.
std::string peer_path() { return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "bnorm_bench_onednn"; }

/// This process's environment with as many OpenMP threads as the row's.
std::vector<std::string> peer_environment(int threads, const std::string& wait_policy) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "OMP_", 4) != 0) variables.emplace_back(*variable);
  }
  variables.push_back("OMP_NUM_THREADS=" + std::to_string(threads));
  variables.push_back("OMP_WAIT_POLICY=" + wait_policy);
  return variables;
}

}  // namespace

bool has_peer([[maybe_unused]] const Row& row) {
#if defined(BNORM_BENCH_ONEDNN)
  return row.dtype == Dtype::f32 && row.groups == 1 && !row.residual;
#else
  return false;
#endif
}

Peer::Peer(const Row& row, const std::string& format, const std::string& wait_policy, size_t sets,
           double sample_seconds)
    : name_("oneDNN " + format) {
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
  std::string path = peer_path();
  std::vector<std::string> environment = peer_environment(row.threads, wait_policy);
  std::vector<char*> variables;
  variables.reserve(environment.size() + 1);
  for (std::string& variable : environment) variables.push_back(variable.data());
  variables.push_back(nullptr);
  char* arguments[] = {path.data(), nullptr};
  const int failed = posix_spawn(&pid_, path.c_str(), &actions, nullptr, arguments, variables.data());
  posix_spawn_file_actions_destroy(&actions);
  close(request[0]);
  close(response[1]);
  if (failed != 0) pid_ = -1;
  try {
    if (failed != 0) throw std::runtime_error(name_ + ": cannot start " + path + ": " + std::strerror(failed));
    implementation_ = ask({{"operation", to_string(row.operation)},
                           {"format", format},
                           {"batch", row.shape.batch},
                           {"channels", row.shape.channels},
                           {"spatial", row.shape.spatial},
                           {"relu", row.relu},
                           {"sets", sets},
                           {"sample_seconds", sample_seconds}})
                          .at("implementation");
  } catch (...) {
    end();
    throw;
  }
}

Peer::~Peer() { end(); }

/// The peer ends when its input does.
void Peer::end() {
  close(to_);
  close(from_);
  if (pid_ <= 0) return;
  kill(pid_, SIGCONT);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void Peer::resume() { kill(pid_, SIGCONT); }

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
  resume();
  const std::string line = request.dump() + "\n";
  if (write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
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
      throw std::runtime_error(name_ + " gave no answer in " + std::to_string(kPatienceMs / 1000) + " s");
    }
    const ssize_t bytes = read(from_, part, sizeof part);
    if (bytes <= 0) throw std::runtime_error(name_ + " has ended");
    line.append(part, static_cast<size_t>(bytes));
  }
  return line;
}

}  // namespace bnorm_bench
