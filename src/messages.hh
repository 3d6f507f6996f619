// SPDX-License-Identifier: Apache-2.0
// How a call says no: a status, and a message on this thread and in the caller's bnorm_error.
#pragma once
#include <bnorm/bnorm.h>

namespace bnorm {

/// Collects the message of one call.
class Report {
 public:
  explicit Report(bnorm_error* error = nullptr) : error_(error) {}
  void set_error(bnorm_error* error) { error_ = error; }

  /// Keeps the message (printf form) and returns `status`.
  bnorm_status say(bnorm_status status, const char* format, ...) __attribute__((format(printf, 3, 4)));

 private:
  bnorm_error* error_;
};

}  // namespace bnorm
