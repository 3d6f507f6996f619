// SPDX-License-Identifier: Apache-2.0
// Every rule of the calls: refused with a message, and no byte of any buffer changed.
#include <functional>
#include <limits>
#include <vector>

#include "plan.hh"
#include "refusal.hh"

namespace bnorm_tests::test_arguments_calls {
namespace {

constexpr int kElements = 24;  // G 2, N 2, C 3, S 2

/// Everything a call could write.
struct Buffers {
  float x[kElements + 2], y[kElements], residual[kElements], dx[kElements], dy[kElements], dresidual[kElements];
  float scale[3], shift[3], running_mean[3], running_var[3], dscale[3], dshift[3];
  double mean[6], inv_std[6], moments[14], sums[14];
  alignas(8) unsigned char coefficients[2048];
  unsigned char workspace[16384];
};

/// A valid set of arguments for every call. Each breach spoils one of them.
struct Calls {
  explicit Calls(bool frozen = false, bool residual = true) {
    bnorm_desc d = BNORM_DESC_INIT;
    d.groups = 2;
    d.batch = 2;
    d.channels = 3;
    d.spatial = 2;
    d.activation = BNORM_RELU;
    d.residual_added = residual;
    d.running_mode = BNORM_RUNNING_SEQUENTIAL;
    d.frozen = frozen;
    plan = make_plan(d);
    d.running_mode = BNORM_RUNNING_UNSET;
    plan_without_mode = make_plan(d);
    REQUIRE(bnorm_plan_coefficients_size(plan.get()) <= sizeof b.coefficients);
    REQUIRE(bnorm_plan_workspace_size(plan.get()) <= sizeof b.workspace);
    auto* const bytes = reinterpret_cast<unsigned char*>(&b);
    for (size_t i = 0; i < sizeof b; ++i) bytes[i] = static_cast<unsigned char>(i % 61);
    fill_forward(infer), fill_forward(train);
    infer.running_mean = b.running_mean;
    infer.running_var = b.running_var;
    fill_saved(train);
    moments.x = b.x;
    moments.error = &error;
    fill_saved(finalize);
    finalize.error = &error;
    fill_backward(residual, frozen);
    prepare.scale = b.scale;
    prepare.mean = b.mean;
    prepare.inv_std = b.inv_std;
    prepare.error = &error;
    normalize.x = b.x;
    normalize.y = b.y;
    normalize.residual = residual ? b.residual : nullptr;
    normalize.coefficients = b.coefficients;
    normalize.executor = BNORM_SERIAL;
    normalize.error = &error;
    executor.parallel_for = [](void*, int64_t n, bnorm_task task, void* argument) -> int32_t {
      for (int64_t i = 0; i < n; ++i) task(argument, i);
      return 0;
    };
  }

  template <class Args>
  void fill_forward(Args& a) {
    a.x = b.x;
    a.y = b.y;
    a.residual = b.residual;
    a.scale = b.scale;
    a.shift = b.shift;
    fill_call(a);
  }
  template <class Args>
  void fill_call(Args& a) {
    a.workspace = b.workspace;
    a.workspace_bytes = sizeof b.workspace;
    a.executor = BNORM_SERIAL;
    a.error = &error;
  }
  void fill_saved(bnorm_train_args& a) {
    a.mean = b.mean;
    a.inv_std = b.inv_std;
    a.running_mean = b.running_mean;
    a.running_var = b.running_var;
  }
  void fill_backward(bool residual, bool frozen) {
    backward.x = b.x;
    backward.y = residual ? b.y : nullptr;
    backward.dy = b.dy;
    backward.scale = b.scale;
    backward.shift = b.shift;
    (frozen ? backward.running_mean : backward.mean) = frozen ? static_cast<const void*>(b.running_mean) : b.mean;
    (frozen ? backward.running_var : backward.inv_std) = frozen ? static_cast<const void*>(b.running_var) : b.inv_std;
    fill_call(backward);
    sums = backward;
    backward.dx = b.dx;
    backward.dresidual = residual ? b.dresidual : nullptr;
    backward.dscale = b.dscale;
    backward.dshift = b.dshift;
  }

  Buffers b;
  PlanPointer plan, plan_without_mode;
  bnorm_error error = BNORM_ERROR_INIT;
  bnorm_executor executor = BNORM_EXECUTOR_INIT;
  bnorm_infer_args infer = BNORM_INFER_ARGS_INIT;
  bnorm_train_args train = BNORM_TRAIN_ARGS_INIT, moments = BNORM_TRAIN_ARGS_INIT, finalize = BNORM_TRAIN_ARGS_INIT;
  bnorm_backward_args backward = BNORM_BACKWARD_ARGS_INIT, sums = BNORM_BACKWARD_ARGS_INIT;
  bnorm_prepare_args prepare = BNORM_PREPARE_ARGS_INIT;
  bnorm_normalize_args normalize = BNORM_NORMALIZE_ARGS_INIT;

  bnorm_status run_infer() { return bnorm_infer(plan.get(), &infer); }
  bnorm_status run_train() { return bnorm_train(plan.get(), &train); }
  bnorm_status run_moments() { return bnorm_moments(plan.get(), &moments, b.moments); }
  bnorm_status run_finalize() { return bnorm_moments_finalize(plan.get(), b.moments, &finalize); }
  bnorm_status run_backward() { return bnorm_backward(plan.get(), &backward); }
  bnorm_status run_sums() { return bnorm_backward_sums(plan.get(), &sums, b.sums); }
  bnorm_status run_apply() { return bnorm_backward_apply(plan.get(), &backward, b.sums); }
  bnorm_status run_prepare() { return bnorm_prepare(plan.get(), &prepare, b.coefficients); }
  bnorm_status run_normalize() { return bnorm_normalize(plan.get(), &normalize); }
};

using Breach = std::function<bnorm_status(Calls&)>;

struct Rule {
  const char* field;
  const char* value;
  Breach breach;
  bnorm_status status = BNORM_INVALID_ARGUMENT;
};

void check_rules(const std::vector<Rule>& rules, bool frozen = false, bool residual = true) {
  for (const Rule& rule : rules) {
    Calls calls(frozen, residual);
    Buffers before;
    std::memcpy(&before, &calls.b, sizeof before);
    INFO(std::string(rule.field), " = ", std::string(rule.value));
    const bnorm_status status = rule.breach(calls);
    // Where args itself cannot be read, neither can args.error.
    const bnorm_error* const error = std::string(rule.field) == "struct_size" ? nullptr : &calls.error;
    check_refusal(status, rule.status, error, {rule.field, rule.value});
    CHECK(std::memcmp(&before, &calls.b, sizeof before) == 0);
  }
}

/// The rules that all calls with workspace, batch and executor share.
template <class Args>
void add_call_rules(std::vector<Rule>& rules, Args Calls::*args, bnorm_status (Calls::*run)()) {
  const auto rule = [&](const char* field, const char* value, std::function<void(Args&, Calls&)> spoil,
                        bnorm_status status = BNORM_INVALID_ARGUMENT) {
    rules.push_back({field, value, [=](Calls& c) { return spoil(c.*args, c), (c.*run)(); }, status});
  };
  rule("struct_size", "8", [](Args& a, Calls&) { a.struct_size = 8; });
  rule("reserved", "5", [](Args& a, Calls&) { a.reserved = 5; });
  rule("batch", "3", [](Args& a, Calls&) { a.batch = 3; });
  rule("batch", "-2", [](Args& a, Calls&) { a.batch = -2; });
  rule("x", "NULL", [](Args& a, Calls&) { a.x = nullptr; });
  rule("x", "0x", [](Args& a, Calls& c) { a.x = reinterpret_cast<const char*>(c.b.x) + 1; });
  rule("executor.concurrency", "0", [](Args& a, Calls& c) { c.executor.concurrency = 0, a.executor = &c.executor; });
  rule("executor.struct_size", "3", [](Args& a, Calls& c) { c.executor.struct_size = 3, a.executor = &c.executor; });
  rule("executor.parallel_for", "NULL", [](Args& a, Calls& c) {
    c.executor.parallel_for = nullptr;
    a.executor = &c.executor;
  });
}

template <class Args>
void add_workspace_rules(std::vector<Rule>& rules, Args Calls::*args, bnorm_status (Calls::*run)()) {
  rules.push_back({"workspace_bytes", "7", [=](Calls& c) {
                     (c.*args).workspace = c.b.workspace;
                     (c.*args).workspace_bytes = 7;
                     return (c.*run)();
                   }});
  rules.push_back({"workspace_bytes", "64", [=](Calls& c) {
                     (c.*args).workspace = nullptr;
                     (c.*args).workspace_bytes = 64;
                     return (c.*run)();
                   }});
}

/// A field set to a value must be refused with these words.
template <class Args, class Field, class Value>
void add_field(std::vector<Rule>& rules, Args Calls::*args, bnorm_status (Calls::*run)(), Field Args::*field,
               Value Buffers::*value, const char* name, const char* text) {
  rules.push_back({name, text, [=](Calls& c) {
                     c.*args.*field = &(c.b.*value);
                     return (c.*run)();
                   }});
}
template <class Args, class Field>
void add_null(std::vector<Rule>& rules, Args Calls::*args, bnorm_status (Calls::*run)(), Field Args::*field,
              const char* name) {
  rules.push_back({name, "NULL", [=](Calls& c) {
                     c.*args.*field = nullptr;
                     return (c.*run)();
                   }});
}

}  // namespace

TEST_CASE("arguments: the calls that the rules spoil are valid") {
  for (const bool frozen : {false, true})
    for (const bool residual : {false, true}) {
      Calls c(frozen, residual);
      if (!residual) c.infer.residual = c.train.residual = nullptr;
      for (const auto run :
           {&Calls::run_infer, &Calls::run_train, &Calls::run_moments, &Calls::run_finalize, &Calls::run_sums,
            &Calls::run_apply, &Calls::run_backward, &Calls::run_prepare, &Calls::run_normalize})
        CHECK((c.*run)() == BNORM_OK);
      CHECK(c.error.status == BNORM_OK);  // written only by a refusal
    }
}

TEST_CASE("arguments: every rule of bnorm_infer") {
  std::vector<Rule> rules;
  add_call_rules(rules, &Calls::infer, &Calls::run_infer);
  add_workspace_rules(rules, &Calls::infer, &Calls::run_infer);
  add_null(rules, &Calls::infer, &Calls::run_infer, &bnorm_infer_args::y, "y");
  add_null(rules, &Calls::infer, &Calls::run_infer, &bnorm_infer_args::residual, "residual");
  add_null(rules, &Calls::infer, &Calls::run_infer, &bnorm_infer_args::running_mean, "running_mean");
  add_null(rules, &Calls::infer, &Calls::run_infer, &bnorm_infer_args::running_var, "running_var");
  add_field(rules, &Calls::infer, &Calls::run_infer, &bnorm_infer_args::y, &Buffers::scale, "y", "scale");
  rules.push_back({"y", "x", [](Calls& c) { return c.infer.y = c.b.x + 1, c.run_infer(); }});
  rules.push_back({"y", "aligned", [](Calls& c) {
                     c.infer.y = reinterpret_cast<char*>(c.b.y) + 2;
                     return c.run_infer();
                   }});
  rules.push_back({"running_mode", "0", [](Calls& c) { return bnorm_infer(c.plan_without_mode.get(), &c.infer); }});
  rules.push_back({"plan", "NULL", [](Calls& c) { return bnorm_infer(nullptr, &c.infer); }});
  check_rules(rules);
  check_rules({{"residual", "NULL", [](Calls& c) { return c.run_infer(); }}}, false, false);
}

TEST_CASE("arguments: every rule of bnorm_train") {
  const auto args = &Calls::train;
  const auto run = &Calls::run_train;
  std::vector<Rule> rules;
  add_call_rules(rules, args, run);
  add_workspace_rules(rules, args, run);
  add_null(rules, args, run, &bnorm_train_args::y, "y");
  add_null(rules, args, run, &bnorm_train_args::residual, "residual");
  add_null(rules, args, run, &bnorm_train_args::mean, "mean");
  add_null(rules, args, run, &bnorm_train_args::inv_std, "inv_std");
  add_field(rules, args, run, &bnorm_train_args::running_mean, &Buffers::running_var, "running_mean", "running_var");
  add_field(rules, args, run, &bnorm_train_args::mean, &Buffers::inv_std, "mean", "inv_std");
  add_field(rules, args, run, &bnorm_train_args::running_var, &Buffers::scale, "running_var", "scale");
  add_field(rules, args, run, &bnorm_train_args::mean, &Buffers::y, "mean", "y");
  for (const double factor : {-0.5, 1.5})
    rules.push_back({"average_factor", factor < 0 ? "-0.5" : "1.5", [=](Calls& c) {
                       c.train.average_factor = factor;
                       return c.run_train();
                     }});
  rules.push_back({"average_factor", "nan", [](Calls& c) {
                     c.train.average_factor = std::numeric_limits<double>::quiet_NaN();
                     return c.run_train();
                   }});
  rules.push_back({"running_mode", "0", [](Calls& c) { return bnorm_train(c.plan_without_mode.get(), &c.train); }});
  rules.push_back({"plan", "NULL", [](Calls& c) { return bnorm_train(nullptr, &c.train); }});
  check_rules(rules);
}

TEST_CASE("arguments: every rule of bnorm_backward and bnorm_backward_apply") {
  const auto args = &Calls::backward;
  for (const auto run : {&Calls::run_backward, &Calls::run_apply}) {
    std::vector<Rule> rules;
    add_call_rules(rules, args, run);
    add_workspace_rules(rules, args, run);
    add_null(rules, args, run, &bnorm_backward_args::y, "y");
    add_null(rules, args, run, &bnorm_backward_args::dy, "dy");
    add_null(rules, args, run, &bnorm_backward_args::mean, "mean");
    add_null(rules, args, run, &bnorm_backward_args::inv_std, "inv_std");
    add_field(rules, args, run, &bnorm_backward_args::running_mean, &Buffers::running_mean, "running_mean", "0x");
    add_field(rules, args, run, &bnorm_backward_args::running_var, &Buffers::running_var, "running_var", "0x");
    add_field(rules, args, run, &bnorm_backward_args::dx, &Buffers::dresidual, "dx", "dresidual");
    add_field(rules, args, run, &bnorm_backward_args::dscale, &Buffers::dshift, "dscale", "dshift");
    add_field(rules, args, run, &bnorm_backward_args::dscale, &Buffers::scale, "dscale", "scale");
    rules.push_back({"dx", "dy", [=](Calls& c) { return c.backward.dx = c.b.dy + 1, (c.*run)(); }});
    check_rules(rules);
    std::vector<Rule> frozen;
    add_null(frozen, args, run, &bnorm_backward_args::running_mean, "running_mean");
    add_null(frozen, args, run, &bnorm_backward_args::running_var, "running_var");
    add_field(frozen, args, run, &bnorm_backward_args::mean, &Buffers::mean, "mean", "0x");
    check_rules(frozen, true);
    std::vector<Rule> plain;
    add_field(plain, args, run, &bnorm_backward_args::dresidual, &Buffers::dresidual, "dresidual", "0x");
    check_rules(plain, false, false);
  }
  check_rules({{"plan", "NULL", [](Calls& c) { return bnorm_backward(nullptr, &c.backward); }},
               {"plan", "NULL", [](Calls& c) { return bnorm_backward_apply(nullptr, &c.backward, c.b.sums); }},
               {"sums", "NULL", [](Calls& c) { return bnorm_backward_apply(c.plan.get(), &c.backward, nullptr); }}});
}

TEST_CASE("arguments: every rule of bnorm_prepare and bnorm_normalize") {
  std::vector<Rule> rules;
  const auto prepare = &Calls::prepare;
  const auto make = &Calls::run_prepare;
  add_field(rules, prepare, make, &bnorm_prepare_args::running_mean, &Buffers::running_mean, "mean",
            "exactly one pair");
  add_null(rules, prepare, make, &bnorm_prepare_args::mean, "mean");
  add_null(rules, prepare, make, &bnorm_prepare_args::inv_std, "inv_std");
  // One of each pair: named by what is there.
  rules.push_back({"inv_std = 0x", "running_var = 0x", [](Calls& c) {
                     c.prepare.mean = nullptr;
                     c.prepare.running_var = &c.b.running_var;
                     return c.run_prepare();
                   }});
  add_field(rules, prepare, make, &bnorm_prepare_args::renorm_r, &Buffers::mean, "renorm_r", "must be NULL");
  const auto args = &Calls::normalize;
  const auto run = &Calls::run_normalize;
  add_null(rules, args, run, &bnorm_normalize_args::x, "x");
  add_null(rules, args, run, &bnorm_normalize_args::residual, "residual");
  add_null(rules, args, run, &bnorm_normalize_args::y, "y");
  add_null(rules, args, run, &bnorm_normalize_args::coefficients, "coefficients");
  add_field(rules, args, run, &bnorm_normalize_args::mask, &Buffers::dx, "mask", "must be NULL");
  add_field(rules, args, run, &bnorm_normalize_args::y, &Buffers::coefficients, "y", "coefficients");
  rules.push_back({"y", "residual", [](Calls& c) { return c.normalize.y = c.b.residual + 1, c.run_normalize(); }});
  rules.push_back({"workspace", "overlaps", [](Calls& c) {
                     c.infer.workspace = c.b.y;
                     c.infer.workspace_bytes = sizeof c.b.workspace;
                     return c.run_infer();
                   }});
  check_rules(rules);
}

TEST_CASE("arguments: prepared renormalization needs its corrections") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.channels = 2;
  d.renorm = 1;
  const double saved[2] = {1, 1};
  const PlanPointer plan = make_plan(d);
  std::vector<double> coefficients(bnorm_plan_coefficients_size(plan.get()) / sizeof(double));
  bnorm_prepare_args a = BNORM_PREPARE_ARGS_INIT;
  a.mean = a.inv_std = saved;
  check_refusal(bnorm_prepare(plan.get(), &a, coefficients.data()), BNORM_INVALID_ARGUMENT, nullptr,
                {"renorm_r = NULL"});
  a.renorm_r = a.renorm_d = saved;
  CHECK(bnorm_prepare(plan.get(), &a, coefficients.data()) == BNORM_OK);
}

TEST_CASE("arguments: the very same tensor has elements of equal size") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.data_type = BNORM_BF16;
  d.output_type = BNORM_F32;
  d.batch = 1;
  d.channels = 4;
  float memory[4] = {};
  const float running[4] = {1, 1, 1, 1};
  bnorm_infer_args a = BNORM_INFER_ARGS_INIT;
  a.x = a.y = memory;
  a.running_mean = a.running_var = running;
  check_refusal(bnorm_infer(make_plan(d).get(), &a), BNORM_INVALID_ARGUMENT, nullptr, {"y", "overlaps x"});
  d.output_type = BNORM_F16;
  CHECK(bnorm_infer(make_plan(d).get(), &a) == BNORM_OK);
}

TEST_CASE("arguments: what backward does not read counts as not given") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 2;
  d.channels = 3;
  d.spatial = 5;
  d.frozen = 1;
  REQUIRE(bnorm_desc_set_layout(&d, BNORM_CHANNELS_LAST) == BNORM_OK);
  d.dx = {0, 15, 5, 1};
  const float dy[30] = {2}, running[3] = {1, 1, 1};
  float dx[30];
  bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
  a.x = a.y = a.residual = dx;  // of other strides than dx
  a.dy = dy;
  a.running_mean = a.running_var = running;
  a.dx = dx;
  CHECK(bnorm_backward(make_plan(d).get(), &a) == BNORM_OK);
  CHECK(dx[0] > 1.99F);
  CHECK(dx[1] == 0);
  float dscale[3];
  a.dscale = dscale;  // which needs x
  check_refusal(bnorm_backward(make_plan(d).get(), &a), BNORM_INVALID_ARGUMENT, nullptr, {"dx", "overlaps x"});
}

TEST_CASE("arguments: every rule of the parts") {
  std::vector<Rule> rules;
  add_call_rules(rules, &Calls::moments, &Calls::run_moments);
  add_workspace_rules(rules, &Calls::moments, &Calls::run_moments);
  add_field(rules, &Calls::moments, &Calls::run_moments, &bnorm_train_args::y, &Buffers::y, "y", "0x");
  add_field(rules, &Calls::moments, &Calls::run_moments, &bnorm_train_args::residual, &Buffers::residual, "residual",
            "0x");
  add_field(rules, &Calls::moments, &Calls::run_moments, &bnorm_train_args::scale, &Buffers::scale, "scale", "0x");
  add_field(rules, &Calls::moments, &Calls::run_moments, &bnorm_train_args::shift, &Buffers::shift, "shift", "0x");
  add_field(rules, &Calls::moments, &Calls::run_moments, &bnorm_train_args::mean, &Buffers::mean, "mean", "0x");
  add_field(rules, &Calls::moments, &Calls::run_moments, &bnorm_train_args::running_mean, &Buffers::running_mean,
            "running_mean", "0x");
  add_call_rules(rules, &Calls::sums, &Calls::run_sums);
  add_workspace_rules(rules, &Calls::sums, &Calls::run_sums);
  add_field(rules, &Calls::sums, &Calls::run_sums, &bnorm_backward_args::dx, &Buffers::dx, "dx", "0x");
  add_field(rules, &Calls::sums, &Calls::run_sums, &bnorm_backward_args::dresidual, &Buffers::dresidual, "dresidual",
            "0x");
  add_field(rules, &Calls::sums, &Calls::run_sums, &bnorm_backward_args::dscale, &Buffers::dscale, "dscale", "0x");
  add_field(rules, &Calls::sums, &Calls::run_sums, &bnorm_backward_args::dshift, &Buffers::dshift, "dshift", "0x");
  add_field(rules, &Calls::finalize, &Calls::run_finalize, &bnorm_train_args::x, &Buffers::x, "x", "0x");
  add_field(rules, &Calls::finalize, &Calls::run_finalize, &bnorm_train_args::y, &Buffers::y, "y", "0x");
  add_field(rules, &Calls::finalize, &Calls::run_finalize, &bnorm_train_args::scale, &Buffers::scale, "scale", "0x");
  add_null(rules, &Calls::finalize, &Calls::run_finalize, &bnorm_train_args::mean, "mean");
  add_null(rules, &Calls::finalize, &Calls::run_finalize, &bnorm_train_args::inv_std, "inv_std");
  rules.push_back({"moments", "NULL", [](Calls& c) { return bnorm_moments(c.plan.get(), &c.moments, nullptr); }});
  rules.push_back({"sums", "NULL", [](Calls& c) { return bnorm_backward_sums(c.plan.get(), &c.sums, nullptr); }});
  rules.push_back(
      {"moments", "NULL", [](Calls& c) { return bnorm_moments_finalize(c.plan.get(), nullptr, &c.finalize); }});
  rules.push_back({"average_factor", "2", [](Calls& c) { return c.finalize.average_factor = 2, c.run_finalize(); }});
  rules.push_back({"running_mode", "0", [](Calls& c) {
                     return bnorm_moments_finalize(c.plan_without_mode.get(), c.b.moments, &c.finalize);
                   }});
  rules.push_back({"plan", "NULL", [](Calls& c) { return bnorm_moments(nullptr, &c.moments, c.b.moments); }});
  rules.push_back({"plan", "NULL", [](Calls& c) { return bnorm_backward_sums(nullptr, &c.sums, c.b.sums); }});
  check_rules(rules);
}

}  // namespace bnorm_tests::test_arguments_calls
