// SPDX-License-Identifier: Apache-2.0
#include "messages.hh"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace bnorm {
namespace {
thread_local char last_message[sizeof(bnorm_error::message)] = "";
}

bnorm_status Report::say(bnorm_status status, const char* format, ...) {
  va_list list;
  va_start(list, format);
  std::vsnprintf(last_message, sizeof last_message, format, list);
  va_end(list);
  if (error_) {
    error_->status = status;
    std::memcpy(error_->message, last_message, sizeof last_message);
  }
  return status;
}

}  // namespace bnorm

extern "C" const char* bnorm_last_error(void) noexcept { return bnorm::last_message; }

extern "C" const char* bnorm_status_name(bnorm_status status) noexcept {
  switch (status) {
    case BNORM_OK:
      return "OK";
    case BNORM_INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case BNORM_UNSUPPORTED:
      return "UNSUPPORTED";
    case BNORM_OUT_OF_MEMORY:
      return "OUT_OF_MEMORY";
    case BNORM_EXECUTION_FAILED:
      return "EXECUTION_FAILED";
    case BNORM_NONFINITE:
      return "NONFINITE";
    default:
      return "UNKNOWN";
  }
}
