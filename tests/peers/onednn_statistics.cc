// The batch statistics of oneDNN: reads f32 values [batch][channels][height][width] from its input and writes the means
// of the channels and then their variances, as f32.
//   onednn_statistics BATCH CHANNELS HEIGHT WIDTH nchw|nhwc|nChw16c
//   onednn_statistics --version
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <unordered_map>

namespace {

using dnnl::memory;

memory::format_tag tag_of(const std::string& format) {
  const std::unordered_map<std::string, memory::format_tag> tags = {
      {"nchw", memory::format_tag::nchw}, {"nhwc", memory::format_tag::nhwc}, {"nChw16c", memory::format_tag::nChw16c}};
  const auto found = tags.find(format);
  if (found == tags.end()) throw std::invalid_argument("unknown format '" + format + "'");
  return found->second;
}

size_t elements(const memory& memory) { return memory.get_desc().get_size() / sizeof(float); }

void read(const memory& planar) {
  if (std::fread(planar.get_data_handle(), sizeof(float), elements(planar), stdin) != elements(planar)) {
    throw std::runtime_error("the input has fewer values than the sizes name");
  }
}

void write(const memory& values) {
  if (std::fwrite(values.get_data_handle(), sizeof(float), elements(values), stdout) != elements(values)) {
    throw std::runtime_error("cannot write");
  }
}

void print_version() {
  const auto* version = dnnl::version();
  std::cout << version->major << '.' << version->minor << '.' << version->patch << '\n';
}

void print_statistics(const memory::dims& dims, const std::string& format) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc data(dims, memory::data_type::f32, tag_of(format));
  const memory::desc channels({dims[1]}, memory::data_type::f32, memory::format_tag::x);
  memory planar({dims, memory::data_type::f32, memory::format_tag::nchw}, engine);
  memory x(data, engine);
  const memory y(data, engine);
  const memory mean(channels, engine);
  const memory variance(channels, engine);
  read(planar);
  dnnl::reorder(planar, x).execute(stream, planar, x);
  const auto training = dnnl::prop_kind::forward_training;
  const auto flags = dnnl::normalization_flags::none;
#if DNNL_VERSION_MAJOR < 3
  const dnnl::batch_normalization_forward::primitive_desc forward(
      dnnl::batch_normalization_forward::desc(training, data, 1e-5F, flags), engine);
#else
  const dnnl::batch_normalization_forward::primitive_desc forward(engine, training, data, data, 1e-5F, flags);
#endif
  dnnl::batch_normalization_forward(forward).execute(
      stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}, {DNNL_ARG_MEAN, mean}, {DNNL_ARG_VARIANCE, variance}});
  stream.wait();
  write(mean);
  write(variance);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 2 && std::string(argv[1]) == "--version") {
    print_version();
  } else if (argc == 6) {
    print_statistics({std::stoll(argv[1]), std::stoll(argv[2]), std::stoll(argv[3]), std::stoll(argv[4])}, argv[5]);
  } else {
    throw std::invalid_argument("usage: onednn_statistics BATCH CHANNELS HEIGHT WIDTH nchw|nhwc|nChw16c");
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "onednn_statistics: " << error.what() << '\n';
  return 1;
}
