/* SPDX-License-Identifier: Apache-2.0
 * What a user's first program may look like: large enough to reach the default threads, so that a static link without
 * oneTBB fails here. */
#include <bnorm/bnorm.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 64, CHANNELS = 32, SPATIAL = 64, COUNT = BATCH * CHANNELS * SPATIAL };

int main(void) {
  double mean[CHANNELS], inv_std[CHANNELS];
  float* const x = malloc(COUNT * sizeof *x);
  float* const y = malloc(COUNT * sizeof *y);
  int i, wrong = 0;
  if (x == NULL || y == NULL) return 2;
  for (i = 0; i < COUNT; ++i) x[i] = (float)(i % 2) * 2.0f + 4.0f; /* 4, 6, 4, 6: mean 5, var 1 */
  if (bnorm_train_f32(BATCH, CHANNELS, SPATIAL, x, y, NULL, NULL, mean, inv_std, NULL, NULL, 0.0, 0.1) != BNORM_OK) {
    printf("%s\n", bnorm_last_error());
    return 1;
  }
  for (i = 0; i < CHANNELS; ++i) wrong += mean[i] != 5.0 || inv_std[i] != 1.0;
  for (i = 0; i < COUNT; ++i) wrong += y[i] != x[i] - 5.0f;
  printf("bnorm %ld on %s: %d wrong\n", (long)bnorm_version(), bnorm_isa(), wrong);
  free(x);
  free(y);
  return wrong > 0;
}
