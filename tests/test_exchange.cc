// SPDX-License-Identifier: Apache-2.0
// Statistics over several ranks, here threads: against one process on the joined batch, and ranks that fail.
#include <doctest/doctest.h>

#include <barrier>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "plan.hh"
#include "random.hh"
#include "refusal.hh"

namespace bnorm_tests::test_exchange {
namespace {

/// An allgather between threads.
class Ranks {
 public:
  explicit Ranks(int ranks, int32_t result = 0)
      : result_(result),
        sent_(static_cast<size_t>(ranks)),
        messages_(sent_.size()),
        barrier_(static_cast<std::ptrdiff_t>(ranks)) {}

  /// Runs call(rank, exchange) on a thread each.
  template <class Call>
  void run(const bnorm_plan* plan, const Call& call) {
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < sent_.size(); ++rank)
      threads.emplace_back([&, rank] {
        Place place = {this, rank};
        std::vector<double> buffer(bnorm_plan_exchange_count(plan, count()));
        bnorm_exchange exchange = BNORM_EXCHANGE_INIT;
        exchange.ranks = count();
        exchange.context = &place;
        exchange.allgather = allgather;
        exchange.buffer = buffer.data();
        exchange.buffer_count = static_cast<int64_t>(buffer.size());
        call(rank, &exchange);
      });
    for (std::thread& t : threads) t.join();
  }
  /// Doubles in the messages that a rank has sent, one entry a message.
  const std::vector<int64_t>& messages(size_t rank) const { return messages_[rank]; }

 private:
  struct Place {
    Ranks* ranks;
    size_t rank;
  };
  int32_t count() const { return static_cast<int32_t>(sent_.size()); }
  static int32_t allgather(void* context, const double* sent, double* received, int64_t count) {
    const Place& place = *static_cast<const Place*>(context);
    Ranks& all = *place.ranks;
    const auto size = static_cast<size_t>(count);
    all.sent_[place.rank].assign(sent, sent + size);
    all.messages_[place.rank].push_back(count);
    all.barrier_.arrive_and_wait();
    for (size_t r = 0; r < all.sent_.size(); ++r)
      std::copy(all.sent_[r].begin(), all.sent_[r].end(), received + r * size);
    all.barrier_.arrive_and_wait();
    return all.result_;
  }

  int32_t result_;
  std::vector<std::vector<double>> sent_;
  std::vector<std::vector<int64_t>> messages_;
  std::barrier<> barrier_;
};

constexpr int64_t kGroups = 2, kChannels = 70, kSpatial = 16;  // more channels than are merged at a time

/// What a call is besides a step with ReLU.
enum class Kind { kPlain, kFromOutput, kFromMask, kRenorm, kFrozen, kBlocked };

/// A joined batch [G][N][C][S] and what is made of it; a rank's part are some samples of every group. kBlocked: blocks
/// of channels, [N][C / 8][S][8].
struct Batch {
  int64_t samples;
  bnorm_layout layout;
  Kind kind;
  int64_t groups, channels;
  std::vector<float> x, dy, y, dx;
  std::vector<float> scale, shift, weights;  // weights: of reliability, or none

  Batch(int64_t n, bnorm_layout l, bool weighted = false, Kind k = Kind::kPlain)
      : samples(n),
        layout(l),
        kind(k),
        groups(k == Kind::kBlocked ? 1 : kGroups),
        channels(k == Kind::kBlocked ? 16 : kChannels) {
    Random random(7);
    for (int64_t i = 0; weighted && i < groups * n * kSpatial; ++i)
      weights.push_back(static_cast<float>(random.below(4)) * 0.3F);
    x = normals<float>(random, elements(), 3);
    dy = normals<float>(random, elements());
    scale = normals<float>(random, channels, 1);
    shift = normals<float>(random, channels);
    y.resize(x.size());
    dx.resize(x.size());
  }
  int64_t elements() const { return groups * offset(samples); }
  int64_t offset(int64_t sample) const { return sample * channels * kSpatial; }

  PlanPointer plan(const bnorm_allocator* allocator = nullptr) const {
    bnorm_desc d = BNORM_DESC_INIT;
    d.groups = groups;
    d.batch = samples;
    d.channels = channels;
    d.spatial = kSpatial;
    d.activation = kind == Kind::kFromOutput ? BNORM_LEAKY_RELU : BNORM_RELU;
    d.running_mode = BNORM_RUNNING_SEQUENTIAL;
    d.allocator = allocator;
    d.weighting = weights.empty() ? BNORM_UNWEIGHTED : BNORM_RELIABILITY_WEIGHTS;
    d.from_output = kind == Kind::kFromOutput;
    d.from_mask = kind == Kind::kFromMask;
    d.renorm = kind == Kind::kRenorm;
    d.frozen = kind == Kind::kFrozen;
    if (kind == Kind::kBlocked)
      d.channel_block = 8;
    else
      REQUIRE(bnorm_desc_set_layout(&d, layout) == BNORM_OK);
    return make_plan(d);
  }
};

/// What a rank gets besides its part of y and dx.
struct Shared {
  std::vector<double> mean, inv_std, renorm_r, renorm_d;
  std::vector<float> running_mean, running_var, dscale, dshift;

  explicit Shared(const Batch& b)
      : mean(static_cast<size_t>(b.groups * b.channels)), running_mean(static_cast<size_t>(b.channels), 0.5F) {
    inv_std = renorm_r = renorm_d = mean;
    running_var = dscale = dshift = running_mean;
  }
  bool operator==(const Shared&) const = default;
};

struct Statuses {
  bnorm_status train, backward;
};

/// Samples [begin, end) of every group of the batch.
Statuses train_and_differentiate(const bnorm_plan* plan, Batch& b, int64_t begin, int64_t end, Shared& out,
                                 const bnorm_exchange* exchange) {
  const int64_t offset = b.offset(begin);
  const bool renorm = b.kind == Kind::kRenorm, frozen = b.kind == Kind::kFrozen;
  std::vector<unsigned char> mask(bnorm_plan_mask_size(plan));
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  t.batch = end - begin;
  t.x = b.x.data() + offset;
  t.y = b.y.data() + offset;
  t.scale = b.scale.data();
  t.shift = b.shift.data();
  t.mean = out.mean.data();
  t.inv_std = out.inv_std.data();
  t.running_mean = out.running_mean.data();
  t.running_var = out.running_var.data();
  t.executor = BNORM_SERIAL;
  t.exchange = exchange;
  if (!b.weights.empty() && end > begin) t.weights = b.weights.data() + begin * kSpatial;
  if (renorm) {
    t.renorm_r = out.renorm_r.data();
    t.renorm_d = out.renorm_d.data();
    t.renorm_r_max = t.renorm_d_max = 2;
  }
  if (!mask.empty()) t.mask = mask.data();
  Statuses s;
  s.train = bnorm_train(plan, &t);
  bnorm_backward_args a = BNORM_BACKWARD_ARGS_INIT;
  a.batch = t.batch;
  a.x = t.x;
  a.y = t.y;
  a.dy = b.dy.data() + offset;
  a.scale = t.scale;
  a.shift = t.shift;
  (frozen ? a.running_mean : a.mean) = frozen ? t.running_mean : t.mean;
  (frozen ? a.running_var : a.inv_std) = frozen ? t.running_var : t.inv_std;
  a.renorm_r = t.renorm_r;
  a.renorm_d = t.renorm_d;
  a.mask = t.mask;
  a.dx = b.dx.data() + offset;
  a.dscale = out.dscale.data();
  a.dshift = out.dshift.data();
  a.executor = BNORM_SERIAL;
  a.exchange = exchange;
  a.weights = t.weights;
  s.backward = bnorm_backward(plan, &a);
  return s;
}

/// All ranks' results; parts are [border[r], border[r + 1]).
std::vector<Shared> run_ranks(Batch& batch, const std::vector<int64_t>& border) {
  const PlanPointer plan = batch.plan();
  const int ranks = static_cast<int>(border.size()) - 1;
  std::vector<Shared> shared(static_cast<size_t>(ranks), Shared(batch));
  std::vector<Statuses> statuses(shared.size());
  Ranks all(ranks);
  all.run(plan.get(), [&](size_t r, const bnorm_exchange* exchange) {
    statuses[r] = train_and_differentiate(plan.get(), batch, border[r], border[r + 1], shared[r], exchange);
  });
  // One message forward, one backward: how the rank fares, and its partials.
  const int64_t message = 1 + static_cast<int64_t>(bnorm_plan_partials_count(plan.get()));
  for (size_t r = 0; r < shared.size(); ++r) CHECK(all.messages(r) == std::vector<int64_t>{message, message});
  for (const Statuses& s : statuses) {
    CHECK(s.train == BNORM_OK);
    CHECK(s.backward == BNORM_OK);
  }
  return shared;
}

double farthest(const std::vector<float>& a, const std::vector<float>& b) {
  double r = 0;
  for (size_t i = 0; i < a.size(); ++i) r = std::max(r, static_cast<double>(std::fabs(a[i] - b[i])));
  return r;
}

}  // namespace

namespace {

/// Ranks with whole blocks give the bits of one process.
void check_bits(int64_t ranks, bnorm_layout layout, bool weighted, Kind kind) {
  const int64_t part = 64, rest = 17;  // 64 samples of 16 positions are a block
  Batch one((ranks - 1) * part + rest, layout, weighted, kind), many = one;
  Shared expected(one);
  const Statuses s = train_and_differentiate(one.plan().get(), one, 0, one.samples, expected, nullptr);
  REQUIRE(s.train == BNORM_OK);
  REQUIRE(s.backward == BNORM_OK);
  std::vector<int64_t> border = {0};
  for (int64_t r = 1; r < ranks; ++r) border.push_back(r * part);
  border.push_back(one.samples);
  for (const Shared& shared : run_ranks(many, border)) CHECK(shared == expected);
  CHECK(many.y == one.y);
  CHECK(many.dx == one.dx);
}

}  // namespace

TEST_CASE("exchange: ranks with whole blocks give the bits of one process") {
  for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST})
    for (const int64_t ranks : {1, 2, 3, 4, 8}) check_bits(ranks, layout, ranks % 2 == 0, Kind::kPlain);
}

TEST_CASE("exchange: the same from outputs, masks, renormalized, frozen and in blocks of channels") {
  for (const Kind kind : {Kind::kFromOutput, Kind::kFromMask, Kind::kRenorm, Kind::kFrozen, Kind::kBlocked})
    for (const bool weighted : {false, true}) {
      CAPTURE(static_cast<int>(kind));
      check_bits(3, BNORM_PLANAR, weighted, kind);
      if (kind != Kind::kBlocked) check_bits(2, BNORM_CHANNELS_LAST, weighted, kind);
    }
}

TEST_CASE("exchange: unequal and empty parts give the joined batch, the same on every rank") {
  const std::vector<std::vector<int64_t>> borders = {
      {0, 0, 30}, {0, 1, 30}, {0, 13, 13, 30}, {0, 5, 6, 29, 30}, {0, 0, 3, 10, 11, 11, 20, 30, 30}};
  for (const std::vector<int64_t>& border : borders) {
    Batch one(30, BNORM_PLANAR, border.size() % 2 == 1), many = one;
    Shared expected(one);
    train_and_differentiate(one.plan().get(), one, 0, one.samples, expected, nullptr);
    const std::vector<Shared> shared = run_ranks(many, border);
    for (const Shared& s : shared) CHECK(s == shared.front());
    for (size_t i = 0; i < expected.mean.size(); ++i) {
      CHECK(std::fabs(shared[0].mean[i] - expected.mean[i]) <= 1e-14 * 10);
      CHECK(std::fabs(shared[0].inv_std[i] / expected.inv_std[i] - 1) <= 1e-13);
    }
    CHECK(farthest(many.y, one.y) <= 1e-5);  // of f32 statistics of z up to 10
    CHECK(farthest(many.dx, one.dx) <= 1e-5);
    CHECK(farthest(shared[0].dscale, expected.dscale) <= 1e-3 * 0.1);
    CHECK(farthest(shared[0].running_var, expected.running_var) <= 1e-6);
  }
}

TEST_CASE("exchange: no values on any rank") {
  Batch empty(30, BNORM_PLANAR);
  for (const Shared& s : run_ranks(empty, {0, 0, 0})) {
    CHECK(s.mean == std::vector<double>(kGroups * kChannels, 0));
    CHECK(s.running_mean == std::vector<float>(kChannels, 0.5F));
    CHECK(s.dscale == std::vector<float>(kChannels, 0));
  }
}

namespace {

int32_t broken_loop(void*, int64_t, bnorm_task, void*) { return 1; }

/// For the plan, and then no more.
void* allocate_once(void* context, size_t bytes) {
  return std::exchange(*static_cast<bool*>(context), true) ? nullptr : std::malloc(bytes);
}
void release(void*, void* pointer, size_t) { std::free(pointer); }

enum class Fault { kNone, kReserved, kError, kTail, kOverlap, kNegativeFactor, kExecutor, kMemory };

/// Calls call(args) after `fault` has got into them.
template <class Args, class Call>
bnorm_status call_with(Fault fault, Args args, const bnorm_executor* broken, Call call) {
  bnorm_error small = BNORM_ERROR_INIT;
  small.struct_size = 8;
  if (fault == Fault::kReserved) args.reserved = 1;
  if (fault == Fault::kError) args.error = &small;
  if (fault == Fault::kExecutor) args.executor = broken;
  struct {
    Args args;
    int64_t more;
  } later = {args, 1};
  if (fault == Fault::kTail) later.args.struct_size = sizeof later;
  return call(later.args);
}

/// One rank of three goes wrong in training, and in backward of what was given: it learns why, the others learn that,
/// and nobody has written anything.
void check_fault(Fault fault, bnorm_status own) {
  Batch batch(1800, BNORM_PLANAR);  // large enough for an executor
  const std::vector<float> before = batch.y;
  const PlanPointer plan = batch.plan();
  std::vector<bnorm_status> statuses(6);
  std::vector<std::string> messages(6);
  std::vector<Shared> shared(3, Shared(batch));
  bnorm_executor broken = BNORM_EXECUTOR_INIT;
  broken.concurrency = 2;
  broken.parallel_for = broken_loop;
  bool used = false;
  bnorm_allocator scarce = BNORM_ALLOCATOR_INIT;
  scarce.context = &used;
  scarce.allocate = allocate_once;
  scarce.release = release;
  const PlanPointer starved = batch.plan(&scarce);
  Ranks(3).run(plan.get(), [&](size_t r, const bnorm_exchange* exchange) {
    const int64_t offset = batch.offset(static_cast<int64_t>(r) * 600);
    const Fault mine = r == 1 ? fault : Fault::kNone;
    const bnorm_plan* const own_plan = mine == Fault::kMemory ? starved.get() : plan.get();
    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    t.batch = 600;
    t.x = batch.x.data() + offset;
    t.y = batch.y.data() + offset;
    t.mean = shared[r].mean.data();
    t.inv_std = shared[r].inv_std.data();
    t.running_mean = shared[r].running_mean.data();
    t.executor = BNORM_SERIAL;
    t.exchange = exchange;
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    b.batch = t.batch;
    b.x = t.x;
    b.dy = batch.dy.data() + offset;
    b.mean = t.mean;
    b.inv_std = t.inv_std;
    b.dx = batch.dx.data() + offset;
    b.dscale = shared[r].dscale.data();
    b.executor = BNORM_SERIAL;
    b.exchange = exchange;
    if (mine == Fault::kOverlap) {
      t.mean = t.y;
      b.dscale = b.dx;
    }
    if (mine == Fault::kNegativeFactor) t.average_factor = -0.5;
    statuses[r] = call_with(mine, t, &broken, [&](const auto& args) { return bnorm_train(own_plan, &args); });
    messages[r] = bnorm_last_error();
    if (mine == Fault::kNegativeFactor) b.batch = -2;  // which has no factor
    statuses[3 + r] = call_with(mine, b, &broken, [&](const auto& args) { return bnorm_backward(own_plan, &args); });
    messages[3 + r] = bnorm_last_error();
  });
  for (const size_t call : {0, 3}) {
    CHECK(statuses[call + 1] == own);
    if (fault == Fault::kExecutor) CHECK(messages[call + 1].find("nothing was written") != std::string::npos);
    for (const size_t other : {call, call + 2}) {
      CHECK(statuses[other] == BNORM_EXECUTION_FAILED);
      CHECK(messages[other].find("rank 1") != std::string::npos);
    }
  }
  CHECK(batch.y == before);
  CHECK(batch.dx == before);
  for (const Shared& s : shared) CHECK(s == Shared(batch));
}

}  // namespace

TEST_CASE("exchange: a rank that fails makes every rank return an error") {
  check_fault(Fault::kReserved, BNORM_INVALID_ARGUMENT);
  check_fault(Fault::kError, BNORM_INVALID_ARGUMENT);
  check_fault(Fault::kTail, BNORM_UNSUPPORTED);
  check_fault(Fault::kOverlap, BNORM_INVALID_ARGUMENT);
  check_fault(Fault::kNegativeFactor, BNORM_INVALID_ARGUMENT);
  check_fault(Fault::kExecutor, BNORM_EXECUTION_FAILED);
  check_fault(Fault::kMemory, BNORM_OUT_OF_MEMORY);
}

TEST_CASE("exchange: an allgather that fails") {
  Batch batch(4, BNORM_PLANAR);
  const PlanPointer plan = batch.plan();
  const std::vector<float> before = batch.y;
  Ranks(1, 77).run(plan.get(), [&](size_t, const bnorm_exchange* exchange) {
    Shared shared(batch);
    const Statuses s = train_and_differentiate(plan.get(), batch, 0, 4, shared, exchange);
    CHECK(s.train == BNORM_EXECUTION_FAILED);
    CHECK(s.backward == BNORM_EXECUTION_FAILED);
    CHECK(std::string(bnorm_last_error()).find("exchange.allgather = 77") != std::string::npos);
    CHECK(shared == Shared(batch));
  });
  CHECK(batch.y == before);
}

TEST_CASE("exchange: its rules") {
  Batch batch(4, BNORM_PLANAR);
  const PlanPointer plan = batch.plan();
  CHECK(bnorm_plan_exchange_count(plan.get(), 3) == 4 * (1 + kGroups + 2 * kGroups * kChannels));
  CHECK(bnorm_plan_exchange_count(plan.get(), 0) == 0);
  CHECK(bnorm_plan_exchange_count(nullptr, 3) == 0);
  Ranks(1).run(plan.get(), [&](size_t, const bnorm_exchange* good) {
    const auto refused = [&](auto change, const char* field) {
      bnorm_exchange e = *good;
      change(e);
      bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
      t.x = batch.x.data();
      t.y = batch.y.data();
      t.exchange = &e;
      check_refusal(bnorm_train(plan.get(), &t), BNORM_INVALID_ARGUMENT, nullptr, {field});
    };
    refused([](bnorm_exchange& e) { e.struct_size = 8; }, "exchange.struct_size");
    refused([](bnorm_exchange& e) { e.ranks = 0; }, "exchange.ranks");
    refused([](bnorm_exchange& e) { e.allgather = nullptr; }, "exchange.allgather");
    refused([](bnorm_exchange& e) { e.buffer = nullptr; }, "exchange.buffer");
    refused([](bnorm_exchange& e) { e.ranks = 2; }, "exchange.buffer_count");
    // A buffer that is not its own: not even the message that this rank withdraws may be written there.
    std::vector<double> taken(static_cast<size_t>(good->buffer_count), 0.25);
    const std::vector<double> before = taken;
    bnorm_exchange overlapping = *good;
    overlapping.buffer = taken.data();
    bnorm_train_args o = BNORM_TRAIN_ARGS_INIT;
    o.x = batch.x.data();
    o.y = batch.x.data() + 1;  // overlaps x as well
    o.running_mean = taken.data();
    o.exchange = &overlapping;
    check_refusal(bnorm_train(plan.get(), &o), BNORM_INVALID_ARGUMENT, nullptr, {"exchange.buffer", "running_mean"});
    CHECK(taken == before);
    double moments[kGroups + 2 * kGroups * kChannels];
    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    t.x = batch.x.data();
    t.exchange = good;
    check_refusal(bnorm_moments(plan.get(), &t, moments), BNORM_INVALID_ARGUMENT, nullptr, {"exchange"});
  });
}

}  // namespace bnorm_tests::test_exchange
