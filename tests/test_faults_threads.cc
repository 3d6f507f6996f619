// SPDX-License-Identifier: Apache-2.0
// Published faults: threads.
#include <algorithm>
#include <atomic>
#include <thread>

#include "executors.hh"
#include "faults.hh"

namespace bnorm_tests::test_faults_threads {
namespace {

/// Large enough to be shared out; four blocks of the order of reduction.
Case large_case(Layout layout) {
  Case c = case_of({1, 64, 33, 64}, layout);
  c.activation = BNORM_RELU;
  return c;
}

constexpr Operation kSteps[] = {Operation::kInfer, Operation::kTrain, Operation::kBackward};

}  // namespace

// uxlfoundation/oneDNN#354: sums in an order that depends on the number of threads.
TEST_CASE("fault: results depend on the number of threads") {
  for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
    const Problem p(large_case(layout));
    for (const Operation operation : kSteps) {
      const Outputs serial = run(p, operation);
      for (const Executor& executor : executors())
        executor.with([&](const bnorm_executor* e) {
          INFO(executor.name);
          CHECK(difference(p.run(operation, e), serial) == "");
        });
    }
  }
}

// uxlfoundation/oneDNN#284, pytorch/pytorch#53691: a race, or atomics in any order.
TEST_CASE("fault: results differ from run to run") {
  CustomExecutor at_once(Manner::kAtOnce, 8);
  for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
    const Problem p(large_case(layout));
    for (const Operation operation : kSteps) {
      const Outputs first = p.run(operation, at_once.get());
      for (int again = 0; again < 4; ++again) CHECK(difference(p.run(operation, at_once.get()), first) == "");
    }
  }
  CHECK(at_once.most_tasks() > 1);
}

// uxlfoundation/oneDNN#227: one object may not run in two threads.
TEST_CASE("fault: two threads spoil each other's results on one plan") {
  constexpr int64_t kChannels = 48, kBatch = 400;
  bnorm_desc d = BNORM_DESC_INIT;
  d.batch = kBatch;
  d.channels = kChannels;
  const PlanPointer plan = make_plan(d);
  std::atomic<int> ready{0}, wrong{0};
  // In thread t the values of channel c are c + t and c - t in turn: mean c, variance t * t.
  const auto work = [&](int t) {
    std::vector<float> x(kBatch * kChannels), y = x;
    std::vector<double> means;
    const auto is_near = [&](double inv_std) { return is_inverse_root(inv_std, t * t + d.epsilon); };
    for (int64_t i = 0; i < kBatch * kChannels; ++i)
      x[static_cast<size_t>(i)] = static_cast<float>(i % kChannels + (i / kChannels % 2 == 0 ? t : -t));
    for (int64_t c = 0; c < kChannels; ++c) means.push_back(static_cast<double>(c));
    ++ready;
    while (ready < 2) std::this_thread::yield();
    for (int i = 0; i < 300; ++i) {
      std::vector<double> mean(kChannels), inv_std(kChannels);
      bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
      a.x = x.data();
      a.y = y.data();
      a.mean = mean.data();
      a.inv_std = inv_std.data();
      a.executor = i % 2 == 0 ? nullptr : BNORM_SERIAL;
      if (bnorm_train(plan.get(), &a) != BNORM_OK || mean != means ||
          !std::all_of(inv_std.begin(), inv_std.end(), is_near))
        ++wrong;
    }
  };
  std::thread one(work, 1), two(work, 2);
  one.join();
  two.join();
  CHECK(wrong == 0);
}

// tile-ai/TileOPs#1727: some threads applied momentum twice; apache/mxnet#18610: the update was not finished when the
// call returned.
TEST_CASE("fault: running statistics are updated twice, or after the call") {
  for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast}) {
    Case c = case_of({1, 4, 1024, 32}, layout);
    c.mu = 3;
    const Problem p(c);
    const Outputs once = check_bounds(p, Operation::kTrain);
    for (size_t i = 0; i < 1024; ++i) {
      const double before = p.inputs().running_mean[i];
      CHECK(once.running_mean[i] == static_cast<float>(before + 0.1 * (once.mean[i] - before)));
    }
    for (const Executor& executor : executors())
      executor.with([&](const bnorm_executor* e) {
        INFO(executor.name);
        CHECK(difference(p.run(Operation::kTrain, e), once) == "");
      });
  }
}

}  // namespace bnorm_tests::test_faults_threads
