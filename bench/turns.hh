// The sets of tensors that calls rotate over.
#pragma once

#include <cstddef>

namespace bnorm_bench {

/// 0 ... count - 1 in turn, without end: the set of tensors of the next call.
class Turns {
 public:
  explicit Turns(size_t count) : count_(count) {}

  size_t next() {
    const size_t now = next_;
    next_ = now + 1 == count_ ? 0 : now + 1;
    return now;
  }

 private:
  size_t count_;
  size_t next_ = 0;
};

}  // namespace bnorm_bench
