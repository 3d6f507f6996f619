// SPDX-License-Identifier: Apache-2.0
#include "dispatch.hh"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace bnorm {
namespace {

struct Cpu {
  bool sse42 = false, avx2 = false, avx512 = false, neon64 = false;
};

#if defined(__x86_64__)
// The registers that the operating system saves on a task switch (XCR0); a CPU feature without it is of no use.
unsigned long long saved_registers() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

Cpu detect() {
  Cpu cpu;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return cpu;
  cpu.sse42 = (c & bit_SSE4_2) != 0;
  const bool has_xgetbv = (c & bit_OSXSAVE) != 0 && (c & bit_AVX) != 0;
  const bool has_fma = (c & bit_FMA) != 0, has_f16 = (c & bit_F16C) != 0;
  if (!has_xgetbv || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return cpu;
  const unsigned long long xcr0 = saved_registers();
  const bool saves_ymm = (xcr0 & 0x6) == 0x6, saves_zmm = (xcr0 & 0xe6) == 0xe6;
  cpu.avx2 = saves_ymm && has_fma && has_f16 && (b & bit_AVX2) != 0;
  const unsigned wanted = bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL;
  cpu.avx512 = cpu.avx2 && saves_zmm && (b & wanted) == wanted;
  return cpu;
}
#elif defined(__aarch64__)
Cpu detect() {
  Cpu cpu;
  cpu.neon64 = true;  // part of the base architecture
  return cpu;
}
#else
Cpu detect() { return {}; }
#endif

struct Candidate {
  const char* name;
  const KernelTable* table;  // NULL: not in this build, or not on this CPU
};

#define BNORM_IF_0(table) nullptr
#define BNORM_IF_1(table) &table
#define BNORM_IF_(have, table) BNORM_IF_##have(table)
#define BNORM_IF(have, table) BNORM_IF_(have, table)

const auto& candidates() {
  static const auto all = [] {
    const Cpu cpu = detect();
    (void)cpu;
    return std::to_array<Candidate>({
#define BNORM_ISA_X(name, has) {#name, (has) ? BNORM_IF(BNORM_HAVE_##name, kernels_##name) : nullptr},
#include "isa_list.inc"
#undef BNORM_ISA_X
    });
  }();
  return all;
}

}  // namespace

const KernelTable* select_kernels(const char** asked) {
  const char* const name = std::getenv("BNORM_ISA");
  if (asked) *asked = name;
  const bool any = name == nullptr || *name == '\0';
  for (const Candidate& c : candidates())
    if (c.table && (any || std::strcmp(c.name, name) == 0)) return c.table;
  return nullptr;
}

void list_isas(char* buffer, size_t bytes) {
  size_t used = 0;
  for (const Candidate& c : candidates())
    if (c.table && used < bytes)
      used += static_cast<size_t>(std::snprintf(buffer + used, bytes - used, "%s%s", used > 0 ? ", " : "", c.name));
}

}  // namespace bnorm
