#include "peer_serve.hh"

#include <malloc.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "data.hh"
#include "turns.hh"
#include "warm_up.hh"

namespace bnorm_bench {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

/// Spatial positions as height and width: square where they are.
std::vector<int64_t> sizes_of(const json& request) {
  const int64_t depth = request.at("depth");
  const int64_t image = request.at("spatial").get<int64_t>() / depth;
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(image))));
  const int64_t height = side * side == image ? side : 1;
  std::vector<int64_t> sizes = {request.at("batch"), request.at("channels"), depth, height, image / height};
  if (depth == 1) sizes.erase(sizes.begin() + 2);
  return sizes;
}

/// The row at hand and how it is timed.
class Timed {
 public:
  Timed(const json& request, MakePeerCase make)
      : set_up_{request.at("operation"), request.at("format"), sizes_of(request), request.at("relu"),
                request.at("sets")},
        sample_ns_(request.at("sample_seconds").get<double>() * 1e9),
        case_(make(set_up_)) {
    for (size_t set = 0; set < set_up_.sets; ++set) case_->run(set);
  }

  std::string implementation() const { return case_->implementation(); }

  /// Nanoseconds per call. The first sample also finds how many calls make one.
  double measure() {
    if (calls_ == 0) {
      warm_up([this] { call_next(); });
      calls_ = 1;
      double ns = time(1);
      for (; ns * static_cast<double>(calls_) < sample_ns_; ns = time(calls_)) calls_ *= 2;
      calls_ = std::max<int64_t>(1, std::llround(sample_ns_ / ns));
    }
    warm_up([this] { call_next(); });
    return time(calls_);
  }

  std::vector<float> output(int64_t count) {
    case_->run(0);
    const std::vector<float> values = case_->output();
    std::vector<float> samples;
    for (int64_t i = 0; i < count; ++i) {
      samples.push_back(values[static_cast<size_t>(sample_position(i, count, set_up_.elements()))]);
    }
    return samples;
  }

 private:
  void call_next() { case_->run(sets_.next()); }
  double time(int64_t calls) {
    const auto begin = Clock::now();
    for (int64_t i = 0; i < calls; ++i) call_next();
    const std::chrono::duration<double, std::nano> taken = Clock::now() - begin;
    return taken.count() / static_cast<double>(calls);
  }

  PeerSetUp set_up_;
  double sample_ns_;
  std::unique_ptr<PeerCase> case_;
  int64_t calls_ = 0;
  Turns sets_{set_up_.sets};
};

/// Frees the row's memory for whoever is timed next: the process stays.
void release(std::unique_ptr<Timed>& timed) {
  timed.reset();
  malloc_trim(0);
}

json answer(std::unique_ptr<Timed>& timed, const json& request, const std::string& version, MakePeerCase make) {
  if (request.contains("measure")) return {{"ns", timed->measure()}};
  if (request.contains("output")) return {{"values", timed->output(request.at("output"))}};
  release(timed);
  if (request.contains("release")) return json::object();
  timed = std::make_unique<Timed>(request, make);
  return {{"implementation", timed->implementation()}, {"version", version}};
}

}  // namespace

int64_t PeerSetUp::elements() const {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

int serve(const std::string& version, MakePeerCase make) try {
  // Not left behind, stopped, if the bench is killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::unique_ptr<Timed> timed;
  for (std::string line; std::getline(std::cin, line);) {
    json response;
    try {
      response = answer(timed, json::parse(line), version, make);
    } catch (const std::exception& error) {
      response = {{"error", error.what()}};
    }
    std::cout << response.dump() << std::endl;
  }
  return 0;
} catch (...) {
  return 1;  // the bench sees the closed pipe
}

}  // namespace bnorm_bench
