#include "floor.hh"

#include <benchmark/benchmark.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <memory>

#include "warm_up.hh"

namespace bnorm_bench {
namespace {

// Parts and chunks end on pages, so that threads share no line and no page of a non-temporal store.
constexpr size_t kPageBytes = 4096;
// The second pass goes backwards in chunks well below any L2, forwards inside: the part of a tile that the first pass
// left in cache is read before it is evicted, and prefetchers still see rising addresses.
constexpr size_t kChunkBytes = 64 * 1024;

const TwinTable& widest_twin() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return twin_avx512;
  if (__builtin_cpu_supports("avx2")) return twin_avx2;
#endif
  return twin_generic;
}

/// Splits [begin, end) into one part per thread; calls part(first, last) of each.
template <class Part>
void in_parts(int threads, size_t begin, size_t end, const Part& part) {
  if (threads == 1) return part(begin, end);
  const size_t pages = (end - begin + kPageBytes - 1) / kPageBytes;
  const size_t step = (pages + static_cast<size_t>(threads) - 1) / static_cast<size_t>(threads) * kPageBytes;
  tbb::parallel_for(
      0, threads,
      [&](int i) {
        const size_t first = std::min(end, begin + static_cast<size_t>(i) * step);
        const size_t last = std::min(end, first + step);
        if (first < last) part(first, last);
      },
      tbb::static_partitioner());
}

class Twin {
 public:
  Twin(const Traffic& traffic, int threads, bool streaming, bool fetching)
      : traffic_(traffic),
        threads_(threads),
        loops_(fetching ? widest_twin().fetching : widest_twin().plain),
        write_(streaming ? loops_.stream : loops_.write),
        twice_(traffic.reads == 2) {}

  void call(const Tensors& tensors) const {
    move_parameters();
    if (tensors.outs == 0) {
      read(tensors, 0, traffic_.tensor_bytes, threads_);
    } else if (twice_) {
      const size_t tile = (traffic_.tile_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
      for (size_t begin = 0; begin < traffic_.tensor_bytes; begin += tile) {
        visit_twice(tensors, begin, std::min(traffic_.tensor_bytes, begin + tile));
      }
    } else {
      in_parts(threads_, 0, traffic_.tensor_bytes, [&](size_t first, size_t last) { write_(tensors, first, last); });
    }
  }

 private:
  void read(const Tensors& tensors, size_t begin, size_t end, int threads) const {
    in_parts(threads, begin, end,
             [&](size_t first, size_t last) { benchmark::DoNotOptimize(loops_.read(tensors, first, last)); });
  }

  void move_parameters() const {
    // Weights and masks, which are of many positions, are shared out as tensors are.
    const int threads = traffic_.parameter_bytes < kChunkBytes ? 1 : threads_;
    read({{traffic_.parameters}, 1, {}, 0}, 0, traffic_.parameter_bytes, threads);
    if (traffic_.statistics_bytes > 0) loops_.write({{}, 0, {traffic_.statistics}, 1}, 0, traffic_.statistics_bytes);
  }

  void visit_twice(const Tensors& tensors, size_t begin, size_t end) const {
    Tensors first_pass = tensors;
    first_pass.ins = traffic_.first_pass_ins;
    read(first_pass, begin, end, threads_);
    in_parts(threads_, begin, end, [&](size_t first, size_t last) {
      for (size_t chunks = (last - first + kChunkBytes - 1) / kChunkBytes; chunks-- > 0;) {
        const size_t from = first + chunks * kChunkBytes;
        write_(tensors, from, std::min(last, from + kChunkBytes));
      }
    });
  }

  const Traffic& traffic_;
  int threads_;
  const TwinLoops& loops_;
  void (*write_)(const Tensors&, size_t, size_t);
  bool twice_;
};

FloorVariant make_variant(const Traffic& traffic, int threads, bool streaming, bool fetching) {
  const auto twin = std::make_shared<Twin>(traffic, threads, streaming, fetching);
  const auto loop = [twin, &traffic](benchmark::State& state) {
    const auto call_next = [&] { twin->call(traffic.sets[traffic.turns->next()]); };
    warm_up(call_next);
    for (auto _ : state) call_next();
  };
  const std::string name = std::to_string(threads) + (threads == 1 ? " thread" : " threads") +
                           (streaming ? ", non-temporal" : ", regular") + (fetching ? ", fetching ahead" : "");
  if (threads == 1) return {name, loop};
  const auto arena = std::make_shared<tbb::task_arena>(threads);
  return {name, [arena, loop](benchmark::State& state) { arena->execute([&] { loop(state); }); }};
}

}  // namespace

size_t cache_bytes(int level) {
  for (const auto& cache : benchmark::CPUInfo::Get().caches) {
    if (cache.type != "Instruction" && cache.level == level) return static_cast<size_t>(cache.size);
  }
  return 0;
}

size_t last_level_cache_bytes() {
  for (int level = 4; level > 0; --level) {
    if (const size_t bytes = cache_bytes(level); bytes > 0) return bytes;
  }
  return size_t{32} << 20;  // a system that tells nothing: a common size
}

int64_t working_set_bytes(const Traffic& traffic) {
  const Tensors& set = traffic.sets.front();
  return int64_t{set.ins + set.outs} * static_cast<int64_t>(traffic.tensor_bytes) +
         static_cast<int64_t>(traffic.parameter_bytes + traffic.statistics_bytes);
}

int64_t floor_bytes(const Traffic& traffic) {
  const int64_t read_again = traffic.reads == 2 ? traffic.first_pass_ins : 0;
  return working_set_bytes(traffic) + read_again * static_cast<int64_t>(traffic.tensor_bytes);
}

std::vector<FloorVariant> floor_variants(const Traffic& traffic, int threads) {
  std::vector<FloorVariant> variants;
  const size_t bytes = static_cast<size_t>(working_set_bytes(traffic)) * traffic.sets.size();
  for (int t = 1; t <= threads; t = t < threads ? std::min(2 * t, threads) : threads + 1) {
    for (const bool streaming : {false, true}) {
      if (streaming && widest_twin().plain.stream == nullptr) continue;
      variants.push_back(make_variant(traffic, t, streaming, false));
      // In cache, fetching what is there already is only slower.
      if (bytes > cache_bytes(2)) variants.push_back(make_variant(traffic, t, streaming, true));
    }
  }
  return variants;
}

}  // namespace bnorm_bench
