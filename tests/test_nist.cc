// SPDX-License-Identifier: Apache-2.0
// The nine univariate sets of NIST's Statistical Reference Datasets, in f64 and in f32.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "exact.hh"
#include "isas.hh"
#include "plan.hh"

namespace bnorm_tests::test_nist {
namespace {

struct DataSet {
  std::string name;
  double mean, std;  // certified, to 15 digits; std with n - 1
  std::vector<double> values;
};

std::vector<double> read(const char* name) {
  std::ifstream file(std::filesystem::path(__FILE__).parent_path() / "nist" / name);
  std::vector<double> r;
  for (double v = 0; file >> v;) r.push_back(v);
  return r;
}

/// first, then 500 times below and above.
std::vector<double> alternating(double first, double below, double above) {
  std::vector<double> r = {first};
  for (int i = 0; i < 500; ++i) r.insert(r.end(), {below, above});
  return r;
}

/// arctan(1 / x) * unit.
Integer arctan(int x, const Integer& unit) {
  Integer sum = 0, power = unit / x;
  for (int k = 1; power != 0; k += 2, power /= x * x) sum += (k % 4 == 1 ? 1 : -1) * (power / k);
  return sum;
}

/// 5000 digits of pi by Machin's formula, but for the one in which the data set differs.
std::vector<double> digits_of_pi() {
  const Integer unit = pow(Integer(10), 5020);
  const std::string text = Integer(4 * (4 * arctan(5, unit) - arctan(239, unit))).str();
  std::vector<double> r;
  for (size_t i = 0; i < 5000; ++i) r.push_back(text[i] - '0');
  CHECK(r[956] == 8);
  r[956] = 3;
  return r;
}

std::vector<DataSet> data_sets() {
  return {{"Lew", -177.435000000000, 277.332168044316, read("lew.txt")},
          {"Lottery", 518.958715596330, 291.699727470969, read("lottery.txt")},
          {"Mavro", 2.00185600000000, 0.000429123454003053, read("mavro.txt")},
          {"Michelso", 299.852400000000, 0.0790105478190518, read("michelso.txt")},
          {"NumAcc1", 10000002, 1, {10000001, 10000003, 10000002}},
          {"NumAcc2", 1.2, 0.1, alternating(1.2, 1.1, 1.3)},
          {"NumAcc3", 1000000.2, 0.1, alternating(1000000.2, 1000000.1, 1000000.3)},
          {"NumAcc4", 10000000.2, 0.1, alternating(10000000.2, 10000000.1, 10000000.3)},
          {"PiDigits", 4.53480000000000, 2.86733906028871, digits_of_pi()}};
}

template <class T>
struct MeanAndVar {
  T mean, var;  // var with n - 1
};

/// As running statistics of T that take the whole of the new batch.
template <class T>
MeanAndVar<T> statistics(const std::vector<T>& x, bnorm_layout layout) {
  bnorm_desc desc = BNORM_DESC_INIT;
  desc.data_type = desc.param_type = sizeof(T) == 8 ? BNORM_F64 : BNORM_F32;
  desc.batch = desc.channels = 1;
  (layout == BNORM_PLANAR ? desc.spatial : desc.batch) = static_cast<int64_t>(x.size());
  REQUIRE(bnorm_desc_set_layout(&desc, layout) == BNORM_OK);
  const PlanPointer plan = make_plan(desc);
  std::vector<T> y(x.size());
  MeanAndVar<T> r{};
  bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
  a.x = x.data();
  a.y = y.data();
  a.running_mean = &r.mean;
  a.running_var = &r.var;
  a.average_factor = 1;
  REQUIRE(bnorm_train(plan.get(), &a) == BNORM_OK);
  return r;
}

/// Digits that agree with the certified value, which has 15 of them.
double agreeing_digits(double value, double certified) {
  const double error = std::fabs(value - certified) / std::fabs(certified);
  return error == 0 ? 15 : std::min(15.0, -std::log10(error));
}

template <class T>
ExactMoments<T> exact_moments(const std::vector<T>& x) {
  ExactMoments<T> r;
  for (const T v : x) r.add(v);
  return r;
}

template <class T>
Rational unbiased_var(const ExactMoments<T>& m) {
  return m.var() * m.count() / (m.count() - 1);
}

}  // namespace

TEST_SUITE("isa") {
  TEST_CASE("NIST: f64 statistics have every digit that the rounded inputs have") {
    for (const DataSet& set : data_sets()) {
      const ExactMoments<double> exact = exact_moments(set.values);
      const double exact_mean = exact.mean().convert_to<double>();
      const double exact_std = std::sqrt(unbiased_var(exact).convert_to<double>());
      for (const std::string& isa : isas())
        for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST}) {
          const IsaScope scope(isa);
          INFO(set.name, " on ", isa, " layout ", layout);
          const MeanAndVar<double> r = statistics(set.values, layout);
          CHECK(error_in_ulp(r.mean, exact.mean(), exact.mean()) <= 1);
          CHECK(error_in_ulp(r.var, unbiased_var(exact), unbiased_var(exact)) <= 2);
          CHECK(agreeing_digits(r.mean, set.mean) >= agreeing_digits(exact_mean, set.mean) - 0.1);
          CHECK(agreeing_digits(std::sqrt(r.var), set.std) >= agreeing_digits(exact_std, set.std) - 0.1);
        }
    }
  }

  TEST_CASE("NIST: f32 statistics are within 0.51 ulp of the exact ones of the rounded inputs") {
    for (const DataSet& set : data_sets()) {
      const std::vector<float> x(set.values.begin(), set.values.end());
      const ExactMoments<float> exact = exact_moments(x);
      for (const std::string& isa : isas())
        for (const bnorm_layout layout : {BNORM_PLANAR, BNORM_CHANNELS_LAST}) {
          const IsaScope scope(isa);
          INFO(set.name, " on ", isa, " layout ", layout);
          const MeanAndVar<float> r = statistics(x, layout);
          CHECK(error_in_ulp(r.mean, exact.mean(), exact.mean()) <= 0.51);
          CHECK(error_in_ulp(r.var, unbiased_var(exact), unbiased_var(exact)) <= 0.51);
        }
    }
  }
}

TEST_CASE("NIST: the data sets are whole: their exact statistics agree with the certified ones") {
  // The digits that rounding the inputs to doubles leaves of each std (NumAcc3 and 4 lose most).
  const double std_digits[] = {14, 14, 12, 13, 15, 14, 9, 8, 14};
  const size_t sizes[] = {200, 218, 50, 100, 3, 1001, 1001, 1001, 5000};
  size_t i = 0;
  for (const DataSet& set : data_sets()) {
    INFO(set.name);
    CHECK(set.values.size() == sizes[i]);
    const ExactMoments<double> exact = exact_moments(set.values);
    CHECK(agreeing_digits(exact.mean().convert_to<double>(), set.mean) >= 14);
    CHECK(agreeing_digits(std::sqrt(unbiased_var(exact).convert_to<double>()), set.std) >= std_digits[i++]);
  }
}

}  // namespace bnorm_tests::test_nist
