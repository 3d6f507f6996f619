// What a row's call reads, writes and needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "row.hh"

namespace bnorm_bench {

bool is_backward(const Row& row);
/// Statistics of its batch, not running ones.
bool uses_batch_statistics(const Row& row);
/// Statistics or gradient sums come before the first output.
bool has_statistics_pass(const Row& row);

bool reads_x(const Row& row);
/// In place of x.
bool reads_output(const Row& row);
bool reads_dy(const Row& row);
bool reads_residual(const Row& row);
/// Backward makes z, behind an activation.
bool needs_affine(const Row& row);
bool writes_y(const Row& row);
/// Written or read.
bool needs_y(const Row& row);
bool wants_dx(const Row& row);
bool wants_params(const Row& row);

/// Statistics run over groups as well; parameters are shared.
int64_t statistics_of(const Row& row);
/// Bytes of a tensor with the gaps of a slice.
size_t memory_bytes(const Row& row, Dtype dtype);

}  // namespace bnorm_bench
