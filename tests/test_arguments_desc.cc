// SPDX-License-Identifier: Apache-2.0
// Every rule of descriptors and plan creation.
#include <cmath>
#include <cstdlib>
#include <limits>

#include "isas.hh"
#include "plan.hh"
#include "refusal.hh"

namespace bnorm_tests::test_arguments_desc {
namespace {

bnorm_desc valid_desc() {
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = 3;
  d.channels = 4;
  d.spatial = 5;
  return d;
}

bnorm_plan* const kUntouched = reinterpret_cast<bnorm_plan*>(0x10);

/// Creation must be refused so, with the words in the message.
void check_refused(const bnorm_desc* desc, bnorm_status expected, std::initializer_list<const char*> words) {
  bnorm_plan* plan = kUntouched;
  bnorm_error error = BNORM_ERROR_INIT;
  check_refusal(bnorm_plan_create(&plan, desc, &error), expected, &error, words);
  CHECK(plan == kUntouched);
  check_refusal(bnorm_plan_create(&plan, desc, nullptr), expected, nullptr, words);
  CHECK(plan == kUntouched);
}

struct Rule {
  void (*breach)(bnorm_desc&);
  bnorm_status status;
  const char* field;
  const char* value;
};

const Rule kRules[] = {
    {[](bnorm_desc& d) { d.data_type = 5; }, BNORM_INVALID_ARGUMENT, "data_type", "5"},
    {[](bnorm_desc& d) { d.data_type = -1; }, BNORM_INVALID_ARGUMENT, "data_type", "-1"},
    {[](bnorm_desc& d) { d.output_type = 5; }, BNORM_INVALID_ARGUMENT, "output_type", "5"},
    {[](bnorm_desc& d) { d.output_type = BNORM_F64; }, BNORM_UNSUPPORTED, "output_type", "2"},
    {[](bnorm_desc& d) { d.data_type = BNORM_F64, d.output_type = BNORM_BF16; }, BNORM_UNSUPPORTED, "output_type", "3"},
    {[](bnorm_desc& d) { d.param_type = 5; }, BNORM_INVALID_ARGUMENT, "param_type", "5"},
    {[](bnorm_desc& d) { d.param_type = -7; }, BNORM_INVALID_ARGUMENT, "param_type", "-7"},
    {[](bnorm_desc& d) { d.stats_type = BNORM_BF16; }, BNORM_INVALID_ARGUMENT, "stats_type", "3"},
    {[](bnorm_desc& d) { d.groups = -1; }, BNORM_INVALID_ARGUMENT, "groups", "-1"},
    {[](bnorm_desc& d) { d.batch = -2; }, BNORM_INVALID_ARGUMENT, "batch", "-2"},
    {[](bnorm_desc& d) { d.channels = -3; }, BNORM_INVALID_ARGUMENT, "channels", "-3"},
    {[](bnorm_desc& d) { d.spatial = -4; }, BNORM_INVALID_ARGUMENT, "spatial", "-4"},
    {[](bnorm_desc& d) { d.batch = INT64_MAX; }, BNORM_INVALID_ARGUMENT, "batch", "9223372036854775807"},
    {[](bnorm_desc& d) { d.batch = d.channels = int64_t{1} << 30; }, BNORM_INVALID_ARGUMENT, "batch", "1073741824"},
    {[](bnorm_desc& d) {
       d.x = {0, 0, int64_t{1} << 61, 1};
     },
     BNORM_INVALID_ARGUMENT, "x", "2305843009213693952"},
    {[](bnorm_desc& d) {
       d.dy = {0, 0, INT64_MIN, 1};
     },
     BNORM_INVALID_ARGUMENT, "dy", "-9223372036854775808"},
    {[](bnorm_desc& d) {
       d.residual = {0, INT64_MAX, 5, 1};
     },
     BNORM_INVALID_ARGUMENT, "residual", "9223372036854775807"},
    {[](bnorm_desc& d) {
       d.y = {60, 20, 4, 1};
     },
     BNORM_INVALID_ARGUMENT, "y", "20"},
    {[](bnorm_desc& d) {
       d.y = {60, 0, 5, 1};
     },
     BNORM_INVALID_ARGUMENT, "y", "0"},
    {[](bnorm_desc& d) {
       d.y = {60, 19, 5, 1};
     },
     BNORM_INVALID_ARGUMENT, "y", "19"},
    {[](bnorm_desc& d) {
       d.dx = {60, -19, 5, 1};
     },
     BNORM_INVALID_ARGUMENT, "dx", "-19"},
    {[](bnorm_desc& d) {
       d.dresidual = {60, 20, 5, 0};
     },
     BNORM_INVALID_ARGUMENT, "dresidual", "0"},
    {[](bnorm_desc& d) { d.activation = 11; }, BNORM_INVALID_ARGUMENT, "activation", "11"},
    {[](bnorm_desc& d) { d.activation = BNORM_CLIP, d.clip_lower = std::nan(""); }, BNORM_INVALID_ARGUMENT,
     "clip_lower", "nan"},
    {[](bnorm_desc& d) { d.activation = BNORM_CLIP, d.clip_upper = HUGE_VAL; }, BNORM_INVALID_ARGUMENT, "clip_upper",
     "inf"},
    {[](bnorm_desc& d) { d.activation = BNORM_CLIP, d.clip_lower = d.clip_upper = 2.5; }, BNORM_INVALID_ARGUMENT,
     "clip_upper", "2.5"},
    {[](bnorm_desc& d) { d.activation = BNORM_LEAKY_RELU, d.leaky_slope = 0; }, BNORM_INVALID_ARGUMENT, "leaky_slope",
     "0"},
    {[](bnorm_desc& d) { d.activation = BNORM_LEAKY_RELU, d.leaky_slope = HUGE_VAL; }, BNORM_INVALID_ARGUMENT,
     "leaky_slope", "inf"},
    {[](bnorm_desc& d) { d.activation = BNORM_LEAKY_RELU, d.leaky_slope = 1e39; }, BNORM_INVALID_ARGUMENT,
     "leaky_slope", "1e+39"},
    {[](bnorm_desc& d) { d.activation = BNORM_LEAKY_RELU, d.leaky_slope = 1e-50; }, BNORM_INVALID_ARGUMENT,
     "leaky_slope", "1e-50"},
    {[](bnorm_desc& d) { d.activation = BNORM_ELU, d.elu_alpha = 1e39; }, BNORM_INVALID_ARGUMENT, "elu_alpha", "1e+39"},
    {[](bnorm_desc& d) { d.activation = BNORM_ELU, d.elu_alpha = -0.5; }, BNORM_INVALID_ARGUMENT, "elu_alpha", "-0.5"},
    {[](bnorm_desc& d) { d.activation = BNORM_ELU, d.elu_alpha = std::nan(""); }, BNORM_INVALID_ARGUMENT, "elu_alpha",
     "nan"},
    {[](bnorm_desc& d) { d.weighting = 3; }, BNORM_INVALID_ARGUMENT, "weighting", "3"},
    {[](bnorm_desc& d) { d.from_output = 2; }, BNORM_INVALID_ARGUMENT, "from_output", "2"},
    {[](bnorm_desc& d) { d.from_output = d.residual_added = 1; }, BNORM_INVALID_ARGUMENT, "from_output", "residual"},
    {[](bnorm_desc& d) { d.from_output = 1, d.activation = BNORM_RELU; }, BNORM_UNSUPPORTED, "activation", "1"},
    {[](bnorm_desc& d) { d.from_output = 1, d.activation = BNORM_ELU, d.elu_alpha = 0; }, BNORM_INVALID_ARGUMENT,
     "elu_alpha", "from_output"},
    {[](bnorm_desc& d) { d.from_output = 1, d.activation = BNORM_ELU, d.elu_alpha = 1e-60; }, BNORM_INVALID_ARGUMENT,
     "elu_alpha", "1e-60"},
    {[](bnorm_desc& d) { d.from_output = 1, d.activation = BNORM_LEAKY_RELU, d.leaky_slope = 1e-39; },
     BNORM_INVALID_ARGUMENT, "leaky_slope", "1e-39"},
    {[](bnorm_desc& d) { d.from_mask = 2, d.activation = BNORM_RELU; }, BNORM_INVALID_ARGUMENT, "from_mask", "2"},
    {[](bnorm_desc& d) { d.from_residual = 3; }, BNORM_INVALID_ARGUMENT, "from_residual", "3"},
    {[](bnorm_desc& d) { d.from_residual = 1; }, BNORM_INVALID_ARGUMENT, "from_residual", "residual_added = 0"},
    {[](bnorm_desc& d) { d.from_residual = d.residual_added = d.from_mask = 1, d.activation = BNORM_RELU; },
     BNORM_INVALID_ARGUMENT, "from_residual", "from_mask"},
    {[](bnorm_desc& d) { d.from_mask = 1; }, BNORM_UNSUPPORTED, "activation", "from_mask"},
    {[](bnorm_desc& d) { d.from_mask = 1, d.activation = BNORM_ELU; }, BNORM_UNSUPPORTED, "activation", "4"},
    {[](bnorm_desc& d) { d.from_mask = d.from_output = 1, d.activation = BNORM_LEAKY_RELU; }, BNORM_INVALID_ARGUMENT,
     "from_mask", "from_output"},
    {[](bnorm_desc& d) { d.renorm = 2; }, BNORM_INVALID_ARGUMENT, "renorm", "2"},
    {[](bnorm_desc& d) { d.renorm = d.frozen = 1; }, BNORM_INVALID_ARGUMENT, "renorm", "frozen"},
    {[](bnorm_desc& d) { d.activation = -1; }, BNORM_INVALID_ARGUMENT, "activation", "-1"},
    {[](bnorm_desc& d) { d.residual_added = 2; }, BNORM_INVALID_ARGUMENT, "residual_added", "2"},
    {[](bnorm_desc& d) { d.running_mode = 4; }, BNORM_INVALID_ARGUMENT, "running_mode", "4"},
    {[](bnorm_desc& d) { d.biased_running_var = -1; }, BNORM_INVALID_ARGUMENT, "biased_running_var", "-1"},
    {[](bnorm_desc& d) { d.params_per_group = 3; }, BNORM_INVALID_ARGUMENT, "params_per_group", "3"},
    {[](bnorm_desc& d) { d.frozen = 5; }, BNORM_INVALID_ARGUMENT, "frozen", "5"},
    {[](bnorm_desc& d) { d.guard = 9; }, BNORM_INVALID_ARGUMENT, "guard", "9"},
    {[](bnorm_desc& d) { d.channel_block = 4; }, BNORM_INVALID_ARGUMENT, "channel_block", "4"},
    {[](bnorm_desc& d) { d.epsilon = -0.5; }, BNORM_INVALID_ARGUMENT, "epsilon", "-0.5"},
    {[](bnorm_desc& d) { d.epsilon = std::nan(""); }, BNORM_INVALID_ARGUMENT, "epsilon", "nan"},
    {[](bnorm_desc& d) { d.epsilon = HUGE_VAL; }, BNORM_INVALID_ARGUMENT, "epsilon", "inf"},
    {[](bnorm_desc& d) { d.average_factor = 1.5; }, BNORM_INVALID_ARGUMENT, "average_factor", "1.5"},
    {[](bnorm_desc& d) { d.average_factor = -1; }, BNORM_INVALID_ARGUMENT, "average_factor", "-1"},
    {[](bnorm_desc& d) { d.average_factor = std::nan(""); }, BNORM_INVALID_ARGUMENT, "average_factor", "nan"},
    {[](bnorm_desc& d) { d.struct_size = sizeof d - 8; }, BNORM_INVALID_ARGUMENT, "struct_size", ""},
    {[](bnorm_desc& d) { d.struct_size = 0; }, BNORM_INVALID_ARGUMENT, "struct_size", "0"},
};

void* no_memory(void*, size_t) { return nullptr; }
void no_release(void*, void*, size_t) {}

}  // namespace

TEST_CASE("arguments: every rule of the descriptor") {
  make_plan(valid_desc());
  for (const Rule& rule : kRules) {
    bnorm_desc d = valid_desc();
    rule.breach(d);
    INFO(std::string(rule.field), " = ", std::string(rule.value));
    check_refused(&d, rule.status, {rule.field, rule.value});
  }
}

TEST_CASE("arguments: NULL descriptor, NULL plan, bad error struct") {
  check_refused(nullptr, BNORM_INVALID_ARGUMENT, {"desc", "NULL"});
  const bnorm_desc d = valid_desc();
  bnorm_error error = BNORM_ERROR_INIT;
  check_refusal(bnorm_plan_create(nullptr, &d, &error), BNORM_INVALID_ARGUMENT, &error, {"plan", "NULL"});
  bnorm_plan* plan = kUntouched;
  error = BNORM_ERROR_INIT;
  error.struct_size = 12;
  const bnorm_error before = error;
  check_refusal(bnorm_plan_create(&plan, &d, &error), BNORM_INVALID_ARGUMENT, nullptr, {"error.struct_size", "12"});
  CHECK(std::memcmp(&before, &error, sizeof error) == 0);
  CHECK(plan == kUntouched);
}

TEST_CASE("arguments: allocators without functions or with reserved bits") {
  for (const int missing : {0, 1, 2, 3}) {
    bnorm_allocator allocator = BNORM_ALLOCATOR_INIT;
    if (missing != 0) allocator.allocate = no_memory;
    if (missing != 1) allocator.release = no_release;
    if (missing == 2) allocator.reserved = 6;
    if (missing == 3) allocator.struct_size = 4;
    bnorm_desc d = valid_desc();
    d.allocator = &allocator;
    static const char* const fields[] = {"allocate", "release", "reserved", "struct_size"};
    static const char* const values[] = {"NULL", "NULL", "6", "4"};
    check_refused(&d, BNORM_INVALID_ARGUMENT, {"allocator", fields[missing], values[missing]});
  }
}

TEST_CASE("arguments: a longer struct is fine if its tail is zero, else UNSUPPORTED") {
  struct Longer {
    bnorm_desc desc;
    unsigned char tail[32];
  } longer = {valid_desc(), {}};
  longer.desc.struct_size = sizeof longer;
  bnorm_plan* plan = nullptr;
  CHECK(bnorm_plan_create(&plan, &longer.desc, nullptr) == BNORM_OK);
  bnorm_plan_destroy(plan);
  longer.tail[31] = 1;
  check_refused(&longer.desc, BNORM_UNSUPPORTED, {"struct_size"});
}

TEST_CASE("arguments: an ISA that this machine lacks") {
  for (const char* const name : {"neon128", "AVX2", "avx2 "}) {
    const IsaScope scope(name);
    const bnorm_desc d = valid_desc();
    check_refused(&d, BNORM_UNSUPPORTED, {"BNORM_ISA", name});
    CHECK(std::string(bnorm_isa()).empty());
  }
}

TEST_CASE("arguments: what looks odd but is allowed") {
  bnorm_desc d = valid_desc();
  d.x = {0, 0, 5, 1};  // one sample for the whole batch
  d.dy = {60, 20, 5, -1};
  make_plan(d);
  d = valid_desc();
  d.batch = 0;
  make_plan(d);
  d.channels = 0;
  make_plan(d);
  d = valid_desc();
  d.batch = 1;
  d.y = {0, 0, 5, 1};  // the stride of an axis of one element says nothing
  make_plan(d);
  d.x = {INT64_MAX, INT64_MIN, 5, 1};  // products of these overflow, which UndefinedBehaviorSanitizer sees
  make_plan(d);
  d.epsilon = 0;
  d.average_factor = 1;
  make_plan(d);
  d = valid_desc();
  d.activation = BNORM_LEAKY_RELU;
  d.data_type = d.output_type = BNORM_F64;
  d.leaky_slope = 1e39;  // of no f32
  make_plan(d);
}

TEST_CASE("arguments: layouts") {
  bnorm_desc d = valid_desc();
  d.groups = 2;
  REQUIRE(bnorm_desc_set_layout(&d, BNORM_CHANNELS_LAST) == BNORM_OK);
  for (const bnorm_strides& t : {d.x, d.y, d.residual, d.dx, d.dy, d.dresidual}) {
    CHECK(t.g == 60);
    CHECK(t.n == 20);
    CHECK(t.c == 1);
    CHECK(t.s == 4);
  }
  REQUIRE(bnorm_desc_set_layout(&d, BNORM_PLANAR) == BNORM_OK);
  CHECK(d.dx.c == 5);
  CHECK(d.dx.s == 1);
  const bnorm_desc before = d;
  check_refusal(bnorm_desc_set_layout(&d, 2), BNORM_INVALID_ARGUMENT, nullptr, {"layout", "2"});
  check_refusal(bnorm_desc_set_layout(nullptr, BNORM_PLANAR), BNORM_INVALID_ARGUMENT, nullptr, {"desc", "NULL"});
  CHECK(std::memcmp(&before, &d, sizeof d) == 0);
  const int64_t shape[] = {2, 3};
  d.struct_size = 8;
  check_refusal(bnorm_desc_set_layout(&d, BNORM_PLANAR), BNORM_INVALID_ARGUMENT, nullptr, {"struct_size = 8"});
  check_refusal(bnorm_desc_set_axis(&d, shape, 2, 1), BNORM_INVALID_ARGUMENT, nullptr, {"struct_size = 8"});
  d.struct_size = sizeof d;
  d.channels = -4;
  check_refusal(bnorm_desc_set_layout(&d, BNORM_PLANAR), BNORM_INVALID_ARGUMENT, nullptr, {"channels", "-4"});
  d.channels = d.batch = d.spatial = int64_t{1} << 40;
  check_refusal(bnorm_desc_set_layout(&d, BNORM_PLANAR), BNORM_INVALID_ARGUMENT, nullptr,
                {"channels", "1099511627776"});
  CHECK(d.dx.c == 5);
}

TEST_CASE("arguments: axes") {
  bnorm_desc d = BNORM_DESC_INIT;
  const int64_t shape[4] = {2, 7, 5, 3};
  for (const int32_t axis : {3, -1}) {
    REQUIRE(bnorm_desc_set_axis(&d, shape, 4, axis) == BNORM_OK);
    CHECK(d.groups == 1);
    CHECK(d.batch == 70);
    CHECK(d.channels == 3);
    CHECK(d.spatial == 1);
    CHECK(d.x.n == 3);
    CHECK(d.dresidual.c == 1);
  }
  REQUIRE(bnorm_desc_set_axis(&d, shape, 4, 1) == BNORM_OK);
  CHECK(d.batch == 2);
  CHECK(d.channels == 7);
  CHECK(d.spatial == 15);
  CHECK(d.y.n == 105);
  CHECK(d.y.c == 15);
  CHECK(d.y.s == 1);
  REQUIRE(bnorm_desc_set_axis(&d, shape, 1, 0) == BNORM_OK);
  CHECK(d.channels == 2);
  CHECK(d.batch == 1);
  const bnorm_desc before = d;
  const int64_t negative[2] = {4, -6}, huge[3] = {int64_t{1} << 30, int64_t{1} << 30, int64_t{1} << 30};
  const auto refused = [&](const int64_t* s, int32_t rank, int32_t axis, std::initializer_list<const char*> words) {
    check_refusal(bnorm_desc_set_axis(&d, s, rank, axis), BNORM_INVALID_ARGUMENT, nullptr, words);
    CHECK(std::memcmp(&before, &d, sizeof d) == 0);
  };
  refused(shape, 4, 4, {"axis", "4"});
  refused(shape, 4, -5, {"axis", "-5"});
  refused(shape, 0, 0, {"rank", "0"});
  refused(nullptr, 4, 0, {"shape", "NULL"});
  refused(negative, 2, 0, {"shape", "-6"});
  refused(huge, 3, 0, {"spatial", "1152921504606846976"});
  check_refusal(bnorm_desc_set_axis(nullptr, shape, 4, 1), BNORM_INVALID_ARGUMENT, nullptr, {"desc", "NULL"});
}

TEST_CASE("arguments: a NULL plan has no sizes and may be destroyed") {
  bnorm_plan_destroy(nullptr);
  CHECK(bnorm_plan_workspace_size(nullptr) == 0);
  CHECK(bnorm_plan_coefficients_size(nullptr) == 0);
  CHECK(bnorm_plan_partials_count(nullptr) == 0);
  char text[4] = "abc";
  CHECK(bnorm_plan_describe(nullptr, text, sizeof text) == 0);
}

TEST_CASE("arguments: the description is cut as by snprintf") {
  const PlanPointer plan = make_plan(valid_desc());
  const size_t length = bnorm_plan_describe(plan.get(), nullptr, 0);
  CHECK(length > 50);
  std::string whole(length + 1, '#');
  CHECK(bnorm_plan_describe(plan.get(), whole.data(), whole.size()) == length);
  CHECK(std::strlen(whole.c_str()) == length);
  CHECK(whole.find(bnorm_isa()) != std::string::npos);
  for (const size_t bytes : {size_t{1}, size_t{2}, length / 2, length}) {
    std::string cut(length + 1, '#');
    CHECK(bnorm_plan_describe(plan.get(), cut.data(), bytes) == length);
    CHECK(cut.substr(0, bytes - 1) == whole.substr(0, bytes - 1));
    CHECK(cut[bytes - 1] == '\0');
    CHECK(cut[bytes] == '#');
  }
}

TEST_CASE("arguments: names and versions") {
  CHECK(bnorm_version() == BNORM_VERSION_MAJOR * 1000000 + BNORM_VERSION_MINOR * 1000 + BNORM_VERSION_PATCH);
  CHECK(bnorm_numerics_version() == BNORM_NUMERICS_VERSION);
  const char* const names[] = {"OK",        "INVALID_ARGUMENT", "UNSUPPORTED", "OUT_OF_MEMORY", "EXECUTION_FAILED",
                               "NONFINITE", "UNKNOWN"};
  for (int32_t status = 0; status < 7; ++status) CHECK(std::string(bnorm_status_name(status)) == names[status]);
  CHECK(std::string(bnorm_status_name(-1)) == "UNKNOWN");
}

}  // namespace bnorm_tests::test_arguments_desc
