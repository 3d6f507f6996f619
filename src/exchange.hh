// SPDX-License-Identifier: Apache-2.0
// Partials buffers: how partial results leave this process, and come back merged.
#pragma once
#include "partials.hh"
#include "run.hh"
#include "running.hh"

namespace bnorm {

/// A partials buffer: count[G], two arrays [G][C], and of reliability weights the sums of their squares, [G].
/// `Double`: const or not.
template <class Double>
struct PartialsBuffer {
  Double* count;
  Double* first;
  Double* second;
  Double* square;  // NULL: none

  PartialsBuffer(const Plan& plan, Double* buffer)
      : count(buffer),
        first(count + plan.desc.groups),
        second(first + plan.all_channels()),
        square(plan.has_squares() ? second + plan.all_channels() : nullptr) {}
  double square_of(int64_t g) const { return square ? square[g] : 0; }
  GroupMoments moments(int64_t channels) const { return {count, square, false, first, second, channels}; }
};

/// Copies block 0 of the partials into the caller's partials buffer.
void export_partials(const Run& run, double* buffer);

/// Merges n partials buffers; `merged` may be the first.
void merge_buffers(const Plan& plan, PartialKind kind, int64_t n, const double* const* parts, double* merged);

/// What this rank sends behind its status; what all sent, once merged.
inline double* partials_to_send(const Call& call) { return call.exchange->buffer + 1; }

/// Sends this rank's status and partials and merges those of all in place of them. Not OK if any rank's status was not.
bnorm_status exchange_partials(const Plan& plan, Call& call, PartialKind kind, bnorm_status own);
/// Tells the other ranks of an exchange, if there is one, that this one's call came to `status`, not OK. Returns it.
/// Without an exchange `handle` may be NULL.
bnorm_status withdraw(const bnorm_plan* handle, Call& call, bnorm_status status);

}  // namespace bnorm
