// SPDX-License-Identifier: Apache-2.0
// What a refusal looks like: status, message, and not a byte written.
#pragma once
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <cstring>
#include <initializer_list>
#include <string>

namespace bnorm_tests {

/// Checks status, and that the message in `error` (NULL: the thread's last one only) is the thread's last one and
/// contains each word.
inline void check_refusal(bnorm_status status, bnorm_status expected, const bnorm_error* error,
                          std::initializer_list<const char*> words) {
  const std::string message = bnorm_last_error();
  INFO("message: ", message);
  CHECK(status == expected);
  for (const char* const word : words) {
    INFO("expected in it: ", std::string(word));
    CHECK(message.find(word) != std::string::npos);
  }
  if (error == nullptr) return;
  CHECK(error->status == expected);
  CHECK(message == error->message);
  CHECK(error->struct_size == sizeof(bnorm_error));
}

}  // namespace bnorm_tests
