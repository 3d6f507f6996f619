// SPDX-License-Identifier: Apache-2.0
// doctest's main, with two switches of ours: --long runs the full grids, --write-digests rewrites digests.txt.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstring>

#include "options.hh"

namespace bnorm_tests {
Options& options() {
  static Options all;
  return all;
}
}  // namespace bnorm_tests

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--long") == 0) bnorm_tests::options().full = true;
    if (std::strcmp(argv[i], "--write-digests") == 0) bnorm_tests::options().write_digests = true;
  }
  return doctest::Context(argc, argv).run();
}
