// SPDX-License-Identifier: Apache-2.0
// Arrays of other libraries: any rank and strides (bnorm_desc_set_array), and DLPack tensors (bnorm/dlpack.h).
#include <bnorm/bnorm.h>
#include <bnorm/dlpack.h>
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "plan.hh"
#include "random.hh"
#include "refusal.hh"

namespace bnorm_tests::test_arrays {
namespace {

void check_strides(const bnorm_strides& t, int64_t n, int64_t c, int64_t s) {
  CHECK(t.n == n);
  CHECK(t.c == c);
  CHECK(t.s == s);
}

void check_geometry(const bnorm_desc& d, int64_t n, int64_t c, int64_t s) {
  CHECK(d.groups == 1);
  CHECK(d.batch == n);
  CHECK(d.channels == c);
  CHECK(d.spatial == s);
}

DLTensor tensor_of(void* data, std::vector<int64_t>& shape, int64_t* strides) {
  DLTensor t = {};
  t.data = data;
  t.device = {kDLCPU, 0};
  t.ndim = static_cast<int>(shape.size());
  t.dtype = {kDLFloat, 32, 1};
  t.shape = shape.data();
  t.strides = strides;
  return t;
}

}  // namespace

TEST_CASE("arrays: shapes and strides of any rank") {
  const int64_t shape[] = {2, 6, 4, 5};
  bnorm_desc d = BNORM_DESC_INIT;
  SUBCASE("channels-last memory behind an NCHW shape") {
    const int64_t strides[] = {120, 1, 30, 6};
    REQUIRE(bnorm_desc_set_array(&d, nullptr, shape, strides, 4, 1) == BNORM_OK);
    check_geometry(d, 2, 6, 20);
    check_strides(d.x, 120, 1, 6);
    check_strides(d.dresidual, 120, 1, 6);
  }
  SUBCASE("a slice of channels, of one tensor alone") {
    REQUIRE(bnorm_desc_set_array(&d, nullptr, shape, nullptr, 4, 1) == BNORM_OK);
    const int64_t strides[] = {400, 20, 5, 1};
    REQUIRE(bnorm_desc_set_array(&d, &d.y, shape, strides, 4, -3) == BNORM_OK);
    check_strides(d.x, 120, 20, 1);
    check_strides(d.y, 400, 20, 1);
  }
  SUBCASE("reversed channels, and axes of size 1 with any stride") {
    const int64_t sizes[] = {3, 1, 6, 1}, strides[] = {6, 77, -1, 99};
    REQUIRE(bnorm_desc_set_array(&d, nullptr, sizes, strides, 4, 2) == BNORM_OK);
    check_geometry(d, 3, 6, 1);
    check_strides(d.x, 6, -1, 1);
  }
  SUBCASE("an empty array") {
    const int64_t sizes[] = {2, 0, 6}, strides[] = {5, 7, 1};
    REQUIRE(bnorm_desc_set_array(&d, nullptr, sizes, strides, 3, 2) == BNORM_OK);
    check_geometry(d, 0, 6, 1);
  }
}

TEST_CASE("arrays: results are those of the packed array") {
  // 5 of 7 channels of 4 x 6 images, 3 of them.
  constexpr int64_t n = 3, c = 5, height = 4, width = 6, all = 7, s = height * width;
  Random random(21);
  std::vector<float> whole = normals<float>(random, n * all * s), packed(static_cast<size_t>(n * c * s));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < c * s; ++j)
      packed[static_cast<size_t>(i * c * s + j)] = whole[static_cast<size_t>((i * all + 1) * s + j)];
  std::vector<int64_t> shape = {n, c, height, width}, strides = {all * s, s, width, 1};
  const auto train = [&](const DLTensor& x) {
    bnorm_desc d = BNORM_DESC_INIT;
    std::vector<float> y(packed.size());
    DLTensor out = tensor_of(y.data(), shape, nullptr);
    REQUIRE(bnorm_desc_set_dlpack(&d, nullptr, &x, 1, nullptr) == BNORM_OK);
    REQUIRE(bnorm_desc_set_dlpack(&d, &d.y, &out, 1, nullptr) == BNORM_OK);
    bnorm_train_args a = BNORM_TRAIN_ARGS_INIT;
    a.x = bnorm_dlpack_data(&x);
    a.y = bnorm_dlpack_data(&out);
    REQUIRE(bnorm_train(make_plan(d).get(), &a) == BNORM_OK);
    return y;
  };
  DLTensor slice = tensor_of(whole.data(), shape, strides.data());
  slice.byte_offset = s * sizeof(float);
  CHECK(train(slice) == train(tensor_of(packed.data(), shape, nullptr)));
}

TEST_CASE("arrays: refusals") {
  const int64_t shape[] = {2, 6, 4, 5};
  bnorm_desc d = BNORM_DESC_INIT;
  REQUIRE(bnorm_desc_set_array(&d, nullptr, shape, nullptr, 4, 1) == BNORM_OK);
  const auto refused = [&](bnorm_strides* tensor, const int64_t* sizes, const int64_t* strides,
                           std::initializer_list<const char*> words) {
    const bnorm_desc before = d;
    check_refusal(bnorm_desc_set_array(&d, tensor, sizes, strides, 4, 1), BNORM_INVALID_ARGUMENT, nullptr, words);
    CHECK(std::memcmp(&d, &before, sizeof d) == 0);
  };
  const int64_t crop[] = {240, 40, 8, 1}, zeros[] = {0, 0, 0, 0}, other[] = {2, 6, 4, 4};
  refused(nullptr, shape, crop, {"strides[2] = 8", "must be 5"});
  const int64_t far[] = {1, 1, INT64_MIN, INT64_C(1) << 62};
  refused(nullptr, shape, far, {"strides[2] = -9223372036854775808", "beyond 64 bits"});
  refused(nullptr, shape, zeros, {"strides", "packed"});
  refused(&d.y, other, nullptr, {"shape", "2, 6, 16", "2, 6, 20"});
  bnorm_strides stranger = {};
  refused(&stranger, shape, nullptr, {"tensor"});
  const int64_t huge[] = {INT64_C(1) << 40, 6, INT64_C(1) << 40, INT64_C(1) << 40};
  refused(nullptr, huge, nullptr, {"shape[2]"});
  d.channel_block = 8;
  refused(nullptr, shape, nullptr, {"channel_block = 8"});
}

TEST_CASE("dlpack: types, devices and what is refused") {
  std::vector<int64_t> shape = {2, 3};
  std::array<float, 6> data = {};
  DLTensor t = tensor_of(data.data(), shape, nullptr);
  bnorm_desc d = BNORM_DESC_INIT;
  bnorm_error error = BNORM_ERROR_INIT;
  const auto set = [&](bnorm_strides* strides) { return bnorm_desc_set_dlpack(&d, strides, &t, -1, &error); };
  const auto is = [&](uint8_t code, uint8_t bits, bnorm_type type) {
    t.dtype = {code, bits, 1};
    CHECK(bnorm_dlpack_type(&t) == type);
    CHECK(set(nullptr) == (type == BNORM_TYPE_DEFAULT ? BNORM_UNSUPPORTED : BNORM_OK));
    if (type != BNORM_TYPE_DEFAULT) CHECK(d.data_type == type);
  };
  is(kDLFloat, 64, BNORM_F64);
  is(kDLFloat, 16, BNORM_F16);
  is(kDLBfloat, 16, BNORM_BF16);
  is(kDLFloat, 8, BNORM_TYPE_DEFAULT);
  is(kDLInt, 32, BNORM_TYPE_DEFAULT);
  CHECK(std::string(error.message).find("dtype") == 0);
  is(kDLFloat, 32, BNORM_F32);
  t.dtype.lanes = 4;
  CHECK(set(nullptr) == BNORM_UNSUPPORTED);
  t.dtype.lanes = 1;
  t.device.device_type = kDLCUDAHost;
  CHECK(set(nullptr) == BNORM_OK);
  const bnorm_desc before = d;
  t.dtype.bits = 16;
  CHECK(set(&d.y) == BNORM_INVALID_ARGUMENT);
  t.dtype.bits = 32;
  t.device.device_type = kDLCUDA;
  CHECK(set(nullptr) == BNORM_UNSUPPORTED);
  CHECK(std::string(error.message).find("device") == 0);
  t.device.device_type = kDLCPU;
  shape[0] = -1;
  CHECK(set(nullptr) == BNORM_INVALID_ARGUMENT);
  CHECK(std::string(error.message).find("shape[0] = -1") == 0);
  CHECK(std::memcmp(&d, &before, sizeof d) == 0);
  shape[0] = 2;
  d.output_type = BNORM_F16;
  t.dtype.bits = 16;
  CHECK(set(&d.y) == BNORM_OK);
  CHECK(set(&d.dx) == BNORM_INVALID_ARGUMENT);
}

TEST_CASE("dlpack: nothing given") {
  std::vector<int64_t> shape = {0, 3};
  DLTensor t = tensor_of(nullptr, shape, nullptr);
  t.byte_offset = 64;
  CHECK(bnorm_dlpack_data(&t) == nullptr);
  bnorm_desc d = BNORM_DESC_INIT;
  bnorm_error error = BNORM_ERROR_INIT;
  CHECK(bnorm_desc_set_dlpack(nullptr, nullptr, &t, 1, &error) == BNORM_INVALID_ARGUMENT);
  CHECK(std::string(error.message) == "desc = NULL: must be given");
  CHECK(bnorm_desc_set_dlpack(&d, nullptr, nullptr, 1, &error) == BNORM_INVALID_ARGUMENT);
  CHECK(std::string(error.message) == "tensor = NULL: must be given");
  bnorm_error small = BNORM_ERROR_INIT;
  small.struct_size = sizeof small - 1;
  CHECK(bnorm_desc_set_dlpack(&d, nullptr, nullptr, 1, &small) == BNORM_INVALID_ARGUMENT);
  CHECK(std::string(small.message).empty());
  CHECK(bnorm_desc_set_dlpack(&d, nullptr, &t, 1, &error) == BNORM_OK);
}

}  // namespace bnorm_tests::test_arrays
