// SPDX-License-Identifier: Apache-2.0
#include "executors.hh"

#include <algorithm>
#include <numeric>
#include <thread>

#include "random.hh"
#include "sanitizers.hh"
#if BNORM_WITH_TBB
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#endif

namespace bnorm_tests {
namespace {

/// Indices in the order in which a manner runs them.
std::vector<int64_t> order(Manner manner, int64_t n) {
  std::vector<int64_t> r(static_cast<size_t>(n));
  std::iota(r.begin(), r.end(), 0);
  if (manner == Manner::kReverse) std::reverse(r.begin(), r.end());
  if (manner == Manner::kShuffled) {
    Random random(static_cast<uint64_t>(n));
    for (size_t i = r.size(); i > 1; --i) std::swap(r[i - 1], r[random.below(i)]);
  }
  if (manner == Manner::kSkipsOne) r.pop_back();
  if (manner == Manner::kRepeatsOne) r.push_back(0);
  if (manner == Manner::kOutOfRange) r.push_back(n);
  return r;
}

void run_at_once(int64_t n, bnorm_task task, void* argument) {
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t i = next++; i < n; i = next++) task(argument, i);
  };
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < std::min<int64_t>(n, 8); ++t) threads.emplace_back(work);
  for (std::thread& t : threads) t.join();
}

Executor custom(const char* name, Manner manner, int32_t concurrency) {
  const auto owner = std::make_shared<CustomExecutor>(manner, concurrency);
  return {name, [owner](const std::function<void(const bnorm_executor*)>& f) { f(owner->get()); }};
}

#if BNORM_WITH_TBB
// A sanitizer, which takes ten times as long, learns nothing from more of them, nor from tasks one after another.
#if BNORM_TESTS_SANITIZED
constexpr int kThreads[] = {3};
#else
constexpr int kThreads[] = {1, 2, 3, 4, 7, 8, 16, 64};
#endif

Executor one_tbb(int threads) {
  const auto arena = std::make_shared<tbb::task_arena>(threads);
  return {"oneTBB " + std::to_string(threads),
          [arena](const std::function<void(const bnorm_executor*)>& f) { arena->execute([&] { f(nullptr); }); }};
}
#endif

std::vector<Executor> make_executors() {
  std::vector<Executor> r;
  r.push_back({"serial", [](const std::function<void(const bnorm_executor*)>& f) { f(BNORM_SERIAL); }});
#if BNORM_WITH_TBB
  // An arena gets no more workers than the machine has cores unless it is told so.
  static tbb::global_control more_than_cores(tbb::global_control::max_allowed_parallelism, 64);
  for (const int threads : kThreads) r.push_back(one_tbb(threads));
#endif
  r.push_back(custom("at once", Manner::kAtOnce, 8));
#if !BNORM_TESTS_SANITIZED
  r.push_back(custom("reverse", Manner::kReverse, 3));
  r.push_back(custom("shuffled", Manner::kShuffled, 8));
  r.push_back(custom("1000 threads", Manner::kInOrder, 1000));
#endif
  return r;
}

}  // namespace

const std::vector<Executor>& executors() {
  static const std::vector<Executor> all = make_executors();
  return all;
}

CustomExecutor::CustomExecutor(Manner manner, int32_t concurrency)
    : manner_(manner), executor_{sizeof(bnorm_executor), concurrency, this, parallel_for} {}

int32_t CustomExecutor::parallel_for(void* context, int64_t n, bnorm_task task, void* argument) {
  return static_cast<CustomExecutor*>(context)->run(n, task, argument);
}

int32_t CustomExecutor::run(int64_t n, bnorm_task task, void* argument) {
  ++loops_;
  most_tasks_ = std::max<int64_t>(most_tasks_, n);
  if (manner_ == Manner::kAtOnce) {
    run_at_once(n, task, argument);
    return 0;
  }
  for (const int64_t i : order(manner_, n)) task(argument, i);
  return manner_ == Manner::kFails ? 7 : 0;
}

}  // namespace bnorm_tests
