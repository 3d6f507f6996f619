// SPDX-License-Identifier: Apache-2.0
// The same inputs give the same bits, however the work is laid out, shared out or cut into calls.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <span>
#include <thread>

#include "executors.hh"
#include "isas.hh"
#include "options.hh"
#include "plan.hh"
#include "problem.hh"

namespace bnorm_tests::test_bits {
namespace {

constexpr Operation kAll[] = {Operation::kInfer, Operation::kPrepared, Operation::kTrain,
                              Operation::kParts, Operation::kBackward, Operation::kBackwardParts};

Outputs run_serial(const Problem& p, Operation operation) { return p.run(operation, BNORM_SERIAL); }

/// Shapes large enough that threads get work (768 KB and more), one for each way of splitting it.
std::vector<Case> large_cases() {
  // 300 groups: more than there are tasks.
  const Shape shapes[] = {{1, 64, 100, 49}, {1, 3, 33, 1024}, {2, 900, 17, 9},   {1, 9000, 15, 1}, {1, 2, 2, 40000},
                          {1, 1027, 64, 4}, {3, 90, 65, 16},  {1, 1, 1, 200001}, {1, 40, 4200, 3}, {300, 1, 8, 200}};
  const bnorm_type types[] = {BNORM_F32, BNORM_F64, BNORM_BF16, BNORM_F32, BNORM_F64, BNORM_F16};
  std::vector<Case> r;
  for (const Shape& shape : shapes) {
    Case c;
    c.shape = shape;
    c.seed = r.size() + 1;
    c.data = types[r.size() / 3 % 6];
    c.activation = static_cast<bnorm_activation>(r.size() * 2 / 3 % kActivations);
    c.residual = r.size() % 4 >= 2;
    c.mode = BNORM_RUNNING_SEQUENTIAL;
    if (shape.n * shape.s > 200000)
      c.data = BNORM_F32, c.weights = Weights::kFrequency;  // whose sums are shared out, too
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast, Layout::kMixed}) {
      c.layout = layout;
      r.push_back(c);
    }
  }
  Case renormalized = r[0], from_output = r[16];
  renormalized.renorm = true;
  from_output.renorm = from_output.from_output = true;
  from_output.activation = BNORM_LEAKY_RELU;
  from_output.residual = false;
  r.push_back(renormalized);
  r.push_back(from_output);
  return r;
}

/// One case for each kernel family and type, small; of 50 x 33 positions the third block begins with a strip of one.
std::vector<Case> small_cases() {
  const Shape shapes[] = {{2, 5, 3, 19},  {1, 70, 5, 4},   {1, 33, 20, 1},   {2, 9, 17, 7},  {1, 3, 2, 1500},
                          {1, 20, 48, 9}, {1, 50, 34, 33}, {1, 131, 101, 1}, {1, 45, 63, 3}, {1, 17, 127, 9},
                          {1, 64, 33, 2}, {2, 6, 700, 2},  {2, 1, 37, 1}};
  std::vector<Case> r;
  for (const Shape& shape : shapes)
    for (const bnorm_type data : {BNORM_F32, BNORM_F64, BNORM_BF16, BNORM_F16})
      for (const bool residual : {false, true}) {
        Case c;
        c.shape = shape;
        c.data = data;
        if (data == BNORM_BF16 && residual) c.output = BNORM_F32;
        if (data == BNORM_F16 && residual) c.output = BNORM_BF16;
        c.param = data == BNORM_F64 ? BNORM_F64 : BNORM_F32;
        c.residual = residual;
        c.from_residual = r.size() % 3 == 1;
        c.activation = static_cast<bnorm_activation>(r.size() % kActivations);
        c.mode = BNORM_RUNNING_MEAN;
        c.mu = 3;
        c.far = residual ? 1000 : 0;
        c.seed = r.size() + 11;
        r.push_back(c);
      }
  // Each shape once more renormalized, in f32, and backward from the output, in one of the other types.
  const bnorm_activation invertible[] = {BNORM_IDENTITY, BNORM_LEAKY_RELU, BNORM_ELU};
  for (size_t i = 0; i < std::size(shapes); ++i) {
    Case renormalized = r[8 * i], from_output = r[8 * i + 2 + 2 * (i % 3)];
    renormalized.renorm = true;
    from_output.from_output = true;
    from_output.renorm = i % 2 == 0;
    from_output.activation = invertible[i / 2 % 3];
    r.push_back(renormalized);
    r.push_back(from_output);
  }
  return r;
}

void check_same(const Case& a, const Case& b, Operation operation_a, Operation operation_b) {
  INFO("operations ", static_cast<int>(operation_a), " and ", static_cast<int>(operation_b));
  INFO(describe(a));
  INFO(describe(b));
  CHECK(difference(run_serial(Problem(a), operation_a), run_serial(Problem(b), operation_b)) == "");
}

/// On every ISA: what planar gives, channels-last gives.
void check_channels_last(const Case& planar) {
  Case other = planar;
  other.layout = Layout::kChannelsLast;
  const Problem a(planar), b(other);
  for (const std::string& isa : isas())
    for (const Operation operation : {Operation::kTrain, Operation::kBackward}) {
      INFO("ISA ", isa, " operation ", static_cast<int>(operation), ' ', describe(planar));
      const IsaScope scope(isa);
      CHECK(difference(run_serial(a, operation), run_serial(b, operation)) == "");
    }
}

float number(float, size_t i) { return static_cast<float>(i % 8191) - 4000; }
double number(double, size_t i) { return number(float(), i); }
/// Of bf16 or f16: positive, from 2^-7 to 2^9 as f16.
uint16_t number(uint16_t, size_t i) { return static_cast<uint16_t>(0x2000 + i % 0x4001); }

/// How the tensors of a streamed case lie in memory.
struct Placement {
  bnorm_layout layout;
  size_t offset;           // elements from a line of the cache to the first
  int64_t gap;             // elements between runs
  bool in_place;           // y is x, dx is dy
  int64_t sample_gap = 0;  // elements between samples, beside those
};

/// y, dx and dresidual of one or more samples.
template <class T>
class StreamedOutputs {
 public:
  StreamedOutputs(const std::vector<T>& x, const Placement& placement) : x_(x), placement_(placement) {
    for (std::vector<T>& v : values_) v.assign(x.size() + 64, T(7));
    for (const size_t i : {0, 1})
      if (placement.in_place) std::copy(x.begin(), x.end(), begin(i));
  }
  /// Inference, and backward with given sums, of the samples from element i on.
  void make(const bnorm_desc& desc, size_t i, const std::vector<float>& running, const std::vector<double>& sums) {
    const PlanPointer plan = make_plan(desc);
    const double* const statistics = sums.data() + 1;
    const T *const x = x_.data() + i, *const y = begin(0) + i;
    bnorm_infer_args infer = BNORM_INFER_ARGS_INIT;
    infer.x = placement_.in_place ? y : x;
    infer.y = begin(0) + i;
    infer.running_mean = infer.running_var = running.data();
    infer.executor = BNORM_SERIAL;
    bnorm_backward_args backward = BNORM_BACKWARD_ARGS_INIT;
    backward.x = x;
    backward.dy = placement_.in_place ? begin(1) + i : x;
    backward.dx = begin(1) + i;
    backward.mean = backward.inv_std = statistics;
    backward.executor = BNORM_SERIAL;
    if (desc.residual_added) {
      infer.residual = x;
      backward.y = y;
      backward.dresidual = begin(2) + i;
    }
    REQUIRE(bnorm_infer(plan.get(), &infer) == BNORM_OK);
    REQUIRE(bnorm_backward_apply(plan.get(), &backward, sums.data()) == BNORM_OK);
  }
  /// Same values, those between the outputs included, and nothing before or behind them.
  bool operator==(const StreamedOutputs& b) const {
    for (size_t i = 0; i < 3; ++i)
      if (std::memcmp(begin(i), b.begin(i), x_.size() * sizeof(T)) != 0 || !is_alone(i) || !b.is_alone(i)) return false;
    return true;
  }

 private:
  size_t first(size_t i) const {
    return placement_.offset + (64 - reinterpret_cast<uintptr_t>(values_[i].data()) % 64) % 64 / sizeof(T);
  }
  T* begin(size_t i) { return values_[i].data() + first(i); }
  const T* begin(size_t i) const { return values_[i].data() + first(i); }
  bool is_alone(size_t i) const {
    const auto is_untouched = [](T v) { return v == T(7); };
    const T *const all = values_[i].data(), *const end = begin(i) + x_.size();
    return std::all_of(all, begin(i), is_untouched) && std::all_of(end, all + values_[i].size(), is_untouched);
  }

  const std::vector<T>& x_;
  Placement placement_;
  std::array<std::vector<T>, 3> values_;
};

/// The batch in one call gives what its samples give in calls of their own.
template <class T>
void check_whole_and_samples(bnorm_type type, const Shape& shape, const Placement& placement) {
  bnorm_desc desc = BNORM_DESC_INIT;
  desc.batch = shape.n;
  desc.channels = shape.c;
  desc.spatial = shape.s;
  desc.data_type = type;
  desc.param_type = BNORM_F32;
  const int64_t c = shape.c, s = shape.s, gap = placement.gap;
  desc.x = placement.layout == BNORM_PLANAR ? bnorm_strides{0, c * (s + gap), s + gap, 1}
                                            : bnorm_strides{0, s * (c + gap), 1, c + gap};
  desc.x.n += placement.sample_gap;
  desc.x.g = desc.x.n * shape.n;
  desc.y = desc.residual = desc.dx = desc.dy = desc.dresidual = desc.x;
  const auto sample = static_cast<size_t>(desc.x.n), all = static_cast<size_t>(desc.x.g);
  REQUIRE(static_cast<size_t>(shape.n * c * s) * 2 * sizeof(T) >= size_t{16} << 20);
  std::vector<T> x(all);
  for (size_t i = 0; i < x.size(); ++i) x[i] = number(T(), i);
  std::vector<float> running(static_cast<size_t>(c));
  std::vector<double> sums(static_cast<size_t>(1 + 2 * c), 1000);
  for (size_t i = 0; i < running.size(); ++i) running[i] = 0.75F + 0.03125F * static_cast<float>(i % 19);
  for (size_t i = 1; i < sums.size(); ++i) sums[i] = 0.75 + 0.125 * static_cast<double>(i % 23);
  for (const bnorm_activation activation : {BNORM_IDENTITY, BNORM_RELU, BNORM_LEAKY_RELU})
    for (const bool residual : {false, true}) {
      if (residual && activation != BNORM_RELU) continue;
      desc.residual_added = residual;
      desc.activation = activation;
      StreamedOutputs<T> whole(x, placement), parts(x, placement);
      bnorm_desc one = desc;
      one.batch = 1;
      whole.make(desc, 0, running, sums);
      for (size_t i = 0; i < all; i += sample) parts.make(one, i, running, sums);
      INFO("type ", type, " N ", shape.n, " C ", c, " S ", s, " layout ", static_cast<int>(placement.layout),
           " offset ", placement.offset, " gap ", gap, " sample gap ", placement.sample_gap, " in place ",
           placement.in_place, " activation ", activation, " residual ", residual);
      CHECK(whole == parts);
    }
}

template <class Body>
void each_isa_and_layout(Body body) {
  for (const std::string& isa : isas()) {
    const IsaScope scope(isa);
    for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST}) body(layout);
  }
}

void check_executors(std::initializer_list<Operation> operations) {
  for (const Case& c : large_cases()) {
    const Problem problem(c);
    for (const Operation operation : operations) {
      const Outputs serial = run_serial(problem, operation);
      for (const Executor& executor : std::span(executors()).subspan(1)) {  // the first is serial
        INFO("operation ", static_cast<int>(operation), " executor ", executor.name, ' ', describe(c));
        Outputs out;
        executor.with([&](const bnorm_executor* e) { out = problem.run(operation, e); });
        CHECK(difference(serial, out) == "");
      }
    }
  }
}

}  // namespace

// 16 MB in and out and more: one worker's outputs go around the caches, in whole lines. A sample alone is far smaller.
TEST_CASE("bits: outputs around the caches") {
  each_isa_and_layout([](bnorm_layout layout) {
    check_whole_and_samples<float>(BNORM_F32, {1, 7, 200, 1513}, {layout, 0, 3, true});
    check_whole_and_samples<double>(BNORM_F64, {1, 6, 131, 1513}, {layout, 3, 5, false});
    check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 14, 200, 1513}, {layout, 5, 0, false});
    check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 5360, 16, 49}, {layout, 5, 0, false, 16});
  });
}

TEST_CASE("bits: more outputs around the caches") {
  each_isa_and_layout([](bnorm_layout layout) {
    for (const Shape& shape : {Shape{1, 16, 3, 50101}, Shape{1, 7, 200, 1513}, Shape{1, 9, 64, 3650}})
      for (const size_t offset : {0, 1}) check_whole_and_samples<float>(BNORM_F32, shape, {layout, offset, 0, false});
    check_whole_and_samples<double>(BNORM_F64, {1, 6, 141, 1519}, {layout, 0, 0, true});
    check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 21, 131, 1531}, {layout, 5, 0, false});
    check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 5360, 16, 49}, {layout, 5, 0, false, 24});
    for (const int64_t sample_gap : {16, 24})
      for (const int64_t channels : {16, 17})  // of columns, narrow ones
        check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 28, channels, 9363}, {layout, 5, 0, false, sample_gap});
    check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 9000, 24, 40}, {layout, 5, 0, false, 24});
    // Rows shorter than a strip; of whole lines, apart by some or by parts.
    check_whole_and_samples<float>(BNORM_F32, {1, 9000, 24, 12}, {layout, 1, 0, true});
    check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 14000, 32, 10}, {layout, 5, 0, false});
    check_whole_and_samples<uint16_t>(BNORM_BF16, {1, 2950, 160, 9}, {layout, 5, 0, false});  // of several tiles
    for (const int64_t gap : {0, 16, 17})
      check_whole_and_samples<float>(BNORM_F32, {1, 1100, 32, 64}, {layout, 0, gap, gap == 0});
    for (const bnorm_type type : {BNORM_BF16, BNORM_F16})
      for (const Shape& shape : {Shape{1, 14, 200, 1513}, Shape{1, 30, 96, 1513}})
        for (const size_t offset : {0, 5}) {
          // The types take turns between shapes and offsets.
          if (!options().full && (type == BNORM_BF16) != ((shape.c == 200) == (offset == 0))) continue;
          check_whole_and_samples<uint16_t>(type, shape, {layout, offset, 0, offset == 0});
        }
  });
}

// Rows of 129 positions, 32 MB and more, cut into 32 pieces, some of which begin with the last position of a row: less
// than there is to the next line, and behind it lies another channel's. And one position, cut by channels.
TEST_CASE("bits: pieces of rows, around the caches and of one position") {
  const CustomExecutor executor(Manner::kInOrder, 8);
  for (const Shape& shape : {Shape{1, 33001, 2, 129}, Shape{1, 1, 200001, 1}})
    for (const bnorm_type data : {BNORM_F32, BNORM_BF16}) {
      Case c;
      c.shape = shape;
      c.data = c.output = data;
      const Problem problem(c);
      for (const std::string& isa : isas())
        for (const Operation operation : {Operation::kInfer, Operation::kBackward}) {
          INFO("ISA ", isa, " operation ", static_cast<int>(operation), ' ', describe(c));
          const IsaScope scope(isa);
          CHECK(difference(run_serial(problem, operation), problem.run(operation, executor.get())) == "");
        }
    }
}

TEST_CASE("bits: dresidual around the caches, with and without dx") {
  for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast})
    for (const bnorm_type data : {BNORM_F32, BNORM_BF16}) {
      Case both;
      both.shape = {1, 7, 200, 1513};
      both.layout = layout;
      both.data = data;
      both.residual = true;
      both.activation = BNORM_RELU;
      Case alone = both;
      alone.nulls = kNoDx;
      const Problem with_dx(both), without(alone);
      for (const std::string& isa : isas()) {
        INFO("ISA ", isa, ' ', describe(both));
        const IsaScope scope(isa);
        Outputs all = run_serial(with_dx, Operation::kBackward);
        all.dx.clear();
        CHECK(difference(all, run_serial(without, Operation::kBackward)) == "");
      }
    }
}

TEST_CASE("bits: any executor and number of threads, forward") {
  check_executors({Operation::kInfer, Operation::kPrepared, Operation::kTrain, Operation::kParts});
}

TEST_CASE("bits: any executor and number of threads, backward") {
  check_executors({Operation::kBackward, Operation::kBackwardParts});
}

TEST_CASE("bits: 100 repetitions while other threads keep the machine busy") {
  std::atomic<bool> done{false};
  std::vector<std::thread> load;
  for (int i = 0; i < 4; ++i)
    load.emplace_back([&, i] {  // in short turns that drift apart, so that tasks are interrupted, not starved
      using namespace std::chrono;
      while (!done) {
        const auto end = steady_clock::now() + microseconds(100);
        while (steady_clock::now() < end) {
        }
        std::this_thread::sleep_for(microseconds(100 + 10 * i));
      }
    });
  for (const Case& c : large_cases()) {
    // The shapes take turns between the two layouts, and two by two between the operations.
    if (c.layout != (c.seed / 3 % 2 == 0 ? Layout::kPlanar : Layout::kChannelsLast)) continue;
    const Problem problem(c);
    for (const Operation operation : {Operation::kTrain, Operation::kBackward}) {
      if (!options().full && (operation == Operation::kTrain) != (c.seed / 6 % 2 == 0)) continue;
      const Outputs first = run_serial(problem, operation);
      int64_t different = 0;
      for (int repetition = 0; repetition < 100; ++repetition)
        different += !difference(first, problem.run(operation, nullptr)).empty();
      INFO("operation ", static_cast<int>(operation), ' ', describe(c));
      CHECK(different == 0);
    }
  }
  done = true;
  for (std::thread& t : load) t.join();
}

TEST_CASE("bits: work is in fact shared out") {
  for (const Case& c : large_cases()) {
    INFO(describe(c));
    CustomExecutor executor(Manner::kReverse, 4);
    Problem(c).run(Operation::kTrain, executor.get());
    CHECK(executor.most_tasks() > 1);
  }
}

TEST_CASE("bits: small work runs inline") {
  CustomExecutor executor(Manner::kInOrder, 4);
  Case c;
  c.shape = {1, 4, 8, 9};
  Problem(c).run(Operation::kTrain, executor.get());
  CHECK(executor.loops() == 0);
}

TEST_SUITE("isa") {
  TEST_CASE("bits: every ISA") {
    std::vector<Case> cases = small_cases();
    for (const size_t i : {0, 2, 4}) {  // coefficients that L1 does not hold, in f32, f64 and bf16
      cases.push_back(cases[i]);
      cases.back().shape = {1, 5, 2050, 2};
      cases.back().layout = Layout::kChannelsLast;
    }
    for (const Case& c : cases) {
      const Problem problem(c);
      for (const Operation operation : kAll) {
        Outputs first;
        for (const std::string& isa : isas()) {
          INFO("ISA ", isa, " operation ", static_cast<int>(operation), ' ', describe(c));
          const IsaScope scope(isa);
          const Outputs out = run_serial(problem, operation);
          if (isa == isas().front())
            first = out;
          else
            CHECK(difference(first, out) == "");
        }
      }
    }
  }

  TEST_CASE("bits: whole calls and their parts") {
    for (Case c : small_cases())
      for (const bool frozen : {false, true}) {
        if (frozen && c.renorm) continue;
        c.frozen = frozen;
        check_same(c, c, Operation::kInfer, Operation::kPrepared);
        check_same(c, c, Operation::kTrain, Operation::kParts);
        check_same(c, c, Operation::kBackward, Operation::kBackwardParts);
      }
  }
}

TEST_CASE("bits: in place and out of place") {
  for (const Case& c : small_cases())
    for (const Layout layout : {Layout::kPlanar, Layout::kChannelsLast, Layout::kSlices, Layout::kPermuted}) {
      Case a = c, b = c;
      a.layout = b.layout = layout;
      b.in_place = true;
      for (const Operation operation : kAll) check_same(a, b, operation, operation);
      // The other partner of the output.
      ++a.seed, ++b.seed;
      for (const Operation operation : kAll) check_same(a, b, operation, operation);
    }
}

TEST_CASE("bits: any alignment") {
  for (const Case& c : small_cases()) {
    if (c.shape.elements() > 700) continue;
    for (const Operation operation : kAll) {
      const Outputs aligned = run_serial(Problem(c), operation);
      for (size_t elements = 1; elements * size_of(c.data) < 64; ++elements) {
        Case moved = c;
        moved.misalignment = elements;
        INFO("operation ", static_cast<int>(operation), ' ', describe(moved));
        CHECK(difference(aligned, run_serial(Problem(moved), operation)) == "");
      }
    }
  }
}

TEST_CASE("bits: any strides") {
  std::vector<Case> cases = small_cases();
  const Shape shapes[] = {{1, 5, 2050, 1}, {1, 1030, 3, 1},  {1, 6, 1500, 4},  {1, 65, 16, 16},
                          {1, 1, 4100, 9}, {2, 130, 140, 8}, {1, 12, 15, 196}, {1, 3, 2050, 7}};
  for (size_t i = 0; i < 8; ++i) {  // with each type, without and with a residual
    cases.push_back(cases[i]);
    cases.back().shape = shapes[i];
  }
  for (const Case& c : cases)
    for (const Operation operation : kAll) {
      const Outputs planar = run_serial(Problem(c), operation);
      for (int layout = 1; layout < kLayouts; ++layout)
        for (uint64_t plus = 0; plus < (static_cast<Layout>(layout) >= Layout::kReversed ? 3 : 1); ++plus) {
          Case other = c;
          other.layout = static_cast<Layout>(layout);
          Problem problem(other);
          if (plus > 0) {
            other.seed += plus;  // other strides, the same values
            const Inputs same = problem.inputs();
            problem = Problem(other);
            problem.inputs() = same;
          }
          INFO("operation ", static_cast<int>(operation), ' ', describe(other));
          CHECK(difference(planar, run_serial(problem, operation)) == "");
        }
    }
}

// More than L2 holds, where rows that adjoin are mapped as one: in all tensors, or not in some of them.
TEST_CASE("bits: samples apart in some tensors") {
  const std::vector<Case> cases = small_cases();
  for (const Shape& shape : {Shape{1, 9000, 3, 4}, Shape{1, 3000, 20, 3}})
    for (size_t i = 0; i < 8; ++i) {  // each type, without and with a residual
      Case c = cases[i];
      c.shape = shape;
      const Problem planar(c);
      std::vector<Problem> apart;
      for (const uint64_t seed : {0, 1, 2, 3}) {
        c.layout = Layout::kApart;
        c.seed = seed;
        apart.emplace_back(c).inputs() = planar.inputs();
      }
      for (const Operation operation : kAll) {
        const Outputs expected = run_serial(planar, operation);
        for (const Problem& problem : apart) {
          INFO("operation ", static_cast<int>(operation), ' ', describe(problem.config()));
          CHECK(difference(expected, run_serial(problem, operation)) == "");
        }
      }
    }
}

TEST_CASE("bits: planar runs of any length, near 0 and far from it") {
  for (const int64_t s : {9, 16, 17, 48, 64, 65, 128, 196, 256, 257}) {  // around the strip, the quad, the short run
    Case c;
    c.shape = {1, 1100 / s + 2, 35, s};  // two blocks, whose border may lie in a sample
    c.far = 1000;
    c.seed = static_cast<uint64_t>(s);
    for (const bnorm_activation activation : {BNORM_IDENTITY, BNORM_RELU, BNORM_CLIP, BNORM_LEAKY_RELU})
      for (const bool residual : {false, true}) {
        c.activation = activation;
        c.residual = residual;
        check_channels_last(c);
      }
    c.activation = BNORM_IDENTITY;
    for (const bnorm_type data : {BNORM_F64, BNORM_BF16, BNORM_F16}) {
      c.data = c.output = data;
      check_channels_last(c);
    }
  }
}

// 16 MB of x and more: reductions fetch what comes next.
TEST_CASE("bits: reductions of data beyond the caches") {
  for (const Shape& shape : {Shape{1, 7, 48, 12500}, Shape{1, 7, 200, 3013}}) {
    Case c;
    c.shape = shape;
    check_channels_last(c);
  }
}

// Fetching ahead makes no address of a stride of samples that the call does not have: sanitizers would tell.
TEST_CASE("bits: one sample of a plan whose samples are far apart") {
  const std::vector<double> x(17, 3), running(x.size(), 0.75);
  bnorm_desc desc = BNORM_DESC_INIT;
  desc.data_type = desc.param_type = BNORM_F64;
  desc.batch = 1;
  desc.channels = static_cast<int64_t>(x.size());
  const auto infer = [&] {
    std::vector<double> y(x.size());
    bnorm_infer_args args = BNORM_INFER_ARGS_INIT;
    args.batch = 1;
    args.x = x.data();
    args.y = y.data();
    args.running_mean = args.running_var = running.data();
    args.executor = BNORM_SERIAL;
    REQUIRE(bnorm_infer(make_plan(desc).get(), &args) == BNORM_OK);
    return y;
  };
  const std::vector<double> expected = infer();
  desc.batch = 2;
  desc.x = desc.y = {0, INT64_C(1) << 57, 1, 1};
  for (const std::string& isa : isas()) {
    INFO("ISA ", isa);
    const IsaScope scope(isa);
    CHECK((infer() == expected));
  }
}

TEST_CASE("bits: a partial batch and a plan of its own") {
  for (const Case& c : small_cases()) {
    Case larger = c;
    larger.batch = c.shape.n;
    larger.shape.n = 3 * c.shape.n + 1;
    for (const Operation operation : kAll) check_same(c, larger, operation, operation);
  }
}

}  // namespace bnorm_tests::test_bits
