// SPDX-License-Identifier: Apache-2.0
// Buffers whose surroundings tell when something outside them was touched.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

namespace bnorm_tests {

/// Where a buffer lies: between guard bytes on the heap, or against a page that must not be touched.
enum class Placement { kHeap, kPageEnd, kPageStart };

/// Byte that fills the position `i` of a buffer that nobody has written yet.
inline unsigned char pattern(size_t i) { return static_cast<unsigned char>(0xA5u ^ (i * 37u)); }

/// Mapped pages between two unmapped runs of 16 pages; kept for reuse, since mapping costs more than most test calls.
class PageRegion {
 public:
  static unsigned char* take(size_t capacity) {
    std::vector<unsigned char*>& free = pool()[capacity];
    if (!free.empty()) {
      unsigned char* const p = free.back();
      free.pop_back();
      return p;
    }
    void* const all = mmap(nullptr, capacity + 2 * fence(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) std::abort();
    unsigned char* const p = static_cast<unsigned char*>(all) + fence();
    if (mprotect(p, capacity, PROT_READ | PROT_WRITE) != 0) std::abort();
    return p;
  }
  static void give_back(unsigned char* p, size_t capacity) { pool()[capacity].push_back(p); }

 private:
  static size_t fence() { return 16 * static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
  static std::map<size_t, std::vector<unsigned char*>>& pool() {
    static thread_local std::map<size_t, std::vector<unsigned char*>> regions;
    return regions;
  }
};

/// One buffer, filled with the pattern.
class Memory {
 public:
  Memory(size_t bytes, Placement placement, size_t misalignment = 0) : size_(bytes) {
    if (placement == Placement::kHeap) {
      heap_.resize(bytes + misalignment + 2 * kGuard + kAlignment);
      const size_t address = reinterpret_cast<uintptr_t>(heap_.data()) + kGuard;
      front_ = kGuard + (kAlignment - address % kAlignment) % kAlignment + misalignment;
      for (size_t i = 0; i < heap_.size(); ++i) heap_[i] = pattern(i - front_);
      return;
    }
    capacity_ = 65536;
    while (capacity_ < bytes) capacity_ *= 2;
    region_ = PageRegion::take(capacity_);
    page_data_ = placement == Placement::kPageStart ? region_ : region_ + (capacity_ - bytes);
    for (size_t i = 0; i < bytes; ++i) page_data_[i] = pattern(i);
  }
  Memory(Memory&& o) noexcept { *this = std::move(o); }
  Memory& operator=(Memory&& o) noexcept {
    std::swap(heap_, o.heap_);
    std::swap(front_, o.front_);
    std::swap(size_, o.size_);
    std::swap(region_, o.region_);
    std::swap(page_data_, o.page_data_);
    std::swap(capacity_, o.capacity_);
    return *this;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (region_ != nullptr) PageRegion::give_back(region_, capacity_);
  }

  unsigned char* data() { return region_ != nullptr ? page_data_ : heap_.data() + front_; }
  const unsigned char* data() const { return const_cast<Memory*>(this)->data(); }
  size_t size() const { return size_; }
  bool holds_pattern(size_t i) const { return data()[i] == pattern(i); }

  /// Whether the guard bytes around a heap buffer are as they were.
  bool surroundings_intact() const {
    return holds_pattern_between(0, front_) && holds_pattern_between(front_ + size_, heap_.size());
  }

 private:
  static constexpr size_t kGuard = 256, kAlignment = 64;

  bool holds_pattern_between(size_t first, size_t end) const {
    for (size_t i = first; i < std::min(end, heap_.size()); ++i)
      if (heap_[i] != pattern(i - front_)) return false;
    return true;
  }

  std::vector<unsigned char> heap_;
  size_t front_ = 0, size_ = 0;
  unsigned char* region_ = nullptr;
  unsigned char* page_data_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace bnorm_tests
