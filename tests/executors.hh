// SPDX-License-Identifier: Apache-2.0
// Every way a call can be given threads.
#pragma once
#include <bnorm/bnorm.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bnorm_tests {

/// Calls a function with an executor, in an arena where that is what limits the threads.
struct Executor {
  std::string name;
  std::function<void(const std::function<void(const bnorm_executor*)>&)> with;
};

/// Serial, oneTBB with 1 to 64 threads (if built with it), and callers' executors that run tasks on 8 threads at once,
/// in reverse, shuffled, and as if there were 1000; under sanitizers fewer. Lives as long as the program.
const std::vector<Executor>& executors();

/// How a caller's executor runs its tasks, or how it breaks its contract.
enum class Manner { kInOrder, kReverse, kShuffled, kAtOnce, kSkipsOne, kRepeatsOne, kOutOfRange, kFails };

/// A caller's executor that counts what it was asked for.
class CustomExecutor {
 public:
  CustomExecutor(Manner manner, int32_t concurrency);
  const bnorm_executor* get() const { return &executor_; }
  /// Loops that were asked for, and the largest of them.
  int64_t loops() const { return loops_; }
  int64_t most_tasks() const { return most_tasks_; }

 private:
  static int32_t parallel_for(void* context, int64_t n, bnorm_task task, void* argument);
  int32_t run(int64_t n, bnorm_task task, void* argument);

  Manner manner_;
  bnorm_executor executor_;
  std::atomic<int64_t> loops_{0}, most_tasks_{0};
};

}  // namespace bnorm_tests
