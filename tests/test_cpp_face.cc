// SPDX-License-Identifier: Apache-2.0
// bnorm.hpp: ownership, exceptions and spans around the C ABI, whose results it must not change.
#include <doctest/doctest.h>
#include <bnorm/bnorm.hpp>

#include <span>
#include <type_traits>
#include <vector>

#include "random.hh"

namespace bnorm_tests::test_cpp_face {
namespace {

constexpr int64_t kBatch = 6, kChannels = 5, kSpatial = 20;
constexpr auto kElements = static_cast<size_t>(kBatch * kChannels * kSpatial);

std::vector<float> make_tensor(uint64_t seed) {
  Random random(seed);
  return normals<float>(random, kElements);
}

struct Saved {
  std::vector<double> mean = std::vector<double>(kChannels), inv_std = std::vector<double>(kChannels);
};

bnorm_train_args train_args(const std::vector<float>& x, std::vector<float>& y, Saved& saved) {
  bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
  a.x = x.data();
  a.y = y.data();
  a.mean = saved.mean.data();
  a.inv_std = saved.inv_std.data();
  return a;
}

bnorm_backward_args backward_args(const std::vector<float>& x, const std::vector<float>& dy, const Saved& saved) {
  bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
  a.x = x.data();
  a.dy = dy.data();
  a.mean = saved.mean.data();
  a.inv_std = saved.inv_std.data();
  return a;
}

/// The refusal that `call` throws.
template <class Exception, class Call>
Exception thrown_by(Call call) {
  try {
    call();
  } catch (const Exception& e) {
    return e;
  }
  FAIL("nothing was thrown");
  throw;
}

}  // namespace

TEST_CASE("hpp: training in parts and prepared inference give the bits of the whole call") {
  const bnorm::Plan plan(bnorm::make_desc(kBatch, kChannels, kSpatial));
  const std::vector<float> x = make_tensor(1), dy = make_tensor(2);
  std::vector<float> y(kElements), y_prepared(kElements), dx(kElements), dx_parts(kElements);
  Saved saved, saved_parts;
  plan.train(train_args(x, y, saved));
  bnorm_backward_args backward = backward_args(x, dy, saved);
  backward.dx = dx.data();
  plan.backward(backward);

  std::vector<double> partials(plan.partials_count()), merged(plan.partials_count());
  const double* const parts[] = {partials.data()};
  bnorm_train_args only_x = BNORM_TRAIN_ARGS_INIT;
  only_x.x = x.data();
  plan.moments(only_x, partials);
  plan.merge_moments(parts, merged);
  bnorm_train_args statistics = BNORM_TRAIN_ARGS_INIT;
  statistics.mean = saved_parts.mean.data();
  statistics.inv_std = saved_parts.inv_std.data();
  plan.finalize(merged, statistics);
  CHECK(saved_parts.mean == saved.mean);
  CHECK(saved_parts.inv_std == saved.inv_std);

  bnorm_prepare_args from_saved = BNORM_PREPARE_ARGS_INIT;
  from_saved.mean = saved.mean.data();
  from_saved.inv_std = saved.inv_std.data();
  const bnorm::Prepared prepared(plan, from_saved);
  bnorm_normalize_args normalize = BNORM_NORMALIZE_ARGS_INIT;
  normalize.x = x.data();
  normalize.y = y_prepared.data();
  prepared.normalize(normalize);
  CHECK(y_prepared == y);

  plan.backward_sums(backward_args(x, dy, saved), partials);
  plan.merge_sums(parts, merged);
  backward.dx = dx_parts.data();
  plan.backward_apply(backward, merged);
  CHECK(dx_parts == dx);
}

TEST_CASE("hpp: inference through a moved plan is that of the C ABI") {
  const std::vector<float> x = make_tensor(3), mean(kChannels, 0.5f), var(kChannels, 2.0f);
  std::vector<float> y(kElements), expected(kElements), y_prepared(kElements);
  bnorm::Plan first(bnorm::make_desc(kBatch, kChannels, kSpatial, BNORM_CHANNELS_LAST));
  bnorm_prepare_args from_running = BNORM_PREPARE_ARGS_INIT;
  from_running.running_mean = mean.data();
  from_running.running_var = var.data();
  const bnorm::Prepared prepared(first, from_running);
  const bnorm::Plan plan(std::move(first));
  bnorm_infer_args a = BNORM_INFER_ARGS_INIT;
  a.x = x.data();
  a.y = y.data();
  a.running_mean = mean.data();
  a.running_var = var.data();
  plan.infer(a);
  a.y = expected.data();
  REQUIRE(bnorm_infer(plan.get(), &a) == BNORM_OK);
  CHECK(y == expected);
  bnorm_normalize_args normalize = BNORM_NORMALIZE_ARGS_INIT;
  normalize.x = x.data();
  normalize.y = y_prepared.data();
  prepared.normalize(normalize);
  CHECK(y_prepared == expected);
  static_assert(!std::is_constructible_v<bnorm::Prepared, bnorm::Plan, bnorm_prepare_args>);
  const std::string text = plan.describe();
  CHECK(text.size() == bnorm_plan_describe(plan.get(), nullptr, 0));
  CHECK(text.find("channels 5") != std::string::npos);
}

TEST_CASE("hpp: sizes are those of the C calls") {
  bnorm_desc desc = bnorm::make_desc(kBatch, kChannels, kSpatial);
  desc.activation = BNORM_RELU;
  desc.from_mask = 1;
  const bnorm::Plan plan(desc);
  CHECK(plan.mask_size() == bnorm_plan_mask_size(plan.get()));
  CHECK(plan.mask_size() > 0);
  CHECK(plan.partials_count() == bnorm_plan_partials_count(plan.get()));
  CHECK(plan.exchange_count(3) == bnorm_plan_exchange_count(plan.get(), 3));
  CHECK(plan.exchange_count(3) > plan.exchange_count(1));
}

TEST_CASE("hpp: a refused call throws with status and message") {
  const auto no_plan = thrown_by<bnorm::Error>([] { const bnorm::Plan plan(bnorm::make_desc(1, -1)); });
  CHECK(no_plan.status() == BNORM_INVALID_ARGUMENT);
  CHECK(std::string(no_plan.what()).find("channels") != std::string::npos);

  const bnorm::Plan plan(bnorm::make_desc(kBatch, kChannels, kSpatial));
  const auto no_x = thrown_by<bnorm::Error>([&] { plan.train(BNORM_TRAIN_ARGS_INIT); });
  CHECK(no_x.status() == BNORM_INVALID_ARGUMENT);
  CHECK(std::string(no_x.what()).find("x") != std::string::npos);

  std::vector<double> small(plan.partials_count() - 1);
  const auto short_span = thrown_by<std::invalid_argument>([&] { plan.moments(BNORM_TRAIN_ARGS_INIT, small); });
  CHECK(std::string(short_span.what()).find("partials") != std::string::npos);
}

}  // namespace bnorm_tests::test_cpp_face
