// SPDX-License-Identifier: Apache-2.0
// A thin C++20 face of bnorm.h: ownership, exceptions, spans. Header-only; every rule is that of the C ABI. A span of
// partials that is too short throws std::invalid_argument.
#ifndef BNORM_BNORM_HPP
#define BNORM_BNORM_HPP

#include <bnorm/bnorm.h>

#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace bnorm {
inline namespace cpp {  // the library's own types are in namespace bnorm, too

/// A call that did not return BNORM_OK; what() is the name of its status and bnorm's message.
class Error : public std::runtime_error {
 public:
  explicit Error(bnorm_status status)
      : std::runtime_error(std::string(bnorm_status_name(status)) + ": " + bnorm_last_error()), status_(status) {}
  bnorm_status status() const noexcept { return status_; }

 private:
  bnorm_status status_;
};

/// Throws unless the status is BNORM_OK: at BNORM_NONFINITE, too, which has written all outputs.
inline void check(bnorm_status status) {
  if (status != BNORM_OK) throw Error(status);
}

/// BNORM_DESC_INIT with sizes, in one of the packed layouts.
inline bnorm_desc make_desc(int64_t batch, int64_t channels, int64_t spatial = 1, bnorm_layout layout = BNORM_PLANAR) {
  bnorm_desc desc = BNORM_DESC_INIT;
  desc.batch = batch;
  desc.channels = channels;
  desc.spatial = spatial;
  check(bnorm_desc_set_layout(&desc, layout));
  return desc;
}

/// Owns a bnorm_plan.
class Plan {
 public:
  explicit Plan(const bnorm_desc& desc) {
    bnorm_plan* plan = nullptr;
    check(bnorm_plan_create(&plan, &desc, nullptr));
    plan_.reset(plan);
  }

  const bnorm_plan* get() const noexcept { return plan_.get(); }
  std::size_t workspace_size() const noexcept { return bnorm_plan_workspace_size(get()); }
  std::size_t mask_size() const noexcept { return bnorm_plan_mask_size(get()); }
  std::size_t partials_count() const noexcept { return bnorm_plan_partials_count(get()); }
  std::size_t exchange_count(int32_t ranks) const noexcept { return bnorm_plan_exchange_count(get(), ranks); }
  std::string describe() const {
    std::string text(bnorm_plan_describe(get(), nullptr, 0), '\0');
    bnorm_plan_describe(get(), text.data(), text.size() + 1);
    return text;
  }

  void infer(const bnorm_infer_args& args) const { check(bnorm_infer(get(), &args)); }
  void train(const bnorm_train_args& args) const { check(bnorm_train(get(), &args)); }
  void backward(const bnorm_backward_args& args) const { check(bnorm_backward(get(), &args)); }

  void moments(const bnorm_train_args& args, std::span<double> to) const {
    expect(to.size());
    check(bnorm_moments(get(), &args, to.data()));
  }
  void merge_moments(std::span<const double* const> parts, std::span<double> to) const {
    expect(to.size());
    check(bnorm_moments_merge(get(), static_cast<int64_t>(parts.size()), parts.data(), to.data(), nullptr));
  }
  void finalize(std::span<const double> moments, const bnorm_train_args& args) const {
    expect(moments.size());
    check(bnorm_moments_finalize(get(), moments.data(), &args));
  }
  void backward_sums(const bnorm_backward_args& args, std::span<double> to) const {
    expect(to.size());
    check(bnorm_backward_sums(get(), &args, to.data()));
  }
  void merge_sums(std::span<const double* const> parts, std::span<double> to) const {
    expect(to.size());
    check(bnorm_sums_merge(get(), static_cast<int64_t>(parts.size()), parts.data(), to.data(), nullptr));
  }
  void backward_apply(const bnorm_backward_args& args, std::span<const double> sums) const {
    expect(sums.size());
    check(bnorm_backward_apply(get(), &args, sums.data()));
  }
  void fold(const bnorm_fold_args& args) const { check(bnorm_fold(get(), &args)); }

 private:
  struct Destroy {
    void operator()(bnorm_plan* plan) const noexcept { bnorm_plan_destroy(plan); }
  };
  void expect(std::size_t size) const {
    if (size < partials_count())
      throw std::invalid_argument("partials: " + std::to_string(size) + " doubles, must be at least " +
                                  std::to_string(partials_count()));
  }
  std::unique_ptr<bnorm_plan, Destroy> plan_;
};

/// Prepared inference: a plan's coefficients, made once, used in every call. The plan must outlive it, but may be
/// moved.
class Prepared {
 public:
  Prepared(const Plan& plan, const bnorm_prepare_args& args)
      : plan_(plan.get()), coefficients_(bnorm_plan_coefficients_size(plan.get()) / sizeof(double)) {
    check(bnorm_prepare(plan.get(), &args, coefficients_.data()));
  }
  Prepared(const Plan&&, const bnorm_prepare_args&) = delete;
  void normalize(bnorm_normalize_args args) const {
    args.coefficients = coefficients_.data();
    check(bnorm_normalize(plan_, &args));
  }

 private:
  const bnorm_plan* plan_;  // stays where it is when its owner is moved
  std::vector<double> coefficients_;
};

}  // namespace cpp
}  // namespace bnorm
#endif  // BNORM_BNORM_HPP
