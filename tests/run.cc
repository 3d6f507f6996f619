// SPDX-License-Identifier: Apache-2.0
// Runs the operations of a problem: lays out buffers, fills argument structs, checks that only outputs were written.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "plan.hh"
#include "problem.hh"

namespace bnorm_tests {
namespace {

/// Buffers of one call. Tensors and arrays that the case leaves out stay empty.
class Call {
 public:
  Call(const Problem& p, const bnorm_executor* executor)
      : p_(p), k_(p.config()), executor_(executor), plan_(make_plan(p.desc())) {
    const size_t bytes = bnorm_plan_workspace_size(plan_.get());
    workspace_.emplace(k_.give_workspace ? bytes : 0, k_.placement, k_.misalignment);
    mask_.emplace(bnorm_plan_mask_size(plan_.get()), k_.placement, k_.misalignment);
  }

  void infer(Outputs& out) {
    make_forward();
    make_running(true);
    bnorm_infer_args a = BNORM_INFER_ARGS_INIT;
    fill_common(a);
    a.residual = data(residual_);
    a.y = y();
    a.shift = data(shift_);
    a.running_mean = data(running_mean_);
    a.running_var = data(running_var_);
    a.mask = mask();
    out.status = finish(bnorm_infer(plan_.get(), &a));
    out.y = forward_output();
  }

  void prepared(Outputs& out) {
    make_forward();
    make_running(true);
    Memory coefficients(bnorm_plan_coefficients_size(plan_.get()), k_.placement);
    bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
    a.running_mean = data(running_mean_);
    a.running_var = data(running_var_);
    prepare(a, coefficients);
    normalize(out, coefficients);
  }

  void train(Outputs& out) {
    make_forward();
    make_training_outputs();
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    fill_common(a);
    a.residual = data(residual_);
    a.y = y();
    a.shift = data(shift_);
    fill_statistics(a);
    fill_weights(a);
    a.mask = mask();
    out.status = finish(bnorm_train(plan_.get(), &a), k_.guard);
    out.y = forward_output();
    read_statistics(out);
  }

  void parts(Outputs& out) {
    make_forward();
    make_training_outputs();
    Array moments(BNORM_F64, bnorm_plan_partials_count(plan_.get()), k_.placement, 0);
    double* const buffer = static_cast<double*>(moments.data());
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    fill_call(a);
    fill_weights(a);
    a.x = data(x_);
    finish(bnorm_moments(plan_.get(), &a, buffer));
    const double* const all[] = {buffer};
    finish(bnorm_moments_merge(plan_.get(), 1, all, buffer, &error_));

    // Coefficients need the saved pair even where the case does not ask for it.
    make_array(mean_, k_.stats, static_cast<size_t>(p_.shape().g * p_.shape().c));
    make_array(inv_std_, k_.stats, static_cast<size_t>(p_.shape().g * p_.shape().c));
    bnorm_train_args f = BNORM_TRAIN_ARGS_INIT;
    f.error = &error_;
    fill_statistics(f);
    out.status = finish(bnorm_moments_finalize(plan_.get(), buffer, &f), k_.guard);
    Memory coefficients(bnorm_plan_coefficients_size(plan_.get()), Placement::kHeap);
    bnorm_prepare_args b = BNORM_PREPARE_ARGS_INIT;
    b.mean = data(mean_);
    b.inv_std = data(inv_std_);
    give_renorm(b);
    prepare(b, coefficients);
    const bnorm_status status = out.status;
    normalize(out, coefficients);
    out.status = status;
    if (!p_.has(kNoSaved)) mean_.reset(), inv_std_.reset();
    read_statistics(out);
  }

  void backward(Outputs& out, bool in_parts) {
    bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
    make_backward_inputs(a);
    Array sums(BNORM_F64, bnorm_plan_partials_count(plan_.get()), k_.placement, 0);
    double* const buffer = static_cast<double*>(sums.data());
    if (in_parts) {
      finish(bnorm_backward_sums(plan_.get(), &a, buffer));
      const double* const all[] = {buffer};
      finish(bnorm_sums_merge(plan_.get(), 1, all, buffer, &error_));
    }
    make_backward_outputs(a);
    out.status = finish(in_parts ? bnorm_backward_apply(plan_.get(), &a, buffer) : bnorm_backward(plan_.get(), &a));
    CHECK(sums.surroundings_intact());
    if (p_.has(kNoDx)) out.dx = (dx_ ? dx_ : (dx_is_x() ? x_ : dy_))->values();
    if (a.dresidual) out.dresidual = (dresidual_ ? dresidual_ : dy_)->values();
    if (dscale_) out.dscale = dscale_->values();
    if (dshift_) out.dshift = dshift_->values();
  }

  /// Whatever was not an output is as it was.
  void check_untouched() {
    const Inputs& in = p_.inputs();
    const bool forward = static_cast<bool>(forward_);
    const auto check = [](const std::optional<Tensor>& t, bool output) {
      if (t) CHECK((output ? t->gaps_intact() : t->is_unchanged()));
    };
    check(x_, forward ? forward_in_place() && !y_is_residual() : k_.in_place && dx_is_x() && p_.has(kNoDx));
    check(residual_, forward && forward_in_place() && y_is_residual());
    check(dy_, dresidual_is_dy(k_) ? p_.has(kNoDresidual) : k_.in_place && !dx_is_x() && p_.has(kNoDx));
    check(y_, forward);
    check(dx_, true);
    check(dresidual_, true);
    for (const auto* a : {&scale_, &shift_, &running_mean_, &running_var_, &mean_, &inv_std_, &renorm_r_, &renorm_d_,
                          &dscale_, &dshift_})
      if (*a) CHECK((*a)->surroundings_intact());
    const auto check_values = [&](const std::optional<Array>& a, const std::vector<double>& values) {
      if (a) CHECK(equal(a->values(), values));
    };
    check_values(scale_, in.scale);
    check_values(shift_, in.shift);
    check_values(weights_, weight_values_);
    if (!trains_) {
      check_values(running_mean_, in.running_mean);
      check_values(running_var_, in.running_var);
      check_values(mean_, in.mean);
      check_values(inv_std_, in.inv_std);
      check_values(renorm_r_, in.renorm_r);
      check_values(renorm_d_, in.renorm_d);
    }
    if (!kept_mask_.empty()) CHECK(std::equal(kept_mask_.begin(), kept_mask_.end(), mask_->data()));
    CHECK(workspace_->surroundings_intact());
    CHECK(mask_->surroundings_intact());
  }

 private:
  static bool equal(const std::vector<double>& a, const std::vector<double>& b) {
    // Tensors give back every NaN as the same one.
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
  }
  template <class T>
  static void* data(std::optional<T>& t) {
    return t ? t->data() : nullptr;
  }
  bool dx_is_x() const { return bnorm_tests::dx_is_x(k_); }
  bool y_is_residual() const { return bnorm_tests::y_is_residual(k_); }
  bool forward_in_place() const { return k_.in_place && has_partner_of_y(k_); }
  bnorm_type output() const { return output_type(k_); }
  void* y() { return y_ ? y_->data() : (y_is_residual() ? residual_ : x_)->data(); }
  std::vector<double> forward_output() { return (y_ ? y_ : (y_is_residual() ? residual_ : x_))->values(); }

  bnorm_status finish(bnorm_status status, bool guard = false) {
    INFO(describe(k_));
    INFO(std::string(bnorm_last_error()));
    if (status != BNORM_NONFINITE || !guard) REQUIRE(status == BNORM_OK);
    return status;
  }

  void make_tensor(std::optional<Tensor>& t, bnorm_type type, const bnorm_strides& strides) {
    t.emplace(type, p_.shape(), resolve(strides, k_.shape), k_.placement, k_.misalignment);
  }
  void make_input(std::optional<Tensor>& t, bnorm_type type, const bnorm_strides& strides,
                  const std::vector<double>& values) {
    make_tensor(t, type, strides);
    t->fill(values);
  }
  void make_array(std::optional<Array>& a, bnorm_type type, size_t count) {
    if (!a) a.emplace(type, count, k_.placement, k_.misalignment);
  }
  void make_array(std::optional<Array>& a, bnorm_type type, const std::vector<double>& values) {
    make_array(a, type, values.size());
    a->fill(values);
  }

  void make_parameters() {
    if (p_.has(kNoScale)) make_array(scale_, k_.param, p_.inputs().scale);
    if (p_.has(kNoShift)) make_array(shift_, k_.param, p_.inputs().shift);
  }
  void make_running(bool required) {
    if (required || p_.has(kNoRunningMean)) make_array(running_mean_, k_.param, p_.inputs().running_mean);
    if (required || p_.has(kNoRunningVar)) make_array(running_var_, k_.param, p_.inputs().running_var);
  }
  void make_forward() {
    forward_ = true;
    make_input(x_, k_.data, p_.desc().x, p_.inputs().x);
    if (k_.residual) make_input(residual_, output(), p_.desc().residual, p_.inputs().residual);
    if (!forward_in_place()) make_tensor(y_, output(), p_.desc().y);
    make_parameters();
  }
  void make_training_outputs() {
    trains_ = true;
    make_running(k_.renorm);
    const size_t count = static_cast<size_t>(p_.shape().g * p_.shape().c);
    if (k_.renorm) {
      make_array(renorm_r_, k_.stats, count);
      make_array(renorm_d_, k_.stats, count);
    }
    if (!p_.has(kNoSaved)) return;
    make_array(mean_, k_.stats, count);
    make_array(inv_std_, k_.stats, count);
  }

  void make_backward_inputs(bnorm_backward_args& a) {
    if (!k_.from_output) make_input(x_, k_.data, p_.desc().x, p_.inputs().x);
    make_input(dy_, output(), p_.desc().dy, p_.inputs().dy);
    if (k_.from_output) {
      make_input(y_, output(), p_.desc().y, p_.inputs().y);
    } else if (from_mask(k_)) {
      make_mask();
      a.mask = mask();
    } else if (k_.residual && k_.activation != BNORM_IDENTITY) {
      // Whichever of the two the header asks for.
      if (activation(p_.desc()).y_tells && !k_.from_residual)
        make_input(y_, output(), p_.desc().y, p_.inputs().y);
      else
        make_input(residual_, output(), p_.desc().residual, p_.inputs().residual);
    }
    make_parameters();
    if (k_.frozen) {
      make_running(true);
    } else {
      make_array(mean_, k_.stats, p_.inputs().mean);
      make_array(inv_std_, k_.stats, p_.inputs().inv_std);
    }
    make_renorm(a);
    fill_common(a);
    fill_weights(a);
    a.y = data(y_);
    a.residual = data(residual_);
    a.dy = data(dy_);
    a.shift = data(shift_);
    a.mean = data(mean_);
    a.inv_std = data(inv_std_);
    a.running_mean = data(running_mean_);
    a.running_var = data(running_var_);
  }
  /// The mask of the forward call that saved the statistics.
  void make_mask() {
    Memory coefficients(bnorm_plan_coefficients_size(plan_.get()), Placement::kHeap);
    make_parameters();
    make_running(true);
    make_array(mean_, k_.stats, p_.inputs().mean);
    make_array(inv_std_, k_.stats, p_.inputs().inv_std);
    bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
    (k_.frozen ? a.running_mean : a.mean) = data(k_.frozen ? running_mean_ : mean_);
    (k_.frozen ? a.running_var : a.inv_std) = data(k_.frozen ? running_var_ : inv_std_);
    make_renorm(a);
    if (k_.residual) make_input(residual_, output(), p_.desc().residual, p_.inputs().residual);
    prepare(a, coefficients);
    Outputs forward;
    make_tensor(y_, output(), p_.desc().y);
    normalize(forward, coefficients);
    kept_mask_.assign(mask_->data(), mask_->data() + mask_->size());
    for (auto* t : {&y_, &residual_}) t->reset();
    for (auto* t : {&mean_, &inv_std_, &running_mean_, &running_var_, &renorm_r_, &renorm_d_}) t->reset();
  }
  void make_backward_outputs(bnorm_backward_args& a) {
    const size_t params = p_.inputs().scale.size();
    if (p_.has(kNoDx)) {
      if (!k_.in_place) make_tensor(dx_, k_.data, p_.desc().dx);
      a.dx = dx_ ? dx_->data() : (dx_is_x() ? x_ : dy_)->data();
    }
    if (k_.residual && p_.has(kNoDresidual)) {
      if (!dresidual_is_dy(k_)) make_tensor(dresidual_, output(), p_.desc().dresidual);
      a.dresidual = (dresidual_ ? dresidual_ : dy_)->data();
    }
    if (p_.has(kNoDscale)) make_array(dscale_, k_.param, params);
    if (p_.has(kNoDshift)) make_array(dshift_, k_.param, params);
    a.dscale = data(dscale_);
    a.dshift = data(dshift_);
  }

  template <class Args>
  void fill_call(Args& a) {
    if (k_.batch >= 0) a.batch = k_.batch;
    a.executor = executor_;
    a.error = &error_;
    if (!k_.give_workspace) return;
    a.workspace = workspace_->data();
    a.workspace_bytes = workspace_->size();
  }
  template <class Args>
  void fill_common(Args& a) {
    fill_call(a);
    a.x = data(x_);
    a.scale = data(scale_);
  }
  /// What lies between the weights of two groups is not to be read.
  template <class Args>
  void fill_weights(Args& a) {
    const Inputs& in = p_.inputs();
    if (in.weights.empty()) return;
    const size_t groups = static_cast<size_t>(k_.shape.g),
                 of_sample = in.lengths.empty() ? static_cast<size_t>(k_.shape.s) : 1;
    const size_t given = static_cast<size_t>(p_.shape().n) * of_sample,
                 planned = static_cast<size_t>(k_.shape.n) * of_sample;
    const size_t count = (groups - 1) * planned + given;
    if (in.lengths.empty()) {
      std::vector<double> values(count, std::nan(""));
      for (size_t i = 0; i < in.weights.size(); ++i) values[i / given * planned + i % given] = in.weights[i];
      make_array(weights_, k_.data == BNORM_F64 ? BNORM_F64 : BNORM_F32, values);
      weight_values_ = values;
    } else {
      lengths_.assign(count, -1);
      for (size_t i = 0; i < in.lengths.size(); ++i) lengths_[i / given * planned + i % given] = in.lengths[i];
      a.lengths = lengths_.data();
    }
    a.weights = data(weights_);
  }
  void fill_statistics(bnorm_train_args& a) {
    a.mean = data(mean_);
    a.inv_std = data(inv_std_);
    a.running_mean = data(running_mean_);
    a.running_var = data(running_var_);
    give_renorm(a);
    if (k_.renorm) a.renorm_r_max = 1.25, a.renorm_d_max = 0.5;
  }
  template <class Args>
  void give_renorm(Args& a) {
    a.renorm_r = data(renorm_r_);
    a.renorm_d = data(renorm_d_);
  }
  /// As the forward call saved them.
  template <class Args>
  void make_renorm(Args& a) {
    if (k_.renorm) {
      make_array(renorm_r_, k_.stats, p_.inputs().renorm_r);
      make_array(renorm_d_, k_.stats, p_.inputs().renorm_d);
    }
    give_renorm(a);
  }
  void read_statistics(Outputs& out) {
    if (mean_) out.mean = mean_->values(), out.inv_std = inv_std_->values();
    if (running_mean_) out.running_mean = running_mean_->values();
    if (running_var_) out.running_var = running_var_->values();
    if (renorm_r_) out.renorm_r = renorm_r_->values(), out.renorm_d = renorm_d_->values();
  }
  void prepare(bnorm_prepare_args& a, Memory& coefficients) {
    a.scale = data(scale_);
    a.shift = data(shift_);
    a.error = &error_;
    finish(bnorm_prepare(plan_.get(), &a, coefficients.data()));
  }
  void normalize(Outputs& out, Memory& coefficients) {
    bnorm_normalize_args a = BNORM_NORMALIZE_ARGS_INIT;
    if (k_.batch >= 0) a.batch = k_.batch;
    a.x = data(x_);
    a.residual = data(residual_);
    a.y = y();
    a.coefficients = coefficients.data();
    a.executor = executor_;
    a.error = &error_;
    a.mask = mask();
    const std::vector<unsigned char> before(coefficients.data(), coefficients.data() + coefficients.size());
    out.status = finish(bnorm_normalize(plan_.get(), &a));
    CHECK(coefficients.surroundings_intact());
    CHECK(std::equal(before.begin(), before.end(), coefficients.data()));
    out.y = forward_output();
  }

  void* mask() { return from_mask(k_) ? mask_->data() : nullptr; }

  const Problem& p_;
  const Case& k_;
  const bnorm_executor* executor_;
  PlanPointer plan_;
  bool forward_ = false, trains_ = false;
  bnorm_error error_ = BNORM_ERROR_INIT;
  std::optional<Memory> workspace_, mask_;
  std::optional<Tensor> x_, y_, residual_, dx_, dy_, dresidual_;
  std::optional<Array> scale_, shift_, running_mean_, running_var_, mean_, inv_std_, renorm_r_, renorm_d_, dscale_,
      dshift_, weights_;
  std::vector<int64_t> lengths_;
  std::vector<double> weight_values_;
  std::vector<unsigned char> kept_mask_;  // of backward
};

}  // namespace

Outputs Problem::run(Operation operation, const bnorm_executor* executor) const {
  Outputs out;
  Call call(*this, executor);
  switch (operation) {
    case Operation::kInfer:
      call.infer(out);
      break;
    case Operation::kPrepared:
      call.prepared(out);
      break;
    case Operation::kTrain:
      call.train(out);
      break;
    case Operation::kParts:
      call.parts(out);
      break;
    case Operation::kBackward:
      call.backward(out, false);
      break;
    case Operation::kBackwardParts:
      call.backward(out, true);
      break;
  }
  call.check_untouched();
  return out;
}

}  // namespace bnorm_tests
