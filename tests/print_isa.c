/* SPDX-License-Identifier: Apache-2.0
 * Prints the instruction set that bnorm chooses here. */
#include <bnorm/bnorm.h>
#include <stdio.h>

int main(void) {
  puts(bnorm_isa());
  return 0;
}
