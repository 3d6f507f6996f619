// SPDX-License-Identifier: Apache-2.0
// Published faults: arguments that were neither refused nor survived.
#include <cstring>

#include "faults.hh"
#include "refusal.hh"

namespace bnorm_tests::test_faults_arguments {
namespace {

constexpr auto kRefused = BNORM_INVALID_ARGUMENT;

/// Valid arguments of every call with 4 x 2 values; outputs hold kUntouched until they are written.
struct Calls {
  static constexpr int64_t kBatch = 4, kChannels = 2;
  std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8}, dy = x, scale = {1, 2}, shift = {3, 4};
  std::vector<float> y = std::vector<float>(8, kUntouched), dx = y, running_mean = {kUntouched, kUntouched},
                     running_var = running_mean, dscale = running_mean, dshift = running_mean;
  std::vector<double> mean = all(2, kUntouched), inv_std = mean, partials = all(5, kUntouched), coefficients;
  std::vector<unsigned char> workspace;
  PlanPointer plan;
  bnorm_infer_args infer_args = BNORM_INFER_ARGS_INIT;
  bnorm_train_args train_args = BNORM_TRAIN_ARGS_INIT, moments_args = train_args;
  bnorm_backward_args backward_args = BNORM_BACKWARD_ARGS_INIT, sums_args = backward_args;

  explicit Calls(bool frozen = false) {
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = kBatch;
    d.channels = kChannels;
    d.frozen = frozen;
    plan = make_plan(d);
    workspace.resize(bnorm_plan_workspace_size(plan.get()));
    coefficients.resize(bnorm_plan_coefficients_size(plan.get()) / sizeof(double), kUntouched);
    infer_args.x = train_args.x = moments_args.x = backward_args.x = sums_args.x = x.data();
    infer_args.y = train_args.y = y.data();
    infer_args.running_mean = train_args.running_mean = running_mean.data();
    infer_args.running_var = train_args.running_var = running_var.data();
    train_args.mean = mean.data();
    train_args.inv_std = inv_std.data();
    backward_args.dy = sums_args.dy = dy.data();
    for (bnorm_backward_args* a : {&backward_args, &sums_args}) {
      (frozen ? a->running_mean : a->mean) = frozen ? static_cast<const void*>(running_mean.data()) : mean.data();
      (frozen ? a->running_var : a->inv_std) = frozen ? static_cast<const void*>(running_var.data()) : inv_std.data();
    }
    backward_args.dx = dx.data();
    backward_args.dscale = dscale.data();
    backward_args.dshift = dshift.data();
  }
  bnorm_status infer() { return bnorm_infer(plan.get(), &infer_args); }
  bnorm_status train() { return bnorm_train(plan.get(), &train_args); }
  bnorm_status moments() { return bnorm_moments(plan.get(), &moments_args, partials.data()); }
  bnorm_status backward() { return bnorm_backward(plan.get(), &backward_args); }
  bnorm_status sums() { return bnorm_backward_sums(plan.get(), &sums_args, partials.data()); }
  bnorm_status apply() {
    const std::vector<double> read = {1, 0, 0, 0, 0};
    return bnorm_backward_apply(plan.get(), &backward_args, read.data());
  }
  bool outputs_untouched() const {
    const auto holds = [](const auto& values) {
      for (const auto v : values)
        if (v != kUntouched) return false;
      return true;
    };
    return holds(y) && holds(dx) && holds(running_mean) && holds(running_var) && holds(dscale) && holds(dshift) &&
           holds(mean) && holds(inv_std) && holds(partials) && holds(coefficients);
  }
  /// Checks that a call was refused for this field, with nothing written.
  void check_refused(bnorm_status status, const char* field, const char* value = "NULL") const {
    check_refusal(status, kRefused, nullptr, {field, value});
    CHECK(outputs_untouched());
  }
};

}  // namespace

// pytorch/pytorch#105458, microsoft/onnxruntime#23387: the channel axis of a flat tensor is past its end, and the size
// behind it wraps round.
TEST_CASE("fault: a tensor of rank 1 sends the channel axis out of bounds") {
  const int64_t shape[] = {2};
  bnorm_desc d = BNORM_DESC_INIT, before = BNORM_DESC_INIT;
  for (const int32_t axis : {1, 2, -2, INT32_MAX, INT32_MIN}) {
    check_refusal(bnorm_desc_set_axis(&d, shape, 1, axis), kRefused, nullptr, {"axis", std::to_string(axis).c_str()});
    CHECK(std::memcmp(&d, &before, sizeof d) == 0);
  }
  check_refusal(bnorm_desc_set_axis(&d, shape, 0, 0), kRefused, nullptr, {"rank", "0"});
  check_refusal(bnorm_desc_set_axis(&d, nullptr, 1, 0), kRefused, nullptr, {"shape", "NULL"});
  for (const int32_t axis : {0, -1}) {
    REQUIRE(bnorm_desc_set_axis(&d, shape, 1, axis) == BNORM_OK);
    CHECK(d.channels == 2);
    CHECK(d.groups * d.batch * d.spatial == 1);
  }
}

// pytorch/pytorch#194014, pytorch/pytorch#141203: inference dereferences the missing running statistics.
TEST_CASE("fault: inference without running statistics reads through NULL") {
  Calls c;
  c.infer_args.running_mean = c.infer_args.running_var = nullptr;
  c.check_refused(c.infer(), "running_mean");
  c.check_refused(bnorm_infer_f32(4, 2, 1, c.x.data(), c.y.data(), nullptr, nullptr, nullptr, nullptr, 1e-5),
                  "running_mean");
  bnorm_prepare_args prepare = BNORM_PREPARE_ARGS_INIT;
  c.check_refused(bnorm_prepare(c.plan.get(), &prepare, c.coefficients.data()), "running_mean", "exactly one pair");
  Calls frozen(true);
  frozen.backward_args.running_mean = frozen.backward_args.running_var = nullptr;
  frozen.check_refused(frozen.backward(), "running_mean");
}

// pytorch/pytorch#153137: one path asserts, another goes on quietly.
TEST_CASE("fault: one running statistic without the other is read through NULL in inference") {
  for (const bool mean_missing : {true, false}) {
    const char* const missing = mean_missing ? "running_mean" : "running_var";
    Calls c, frozen(true);
    bnorm_prepare_args prepare = BNORM_PREPARE_ARGS_INIT;
    (mean_missing ? c.infer_args.running_mean : c.infer_args.running_var) = nullptr;
    (mean_missing ? prepare.running_var : prepare.running_mean) = c.running_mean.data();
    (mean_missing ? frozen.backward_args.running_mean : frozen.backward_args.running_var) = nullptr;
    c.check_refused(c.infer(), missing);
    c.check_refused(bnorm_prepare(c.plan.get(), &prepare, c.coefficients.data()), missing);
    frozen.check_refused(frozen.backward(), missing);
  }
}

// pytorch/pytorch#153137: training may be given either; the one given gets what it would get beside the other.
TEST_CASE("fault: one running statistic without the other is lost or crashes in training") {
  each_way([](Layout layout) {
    Case c = case_of({1, 3, 4, 5}, layout);
    const Outputs both = check_bounds(Problem(c), Operation::kTrain);
    for (const unsigned missing : {kNoRunningMean, kNoRunningVar})
      for (const Operation operation : {Operation::kTrain, Operation::kParts}) {
        c.nulls = missing;
        Outputs one = run(Problem(c), operation);
        CHECK((missing == kNoRunningMean ? one.running_mean : one.running_var).empty());
        (missing == kNoRunningMean ? one.running_mean : one.running_var) =
            missing == kNoRunningMean ? both.running_mean : both.running_var;
        CHECK(difference(one, both) == "");
      }
  });
}

// pytorch/pytorch#189831, pytorch/pytorch#188958: backward launches although saved statistics are empty.
TEST_CASE("fault: backward reads saved statistics that are not there") {
  for (const auto& [mean_given, inv_std_given] : {std::pair{false, true}, {true, false}, {false, false}}) {
    const char* const missing = mean_given ? "inv_std" : "mean";
    Calls c;
    const double* const mean = mean_given ? c.mean.data() : nullptr;
    const double* const inv_std = inv_std_given ? c.inv_std.data() : nullptr;
    for (bnorm_backward_args* a : {&c.backward_args, &c.sums_args}) a->mean = mean, a->inv_std = inv_std;
    c.check_refused(c.backward(), missing);
    c.check_refused(c.sums(), missing);
    c.check_refused(c.apply(), missing);
    c.check_refused(bnorm_backward_f32(4, 2, 1, c.x.data(), c.dy.data(), nullptr, mean, inv_std, c.dx.data(),
                                       c.dscale.data(), c.dshift.data()),
                    missing);
  }
}

// tensorflow/tensorflow#52339, pytorch/pytorch#188958: single arguments of forward and backward went unchecked; a
// gradient without elements was paired with an input that has some.
TEST_CASE("fault: a tensor without elements is paired with one that has some") {
  const auto missing = [](auto spoil, bnorm_status (Calls::*call)(), const char* field) {
    Calls c;
    spoil(c);
    c.check_refused((c.*call)(), field);
  };
  missing([](Calls& c) { c.infer_args.x = nullptr; }, &Calls::infer, "x");
  missing([](Calls& c) { c.infer_args.y = nullptr; }, &Calls::infer, "y");
  missing([](Calls& c) { c.train_args.x = nullptr; }, &Calls::train, "x");
  missing([](Calls& c) { c.train_args.y = nullptr; }, &Calls::train, "y");
  missing([](Calls& c) { c.moments_args.x = nullptr; }, &Calls::moments, "x");
  missing([](Calls& c) { c.backward_args.x = nullptr; }, &Calls::backward, "x");
  missing([](Calls& c) { c.backward_args.dy = nullptr; }, &Calls::backward, "dy");
  missing([](Calls& c) { c.backward_args.dy = nullptr; }, &Calls::apply, "dy");
  missing([](Calls& c) { c.sums_args.dy = nullptr; }, &Calls::sums, "dy");
}

// ROCm/rocm-libraries#10970: the scratch memory of small tensors was estimated too small, and overrun.
TEST_CASE("fault: a workspace too small is overrun") {
  const auto shortened = [](auto args, bnorm_status (Calls::*call)()) {
    Calls c;
    (c.*args).workspace = c.workspace.data();
    (c.*args).workspace_bytes = c.workspace.size() - 1;
    c.check_refused((c.*call)(), "workspace_bytes", std::to_string(c.workspace.size()).c_str());
  };
  shortened(&Calls::infer_args, &Calls::infer);
  shortened(&Calls::train_args, &Calls::train);
  shortened(&Calls::moments_args, &Calls::moments);
  shortened(&Calls::backward_args, &Calls::backward);
  shortened(&Calls::backward_args, &Calls::apply);
  shortened(&Calls::sums_args, &Calls::sums);
}

// pytorch/pytorch#189828: a count of -2^63 was merged.
TEST_CASE("fault: a merge believes any count") {
  Calls c;
  const std::vector<double> good = {4, 1, 2, 3, 4};
  for (const double count : {-0x1p63, -1.0, kNaN, kInf, -kInf}) {
    std::vector<double> bad = good;
    bad[0] = count;
    const double* const parts[] = {good.data(), bad.data()};
    for (const auto merge : {bnorm_moments_merge, bnorm_sums_merge})
      c.check_refused(merge(c.plan.get(), 2, parts, c.partials.data(), nullptr), "parts[1]", "count");
    bnorm_train_args finalize = c.train_args;
    finalize.x = finalize.y = nullptr;
    c.check_refused(bnorm_moments_finalize(c.plan.get(), bad.data(), &finalize), "moments[0]", "count");
    c.check_refused(bnorm_backward_apply(c.plan.get(), &c.backward_args, bad.data()), "sums[0]", "count");
  }
}

// microsoft/onnxruntime#29790: the new running statistics were written over scale and shift before these were read.
TEST_CASE("fault: running statistics that share memory with the parameters change the output") {
  Calls a, b, s;
  a.train_args.scale = a.running_var.data();
  a.check_refused(a.train(), "scale", "running_var");
  b.train_args.shift = b.running_mean.data();
  b.check_refused(b.train(), "shift", "running_mean");
  s.train_args.mean = s.train_args.inv_std = s.mean.data();
  s.check_refused(s.train(), "mean", "inv_std");
}

// pytorch/pytorch#51776, apache/mxnet#19065: sizes out of range end in an unrelated error or a corrupt heap.
TEST_CASE("fault: a tensor too large is refused with an unrelated error, or not at all") {
  const int64_t sizes[][3] = {{1, int64_t{1} << 53, 1},
                              {int64_t{1} << 32, 1, int64_t{1} << 32},
                              {0, INT64_MAX, 1},
                              {INT64_MAX, INT64_MAX, INT64_MAX}};
  for (const auto& [n, c, s] : sizes) {
    bnorm_desc d = BNORM_DESC_INIT;
    d.batch = n;
    d.channels = c;
    d.spatial = s;
    bnorm_plan* plan = nullptr;
    check_refusal(bnorm_plan_create(&plan, &d, nullptr), kRefused, nullptr, {"must be"});
    CHECK(plan == nullptr);
    float out[2] = {kUntouched, kUntouched};
    check_refusal(bnorm_infer_f32(n, c, s, out, out, nullptr, nullptr, out + 1, out + 1, 0), kRefused, nullptr,
                  {"must be"});
    CHECK(out[0] == kUntouched);
  }
}

// keras-team/keras#23623: momentum outside [0, 1] lets the moving statistics diverge.
TEST_CASE("fault: momentum outside [0, 1] is taken") {
  for (const double factor : {-0.1, 1.5, -1e-300, 1 + 0x1p-52, kNaN, kInf, -kInf}) {
    bnorm_desc d = BNORM_DESC_INIT;
    d.average_factor = factor;
    bnorm_plan* plan = nullptr;
    check_refusal(bnorm_plan_create(&plan, &d, nullptr), kRefused, nullptr, {"average_factor"});
    Calls c;
    c.train_args.average_factor = factor;
    c.check_refused(c.train(), "average_factor", "[0, 1]");
    c.check_refused(bnorm_train_f32(4, 2, 1, c.x.data(), c.y.data(), nullptr, nullptr, nullptr, nullptr,
                                    c.running_mean.data(), c.running_var.data(), 1e-5, factor),
                    "average_factor", "[0, 1]");
  }
}

}  // namespace bnorm_tests::test_faults_arguments
