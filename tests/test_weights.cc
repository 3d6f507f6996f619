// SPDX-License-Identifier: Apache-2.0
// Weights, masks and lengths: what they mean, beside the bounds that the grid checks them against.
#include <bnorm/bnorm.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "isas.hh"
#include "plan.hh"
#include "problem.hh"
#include "random.hh"
#include "refusal.hh"

namespace bnorm_tests::test_weights {
namespace {

constexpr Operation kCounting[] = {Operation::kTrain, Operation::kParts, Operation::kBackward,
                                   Operation::kBackwardParts};

Case case_of(const Shape& shape, bnorm_type data, Layout layout, Weights weights, uint64_t seed) {
  Case c;
  c.shape = shape;
  c.data = data;
  c.param = data == BNORM_F64 ? BNORM_F64 : BNORM_F32;
  c.layout = layout;
  c.weights = weights;
  c.mode = shape.g > 1 ? BNORM_RUNNING_PER_GROUP : BNORM_RUNNING_UNSET;
  c.seed = seed;
  return c;
}

/// Calls visit(case) for problems of every family; all combinations of type, layout and activation, or of smaller
/// shapes as many as make every two meet. Two shapes have more than one block.
template <class Visit>
void each_case(Weights weights, bool all, Visit visit) {
  constexpr Shape kShapes[] = {{1, 5, 3, 49}, {2, 40, 70, 3}, {1, 1300, 20, 1}, {2, 2, 5, 700}};
  constexpr Shape kSmaller[] = {{1, 5, 3, 49}, {2, 12, 18, 3}, {1, 1040, 20, 1}, {2, 2, 5, 550}};
  constexpr bnorm_type kTypes[] = {BNORM_F32, BNORM_F64, BNORM_BF16};
  constexpr Layout kLayouts[] = {Layout::kPlanar, Layout::kChannelsLast, Layout::kPermuted};
  constexpr bnorm_activation kActivations[] = {BNORM_IDENTITY, BNORM_RELU, BNORM_SILU};
  uint64_t seed = 0;
  for (const Shape& shape : all ? kShapes : kSmaller)
    for (size_t type = 0; type < 3; ++type)
      for (size_t layout = 0; layout < 3; ++layout)
        for (size_t activation = 0; activation < 3; ++activation) {
          Case c = case_of(shape, kTypes[type], kLayouts[layout], weights, ++seed);
          c.activation = kActivations[activation];
          c.residual = seed % 2 == 0;
          if (all || activation == (type + layout) % 3) visit(c);
        }
}

/// Train's or backward's arguments of problems in f64 made by hand: one group, [N][C][S].
struct Small {
  int64_t batch, channels = 2, spatial;
  bnorm_weighting weighting;
  std::vector<double> x, weights, dy;
  std::vector<double> y, dx, dscale, dshift, mean, inv_std, running_mean, running_var;

  Small(int64_t n, int64_t s, bnorm_weighting kind) : batch(n), spatial(s), weighting(kind) {
    Random random(3);
    x = normals<double>(random, n * channels * s, 5);
    dy = normals<double>(random, n * channels * s);
    for (int64_t i = 0; i < n * s; ++i) weights.push_back(static_cast<double>(random.below(4)));
    clear();
  }
  void clear() {
    y.assign(x.size(), -7);
    dx = y;
    for (auto* a : {&dscale, &dshift, &mean, &inv_std, &running_mean, &running_var})
      a->assign(static_cast<size_t>(channels), -7);
  }
  PlanPointer plan() const {
    bnorm_desc d = BNORM_DESC_INIT;
    d.data_type = BNORM_F64;
    d.batch = batch;
    d.channels = channels;
    d.spatial = spatial;
    d.weighting = weighting;
    return make_plan(d);
  }
  bnorm_train_args train_args() {
    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    t.x = x.data();
    t.y = y.data();
    t.mean = mean.data();
    t.inv_std = inv_std.data();
    t.running_mean = running_mean.data();
    t.running_var = running_var.data();
    t.average_factor = 1;
    if (weighting) t.weights = weights.data();
    return t;
  }
  bnorm_backward_args backward_args() {
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    b.x = x.data();
    b.dy = dy.data();
    b.mean = mean.data();
    b.inv_std = inv_std.data();
    b.dx = dx.data();
    b.dscale = dscale.data();
    b.dshift = dshift.data();
    if (weighting) b.weights = weights.data();
    return b;
  }
  void run() {
    const PlanPointer p = plan();
    const bnorm_train_args t = train_args();
    REQUIRE(bnorm_train(p.get(), &t) == BNORM_OK);
    const bnorm_backward_args b = backward_args();
    REQUIRE(bnorm_backward(p.get(), &b) == BNORM_OK);
  }
  double& weight_of(size_t element) {
    const auto s = static_cast<size_t>(spatial), cs = static_cast<size_t>(channels) * s;
    return weights[element / cs * s + element % s];
  }
};

void check_close(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - b[i]) <= tolerance);
}

int32_t gather_alone(void*, const double* sent, double* received, int64_t count) {
  std::memcpy(received, sent, static_cast<size_t>(count) * sizeof(double));
  return 0;
}

/// sum(dy * y) of one channel, in long double.
long double loss(Small& p, const std::vector<long double>& x, int64_t channel) {
  long double count = 0, mean = 0, var = 0, sum = 0;
  const auto each = [&](auto visit) {
    for (size_t i = 0; i < x.size(); ++i)
      if (static_cast<int64_t>(i) / p.spatial % p.channels == channel)
        visit(i, static_cast<long double>(p.weight_of(i)));
  };
  each([&](size_t, long double w) { count += w; });
  each([&](size_t i, long double w) { mean += w * x[i] / count; });
  each([&](size_t i, long double w) { var += w * (x[i] - mean) * (x[i] - mean) / count; });
  each([&](size_t i, long double) { sum += p.dy[i] * (x[i] - mean) / std::sqrt(var + 1e-5L); });
  return sum;
}

/// Weights of 1 give the bits of no weights.
void check_ones(bool all) {
  each_case(Weights::kOnes, all, [](const Case& ones) {
    Case none = ones;
    none.weights = Weights::kNone;
    INFO(describe(ones));
    const Problem a(ones), b(none);
    for (const std::string& isa : isas()) {
      INFO(isa);
      const IsaScope scope(isa);
      for (const Operation operation : kCounting)
        CHECK(difference(a.run(operation, BNORM_SERIAL), b.run(operation, BNORM_SERIAL)) == "");
    }
  });
}

/// What has no weight may hold anything, NaN too.
void check_padding(bool all) {
  each_case(Weights::kLengths, all, [](const Case& c) {
    INFO(describe(c));
    const Problem clean(c);
    Problem padded(c);
    Inputs& in = padded.inputs();
    std::vector<bool> counted(in.x.size(), false);
    for (int64_t g = 0; g < c.shape.g; ++g)
      for (int64_t channel = 0; channel < c.shape.c; ++channel)
        clean.each_counted(g, channel, [&](size_t i, double) { counted[i] = true; });
    for (auto* values : {&in.x, &in.dy, &in.y, &in.residual})
      for (size_t i = 0; i < values->size(); ++i)
        if (!counted[i]) (*values)[i] = std::nan("");
    for (const std::string& isa : isas()) {
      INFO(isa);
      const IsaScope scope(isa);
      for (const Operation operation : kCounting) {
        Outputs a = clean.run(operation, BNORM_SERIAL), b = padded.run(operation, BNORM_SERIAL);
        for (auto* values : {&a.y, &b.y, &a.dx, &b.dx, &a.dresidual, &b.dresidual})
          for (size_t i = 0; i < values->size(); ++i)
            if (!counted[i]) (*values)[i] = 0;
        CHECK(difference(a, b) == "");
      }
    }
  });
}

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("weights: of 1 give the bits of no weights, a few") { check_ones(false); }
  TEST_CASE("weights: what has none may hold anything, NaN too, a few") { check_padding(false); }
}

TEST_CASE("weights: of 1 give the bits of no weights") { check_ones(true); }
TEST_CASE("weights: what has none may hold anything, NaN too") { check_padding(true); }

TEST_CASE("weights: frequencies count a value as often, for running_var too") {
  Small weighted(9, 4, BNORM_FREQUENCY_WEIGHTS);
  weighted.run();
  Small repeated(0, 1, BNORM_UNWEIGHTED);
  for (size_t i = 0; i < weighted.weights.size(); ++i)
    for (int k = 0; k < static_cast<int>(weighted.weights[i]); ++k, ++repeated.batch)
      for (size_t c = 0; c < 2; ++c) repeated.x.push_back(weighted.x[i / 4 * 8 + c * 4 + i % 4]);
  repeated.dy.assign(repeated.x.size(), 0);
  repeated.clear();
  repeated.run();
  check_close(weighted.mean, repeated.mean, 1e-14);
  check_close(weighted.inv_std, repeated.inv_std, 1e-14);
  check_close(weighted.running_var, repeated.running_var, 1e-14);
}

TEST_CASE("weights: reliabilities have no unit, and equal ones count values") {
  Small p(9, 4, BNORM_RELIABILITY_WEIGHTS);
  p.run();
  Small larger = p;
  for (double& w : larger.weights) w *= 1024;
  larger.run();
  CHECK(p.mean == larger.mean);
  CHECK(p.running_var == larger.running_var);
  CHECK(p.dx == larger.dx);
  Small equal = p, none(9, 4, BNORM_UNWEIGHTED);
  equal.weights.assign(equal.weights.size(), 0.3);
  equal.run();
  none.run();
  check_close(equal.running_var, none.running_var, 1e-14);
  // Of one value there is no unbiased variance; of two of one weight there is.
  equal.weights.assign(equal.weights.size(), 0);
  equal.weights[3] = 0.3;
  equal.run();
  CHECK(equal.running_var[0] == 0);
  equal.weights[4] = 0.3;
  equal.run();
  const double d = equal.x[3] - equal.x[8];
  CHECK(std::fabs(equal.running_var[0] - d * d / 2) <= 1e-14);
}

TEST_CASE("weights: gradients are those of the loss") {
  for (const bnorm_weighting weighting : {BNORM_FREQUENCY_WEIGHTS, BNORM_RELIABILITY_WEIGHTS}) {
    Small p(7, 3, weighting);
    for (size_t i = 0; i < p.dy.size(); ++i)
      if (p.weight_of(i) == 0) p.dy[i] = 0;
    p.run();
    std::vector<long double> x(p.x.begin(), p.x.end());
    for (size_t i = 0; i < x.size(); ++i) {
      const int64_t channel = static_cast<int64_t>(i) / p.spatial % p.channels;
      constexpr long double h = 1e-5L;
      const long double middle = x[i];
      x[i] = middle + h;
      const long double above = loss(p, x, channel);
      x[i] = middle - h;
      const long double below = loss(p, x, channel);
      x[i] = middle;
      CHECK(std::fabs(p.dx[i] - (above - below) / (2 * h)) <= 1e-8L);
    }
  }
}

TEST_CASE("weights: none above 0") {
  Small p(3, 5, BNORM_FREQUENCY_WEIGHTS);
  p.weights.assign(p.weights.size(), 0);
  p.run();
  for (size_t c = 0; c < 2; ++c) {
    CHECK(p.mean[c] == 0);
    CHECK(p.inv_std[c] == 0);
    CHECK(p.running_mean[c] == -7);
    CHECK(p.running_var[c] == -7);
    CHECK(p.dscale[c] == 0);
    CHECK(p.dshift[c] == 0);
  }
  for (size_t i = 0; i < p.y.size(); ++i) {
    CHECK(p.y[i] == 0);
    CHECK(p.dx[i] == 0);
  }
}

namespace {

/// The second group of a problem of two that share parameters.
Problem second_group(const Problem& both) {
  Case c = both.config();
  c.shape.g = 1;
  Problem r(c);
  r.inputs() = both.inputs();
  Inputs& in = r.inputs();
  const auto drop_first = [](auto& v) { v.erase(v.begin(), v.begin() + std::ssize(v) / 2); };
  for (auto* values : {&in.x, &in.residual, &in.dy, &in.y, &in.mean, &in.inv_std, &in.weights}) drop_first(*values);
  drop_first(in.lengths);
  return r;
}

}  // namespace

TEST_CASE("weights: a group that counts nothing gives its shift and residual through the activation") {
  for (const std::string& isa : isas())
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
      INFO(isa, layout == Layout::kPlanar ? " planar" : " channels-last");
      const IsaScope scope(isa);
      Case c = case_of({2, 3, 5, 4}, BNORM_F32, layout, Weights::kLengths, 12);
      c.mode = BNORM_RUNNING_SEQUENTIAL;
      c.activation = BNORM_RELU;
      c.residual = true;
      Problem both(c);
      Inputs& in = both.inputs();
      const size_t group = in.x.size() / 2;
      const auto z = [&](size_t i) { return rounded(BNORM_F32, in.shift[i / 4 % 5] + in.residual[i]); };
      std::fill_n(in.lengths.begin(), 3, 0);
      std::fill_n(in.weights.begin(), 12, 0);
      std::fill_n(in.mean.begin(), 5, 0);
      std::fill_n(in.inv_std.begin(), 5, 0);
      for (size_t i = 0; i < group; ++i) in.y[i] = std::max(z(i), 0.0);
      const Problem second = second_group(both);
      const Outputs trained = both.run(Operation::kTrain, BNORM_SERIAL);
      const Outputs trained_second = second.run(Operation::kTrain, BNORM_SERIAL);
      const Outputs gradients = both.run(Operation::kBackward, BNORM_SERIAL);
      const Outputs gradients_second = second.run(Operation::kBackward, BNORM_SERIAL);
      CHECK(trained.running_mean == trained_second.running_mean);
      CHECK(trained.running_var == trained_second.running_var);
      CHECK(gradients.dscale == gradients_second.dscale);
      CHECK(gradients.dshift == gradients_second.dshift);
      for (size_t i = 0; i < group; ++i) {
        CHECK(trained.y[i] == std::max(z(i), 0.0));
        CHECK(gradients.dx[i] == 0);
        CHECK(gradients.dresidual[i] == (z(i) > 0 ? in.dy[i] : 0));
        CHECK(trained.y[group + i] == trained_second.y[i]);
        CHECK(gradients.dx[group + i] == gradients_second.dx[i]);
      }
      for (size_t k = 0; k < 5; ++k) CHECK((trained.mean[k] == 0 && trained.inv_std[k] == 0));
    }
}

TEST_CASE("weights: parts of whole blocks, merged, and an exchange give the bits of one call") {
  for (const bnorm_weighting weighting : {BNORM_FREQUENCY_WEIGHTS, BNORM_RELIABILITY_WEIGHTS}) {
    Small whole(9000, 1, weighting);
    Random random(6);
    for (double& w : whole.weights) w *= random.uniform();
    whole.run();
    const PlanPointer plan = whole.plan();
    const size_t count = bnorm_plan_partials_count(plan.get());
    REQUIRE(count == (weighting == BNORM_RELIABILITY_WEIGHTS ? 6 : 5));
    std::vector<std::vector<double>> parts;
    for (int64_t from = 0; from < whole.batch; from += 1024) {
      bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
      t.batch = std::min<int64_t>(1024, whole.batch - from);
      t.x = whole.x.data() + from * 2;
      t.weights = whole.weights.data() + from;
      parts.emplace_back(count);
      REQUIRE(bnorm_moments(plan.get(), &t, parts.back().data()) == BNORM_OK);
    }
    std::vector<const double*> pointers;
    for (const auto& part : parts) pointers.push_back(part.data());
    std::vector<double> merged(count);
    REQUIRE(bnorm_moments_merge(plan.get(), 9, pointers.data(), merged.data(), nullptr) == BNORM_OK);
    Small joined = whole;
    joined.clear();
    bnorm_train_args t = joined.train_args();
    t.x = t.y = nullptr;
    t.weights = nullptr;
    REQUIRE(bnorm_moments_finalize(plan.get(), merged.data(), &t) == BNORM_OK);
    CHECK(joined.mean == whole.mean);
    CHECK(joined.inv_std == whole.inv_std);
    CHECK(joined.running_var == whole.running_var);

    Small exchanged = whole;
    exchanged.clear();
    bnorm_exchange exchange = BNORM_EXCHANGE_INIT;
    exchange.allgather = gather_alone;
    std::vector<double> buffer(bnorm_plan_exchange_count(plan.get(), 1));
    exchange.buffer = buffer.data();
    exchange.buffer_count = static_cast<int64_t>(buffer.size());
    bnorm_train_args e = exchanged.train_args();
    e.exchange = &exchange;
    REQUIRE(bnorm_train(plan.get(), &e) == BNORM_OK);
    bnorm_backward_args b = exchanged.backward_args();
    b.exchange = &exchange;
    REQUIRE(bnorm_backward(plan.get(), &b) == BNORM_OK);
    CHECK(exchanged.y == whole.y);
    CHECK(exchanged.running_var == whole.running_var);
    CHECK(exchanged.dx == whole.dx);
    CHECK(exchanged.dscale == whole.dscale);
  }
}

TEST_CASE("weights: NaN without weight and without dy has no gradient") {
  Small p(4, 3, BNORM_FREQUENCY_WEIGHTS);
  for (size_t i = 0; i < p.x.size(); ++i)
    if (p.weight_of(i) == 0) p.x[i] = std::nan(""), p.dy[i] = 0;
  p.run();
  for (size_t i = 0; i < p.dx.size(); ++i) CHECK((p.weight_of(i) == 0 ? p.dx[i] == 0 : std::isfinite(p.dx[i])));
}

TEST_CASE("weights: blocks of channels share them") {
  constexpr int64_t batch = 3, channels = 16, spatial = 10;
  Random random(5);
  const std::vector<float> x = normals<float>(random, batch * channels * spatial);
  std::vector<float> weights, blocked(x.size()), y(x.size()), y_blocked(x.size());
  for (int64_t i = 0; i < batch * spatial; ++i) weights.push_back(static_cast<float>(random.below(3)));
  const auto at_block = [&](size_t i) {
    const size_t n = i / 160, c = i / 10 % 16, s = i % 10;
    return n * 160 + c / 8 * 80 + s * 8 + c % 8;
  };
  for (size_t i = 0; i < x.size(); ++i) blocked[at_block(i)] = x[i];
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = batch;
  d.channels = channels;
  d.spatial = spatial;
  d.weighting = BNORM_RELIABILITY_WEIGHTS;
  std::vector<float> running[2];
  for (const int32_t block : {0, 8}) {
    d.channel_block = block;
    const PlanPointer plan = make_plan(d);
    running[block / 8].assign(channels, 1);
    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    t.x = (block ? blocked : x).data();
    t.y = (block ? y_blocked : y).data();
    t.running_var = running[block / 8].data();
    t.weights = weights.data();
    REQUIRE(bnorm_train(plan.get(), &t) == BNORM_OK);
  }
  for (size_t i = 0; i < x.size(); ++i) CHECK(y[i] == y_blocked[at_block(i)]);
  CHECK(running[0] == running[1]);
}

TEST_CASE("weights: an empty batch of several groups needs none") {
  bnorm_desc d = BNORM_DESC_INIT;
  d.groups = 2;
  d.batch = 3;
  d.channels = 2;
  d.weighting = BNORM_RELIABILITY_WEIGHTS;
  const PlanPointer plan = make_plan(d);
  std::vector<double> moments(bnorm_plan_partials_count(plan.get()), -1);
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.batch = 0;
  REQUIRE(bnorm_moments(plan.get(), &t, moments.data()) == BNORM_OK);
  CHECK(moments == std::vector<double>(moments.size(), 0));
}

TEST_CASE("weights: refusals") {
  Small p(3, 5, BNORM_RELIABILITY_WEIGHTS);
  const PlanPointer plan = p.plan();
  const auto train = [&](const PlanPointer& with, auto change, std::initializer_list<const char*> words) {
    p.clear();
    const std::vector<double> before = p.y;
    bnorm_train_args t = p.train_args();
    change(t);
    check_refusal(bnorm_train(with.get(), &t), BNORM_INVALID_ARGUMENT, nullptr, words);
    CHECK(p.y == before);
    CHECK(p.running_mean[0] == -7);
  };
  std::vector<int64_t> lengths = {0, 5, 3};
  for (const double wrong : {-1.0, std::nan(""), HUGE_VAL, 0x1p-65, 0x1p65}) {
    const double right = p.weights[7];
    p.weights[7] = wrong;
    train(plan, [](auto&) {}, {"weights[7] = ", "0 or in [2^-64, 2^64]"});
    bnorm_backward_args b = p.backward_args();
    check_refusal(bnorm_backward(plan.get(), &b), BNORM_INVALID_ARGUMENT, nullptr, {"weights[7] = "});
    CHECK(p.dx[0] == -7);
    p.weights[7] = right;
  }
  const auto take_lengths = [&](bnorm_train_args& t) {
    t.weights = nullptr;
    t.lengths = lengths.data();
  };
  for (const int64_t wrong : {-1, 6}) {
    lengths[2] = wrong;
    train(plan, take_lengths, {"lengths[2] = ", "[0, 5]"});
  }
  train(plan, [](auto& t) { t.weights = nullptr; }, {"weights = NULL"});
  train(plan, [&](auto& t) { t.lengths = lengths.data(); }, {"lengths = ", "NULL where weights are given"});
  train(plan, [&](auto& t) { t.y = p.weights.data(); }, {"y = ", "overlaps weights"});
  train(plan, [&](auto& t) { t.weights = nullptr, t.lengths = reinterpret_cast<int64_t*>(p.y.data()); },
        {"y = ", "overlaps lengths"});
  train(plan,
        [&](auto& t) {
          t.weights = nullptr;
          t.lengths = reinterpret_cast<int64_t*>(reinterpret_cast<char*>(lengths.data()) + 4);
        },
        {"lengths = ", "aligned"});
  bnorm_desc none = BNORM_DESC_INIT;
  none.data_type = BNORM_F64;
  none.batch = 3;
  none.channels = 2;
  none.spatial = 5;
  const PlanPointer unweighted = make_plan(none);
  train(unweighted, [](auto&) {}, {"weights = ", "must be NULL"});
  train(unweighted, take_lengths, {"lengths = ", "must be NULL"});

  std::vector<double> partials(bnorm_plan_partials_count(plan.get()), 1);
  partials.back() = -1;
  bnorm_train_args t = p.train_args();
  t.x = t.y = nullptr;
  check_refusal(bnorm_moments_finalize(plan.get(), partials.data(), &t), BNORM_INVALID_ARGUMENT, nullptr,
                {"weights = ", "must be NULL"});
  t.weights = nullptr;
  check_refusal(bnorm_moments_finalize(plan.get(), partials.data(), &t), BNORM_INVALID_ARGUMENT, nullptr,
                {"moments[5] = -1", "sum of squares"});
}

}  // namespace bnorm_tests::test_weights
