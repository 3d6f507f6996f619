/* SPDX-License-Identifier: Apache-2.0
 * What an interpreter does: opens the library, calls it on its default threads, closes it, and goes on. The threads
 * that the call has left behind must not notice. */
#include <bnorm/bnorm.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef bnorm_status (*train_f32)(int64_t batch, int64_t channels, int64_t spatial, const float* x, float* y,
                                  const float* scale, const float* shift, double* mean, double* inv_std,
                                  float* running_mean, float* running_var, double epsilon, double average_factor);

enum { BATCH = 64, CHANNELS = 64, SPATIAL = 64 };

int main(int argc, char** argv) {
  float* const x = calloc(BATCH * CHANNELS * SPATIAL, sizeof *x);
  int round, call;
  if (argc != 2 || x == NULL) return 2;
  for (round = 0; round < 20; ++round) {
    void* const library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    void* const symbol = library == NULL ? NULL : dlsym(library, "bnorm_train_f32");
    train_f32 train;
    if (symbol == NULL) {
      printf("%s\n", dlerror());
      return 1;
    }
    memcpy(&train, &symbol, sizeof train); /* ISO C has no cast from data to function pointers */
    for (call = 0; call < 20; ++call)
      if (train(BATCH, CHANNELS, SPATIAL, x, x, NULL, NULL, NULL, NULL, NULL, NULL, 1e-5, 0.1) != BNORM_OK) return 1;
    if (dlclose(library) != 0) return 1;
    usleep(10000); /* time for idle threads to wake and fall */
  }
  free(x);
  return 0;
}
