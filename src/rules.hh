// SPDX-License-Identifier: Apache-2.0
// The rules that descriptors and calls share: structs of other versions, ranges.
#pragma once
#include <bnorm/bnorm.h>

#include <cinttypes>

#include "kernel_table.hh"
#include "messages.hh"

// Hands on a refusal.
#define BNORM_CHECK(expression)                                                         \
  do {                                                                                  \
    if (const bnorm_status status_ = (expression); status_ != BNORM_OK) return status_; \
  } while (false)

namespace bnorm {

/// A struct of the caller's version is at least today's size.
template <class S>
bnorm_status check_size(const S* in, const char* name, Report& report) {
  if (!in) return report.say(BNORM_INVALID_ARGUMENT, "%s = NULL: must be given", name);
  if (in->struct_size >= sizeof(S)) return BNORM_OK;
  return report.say(BNORM_INVALID_ARGUMENT, "%s.struct_size = %" PRIu32 ": must be at least %zu (use the INIT macro)",
                    name, in->struct_size, sizeof(S));
}

/// Refuses a field that only a later version has.
template <class S>
bnorm_status check_tail(const S* in, const char* name, Report& report) {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(in);
  for (size_t i = sizeof(S); i < in->struct_size; ++i)
    if (bytes[i] != 0)
      return report.say(BNORM_UNSUPPORTED,
                        "%s.struct_size = %" PRIu32 ": byte %zu is set, a field that this version (%zu bytes) lacks",
                        name, in->struct_size, i, sizeof(S));
  return BNORM_OK;
}

template <class S>
bnorm_status check_struct(const S* in, const char* name, Report& report) {
  BNORM_CHECK(check_size(in, name, report));
  return check_tail(in, name, report);
}

inline bnorm_status check_error(bnorm_error* error, Report& report) {
  if (!error) return BNORM_OK;
  if (error->struct_size < sizeof(bnorm_error))
    return report.say(BNORM_INVALID_ARGUMENT, "error.struct_size = %" PRIu32 ": must be at least %zu",
                      error->struct_size, sizeof(bnorm_error));
  report.set_error(error);
  return BNORM_OK;
}

inline bnorm_status check_range(const char* field, int64_t value, int64_t low, int64_t high, Report& report) {
  if (value >= low && value <= high) return BNORM_OK;
  return report.say(BNORM_INVALID_ARGUMENT, "%s = %" PRId64 ": must be in [%" PRId64 ", %" PRId64 "]", field, value,
                    low, high);
}

inline bnorm_status check_factor(double factor, Report& report) {
  if (factor >= 0 && factor <= 1) return BNORM_OK;
  return report.say(BNORM_INVALID_ARGUMENT, "average_factor = %g: must be in [0, 1]", factor);
}

// 144 bytes of workspace an element at worst (one value a channel, weights, renormalization) stay far from 2^63.
constexpr int64_t kMostElements = int64_t{1} << 52;

inline constexpr const char* kTensorNames[kTensors] = {"x", "y", "residual", "dx", "dy", "dresidual"};

}  // namespace bnorm
