#include "uses.hh"

#include "cases.hh"
#include "support/activation.hh"

namespace bnorm_bench {
namespace {

/// Whether backward needs more than x to find the derivative: behind a residual y, where that tells it and is not to be
/// left out, else the residual.
bool reads_forward(const Row& row) {
  return reads_dy(row) && row.residual && row.activation != BNORM_IDENTITY && !row.from_mask;
}
bool derives_from_y(const Row& row) {
  return reads_forward(row) && !row.from_residual && bnorm_support::activation(desc_of(row)).y_tells;
}
bool derives_from_z(const Row& row) {
  return row.activation != BNORM_IDENTITY && !derives_from_y(row) && !row.from_mask;
}
/// dx of frozen statistics is dy times a factor, unless the derivative is of z.
bool needs_input(const Row& row) {
  return !(row.frozen && !wants_params(row)) || derives_from_z(row);  // sums are never of frozen statistics here
}

}  // namespace

bool is_backward(const Row& row) { return row.operation == Operation::backward; }
bool uses_batch_statistics(const Row& row) {
  const Operation o = row.operation;
  return (o == Operation::train || o == Operation::moments || reads_dy(row)) && !row.frozen;
}
bool has_statistics_pass(const Row& row) {
  return uses_batch_statistics(row) && (row.operation == Operation::train || wants_dx(row));
}

bool reads_x(const Row& row) { return needs_input(row) && !row.from_output; }
bool reads_output(const Row& row) { return needs_input(row) && row.from_output; }
bool reads_dy(const Row& row) { return is_backward(row) || row.operation == Operation::sums; }
bool reads_residual(const Row& row) {
  return row.residual && (writes_y(row) || (reads_forward(row) && !derives_from_y(row)));
}
bool needs_affine(const Row& row) { return derives_from_z(row); }
bool writes_y(const Row& row) { return !reads_dy(row) && row.operation != Operation::moments; }
bool needs_y(const Row& row) { return writes_y(row) || reads_output(row) || derives_from_y(row); }
bool wants_dx(const Row& row) { return is_backward(row) && row.gradients != Gradients::params; }
bool wants_params(const Row& row) { return is_backward(row) && row.gradients != Gradients::dx; }

int64_t statistics_of(const Row& row) { return row.groups * row.shape.channels; }
size_t memory_bytes(const Row& row, Dtype dtype) { return tensor_bytes(row, dtype) * (row.slice ? 2 : 1); }

}  // namespace bnorm_bench
