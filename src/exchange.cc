// SPDX-License-Identifier: Apache-2.0
#include "exchange.hh"

#include <algorithm>
#include <cstring>

namespace bnorm {
namespace {

/// Merges n partials buffers; part(i) is the i-th, `merged` may be part(0).
template <class Part>
void merge_parts(const Plan& plan, PartialKind kind, int64_t n, const Part& part, double* merged) {
  const PartialsBuffer<double> to(plan, merged);
  const auto from = [&](int64_t i) { return PartialsBuffer<const double>(plan, part(i)); };
  for (int64_t g = 0; g < plan.desc.groups; ++g) {
    // Along the tree as well: weights are no whole numbers.
    Partial counts;
    merge_range(
        *plan.table, PartialKind::kSums, 1, 0, n,
        [&](int64_t i, Partial& p) { set_counts(p, from(i).count[g], from(i).square_of(g)); }, counts);
    const int64_t channels = plan.desc.channels;
    for (int64_t c = 0; c < channels; c += kMergeChannels) {
      const int64_t some = std::min(kMergeChannels, channels - c), at = g * channels + c;
      const auto bytes = static_cast<size_t>(some) * sizeof(double);
      Partial all;
      merge_range(
          *plan.table, kind, some, 0, n,
          [&](int64_t i, Partial& p) {
            p.count = from(i).count[g];
            std::memcpy(p.first, from(i).first + at, bytes);
            std::memcpy(p.second, from(i).second + at, bytes);
          },
          all);
      std::memcpy(to.first + at, all.first, bytes);
      std::memcpy(to.second + at, all.second, bytes);
    }
    to.count[g] = counts.count;  // last: merged may be the first part
    if (to.square) to.square[g] = counts.first[0];
  }
}

}  // namespace

void export_partials(const Run& run, double* buffer) {
  const PartialsBuffer<double> to(run.plan, buffer);
  const int64_t channels = run.channels();
  for (int64_t g = 0; g < run.desc().groups; ++g) {
    to.count[g] = run.count(g);
    if (to.square) to.square[g] = run.weights ? run.w.group_square[run.weight_group(g)] : 0;
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t from = g * run.group_stride() + c;
      to.first[g * channels + c] = run.blocks() > 0 ? run.w.first[from] : 0;
      to.second[g * channels + c] = run.blocks() > 0 ? run.w.second[from] : 0;
    }
  }
}

void merge_buffers(const Plan& plan, PartialKind kind, int64_t n, const double* const* parts, double* merged) {
  merge_parts(
      plan, kind, n, [&](int64_t i) { return parts[i]; }, merged);
}

bnorm_status exchange_partials(const Plan& plan, Call& call, PartialKind kind, bnorm_status own) {
  const bnorm_exchange& e = *call.exchange;
  const int64_t count = 1 + plan.partials_doubles();
  double* const received = e.buffer + count;
  e.buffer[0] = own;
  if (own != BNORM_OK) std::fill_n(partials_to_send(call), count - 1, 0.0);
  const int32_t result = e.allgather(e.context, e.buffer, received, count);
  if (own != BNORM_OK) return own;
  if (result != 0)
    return call.report.say(BNORM_EXECUTION_FAILED, "exchange.allgather = %d: must return 0; nothing was written",
                           static_cast<int>(result));
  for (int64_t r = 0; r < e.ranks; ++r)
    if (received[r * count] != 0)
      return call.report.say(BNORM_EXECUTION_FAILED,
                             "exchange: rank %lld could not make its call (status %g); nothing was written",
                             static_cast<long long>(r), received[r * count]);
  merge_parts(
      plan, kind, e.ranks, [&](int64_t r) { return received + r * count + 1; }, partials_to_send(call));
  return BNORM_OK;
}

bnorm_status withdraw(const bnorm_plan* handle, Call& call, bnorm_status status) {
  return call.exchange ? exchange_partials(handle->plan, call, PartialKind::kSums, status) : status;
}

}  // namespace bnorm
