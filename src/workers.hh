// SPDX-License-Identifier: Apache-2.0
// The only file, with workers.cc, that knows threads: oneTBB, the caller's executor, or the calling thread.
#pragma once
#include <bnorm/bnorm.h>

#include <algorithm>
#include <cstdint>

namespace bnorm {

/// Tasks of one loop at most; the record of which have run is a byte each on the stack.
constexpr int64_t kMostTasks = 256;

/// Who runs the loops of one call.
class Workers {
 public:
  /// `work` is what each loop will bring, in bytes moved: a small one stays on the calling thread, off any scheduler.
  Workers(const bnorm_executor* executor, int64_t work);

  /// 1: the caller runs its loops itself.
  int64_t concurrency() const { return concurrency_; }
  /// Pieces to make of a loop. oneTBB gets one for each worker, which finds it in its cache in the next loop; an
  /// executor of the caller, which may hand them out as workers come, 4, so that uneven speed evens out to a quarter.
  int64_t pieces() const { return std::min((executor_ ? 4 : 1) * concurrency_, kMostTasks); }

  /// Runs task(i) once for each i in [0, n), n <= kMostTasks. False if the executor broke its contract.
  template <class Task>
  bool run(int64_t n, const Task& task) const {
    return run_erased(
        n, [](void* argument, int64_t i) { (*static_cast<const Task*>(argument))(i); },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

 private:
  bool run_erased(int64_t n, bnorm_task task, void* argument) const;

  const bnorm_executor* executor_;  // NULL: oneTBB
  int64_t concurrency_;
};

}  // namespace bnorm
