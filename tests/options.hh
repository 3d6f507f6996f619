// SPDX-License-Identifier: Apache-2.0
// Switches of the test program.
#pragma once

namespace bnorm_tests {

struct Options {
  bool full = false;           // --long: full grids in place of pairwise-covering ones
  bool write_digests = false;  // --write-digests: write tests/digests.txt in place of comparing with it
};
Options& options();

}  // namespace bnorm_tests
