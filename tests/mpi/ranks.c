/* SPDX-License-Identifier: Apache-2.0
 * bnorm over a real MPI: every rank makes the same joined batch, normalizes its part with the exchange, and compares
 * with a single process's result on all of it. Whole blocks: to the bit. Then a rank is refused: none hangs. */
#include <bnorm/mpi.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kChannels = 21, kSpatial = 16, kBlock = 64, kSample = kChannels * kSpatial };

static int rank, ranks, failures;

static void expect(int condition, const char* what) {
  if (condition) return;
  ++failures;
  fprintf(stderr, "rank %d of %d: %s: %s\n", rank, ranks, what, bnorm_last_error());
}

/* In [-1, 1), from the index alone. */
static float value(int64_t i, uint32_t stream) {
  uint32_t h = (uint32_t)i * 2654435761u + stream * 40503u;
  h ^= h >> 15;
  h *= 2246822519u;
  h ^= h >> 13;
  return (float)(h >> 8) * 0x1p-23f - 1;
}

typedef struct results {
  double mean[kChannels], inv_std[kChannels];
  float running_mean[kChannels], running_var[kChannels], dscale[kChannels], dshift[kChannels];
  float *y, *dx;
} results;

/* Samples [begin, begin + batch) of x and dy. */
static void step(const bnorm_plan* plan, const float* x, const float* dy, int64_t begin, int64_t batch, results* r,
                 const bnorm_exchange* exchange) {
  bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
  bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
  memset(r->running_mean, 0, sizeof r->running_mean);
  memset(r->running_var, 0, sizeof r->running_var);
  t.batch = batch;
  t.x = x + begin * kSample;
  t.y = r->y + begin * kSample;
  t.mean = r->mean;
  t.inv_std = r->inv_std;
  t.running_mean = r->running_mean;
  t.running_var = r->running_var;
  t.exchange = exchange;
  expect(bnorm_train(plan, &t) == BNORM_OK, "train");
  b.batch = batch;
  b.x = t.x;
  b.dy = dy + begin * kSample;
  b.mean = r->mean;
  b.inv_std = r->inv_std;
  b.dx = r->dx + begin * kSample;
  b.dscale = r->dscale;
  b.dshift = r->dshift;
  b.exchange = exchange;
  expect(bnorm_backward(plan, &b) == BNORM_OK, "backward");
}

static int near(const float* a, const float* b, int64_t count, float most) {
  int64_t i;
  for (i = 0; i < count; ++i)
    if (!(fabsf(a[i] - b[i]) <= most)) return 0;
  return 1;
}

/* Rank r has samples [border(r), border(r + 1)): a block each and the last what is left; or unequal parts, of which of
 * several ranks the second is empty, and from 4 on the last as well. */
static int64_t border(int r, int whole_blocks, int64_t samples) {
  const int64_t parts = ranks < 4 ? ranks : ranks - 1, part = r == 1 && ranks > 1 ? 2 : r;
  if (whole_blocks) return r == ranks ? samples : (int64_t)r * kBlock;
  return part < parts ? samples * part * part / (parts * parts) : samples;
}

static void compare(MPI_Comm* comm, int whole_blocks) {
  const int64_t samples = (int64_t)(ranks - 1) * kBlock + 19;
  const int64_t begin = border(rank, whole_blocks, samples), batch = border(rank + 1, whole_blocks, samples) - begin;
  const size_t bytes = (size_t)(samples * kSample) * sizeof(float);
  float *x = malloc(bytes), *dy = malloc(bytes);
  results one, all;
  bnorm_desc desc = BNORM_DESC_INIT;
  bnorm_plan* plan = NULL;
  bnorm_exchange exchange;
  double* buffer;
  size_t count;
  int64_t i;
  one.y = malloc(bytes);
  one.dx = malloc(bytes);
  all.y = malloc(bytes);
  all.dx = malloc(bytes);
  for (i = 0; i < samples * kSample; ++i) {
    x[i] = 3 + value(i, 1);
    dy[i] = value(i, 2);
  }
  desc.batch = samples;
  desc.channels = kChannels;
  desc.spatial = kSpatial;
  expect(bnorm_plan_create(&plan, &desc, NULL) == BNORM_OK, "plan");
  count = bnorm_plan_exchange_count(plan, ranks);
  buffer = malloc(count * sizeof(double));
  exchange = bnorm_mpi_exchange(comm, buffer, count);
  step(plan, x, dy, 0, samples, &one, NULL);
  step(plan, x, dy, begin, batch, &all, &exchange);
  if (whole_blocks) {
    expect(memcmp(one.mean, all.mean, sizeof one.mean) == 0, "mean differs");
    expect(memcmp(one.inv_std, all.inv_std, sizeof one.inv_std) == 0, "inv_std differs");
    expect(memcmp(one.running_mean, all.running_mean, sizeof one.running_mean) == 0, "running_mean differs");
    expect(memcmp(one.running_var, all.running_var, sizeof one.running_var) == 0, "running_var differs");
    expect(memcmp(one.dscale, all.dscale, sizeof one.dscale) == 0, "dscale differs");
    expect(memcmp(one.dshift, all.dshift, sizeof one.dshift) == 0, "dshift differs");
    expect(memcmp(one.y + begin * kSample, all.y + begin * kSample, (size_t)(batch * kSample) * 4) == 0, "y differs");
    expect(memcmp(one.dx + begin * kSample, all.dx + begin * kSample, (size_t)(batch * kSample) * 4) == 0,
           "dx differs");
  } else {
    expect(near(one.running_mean, all.running_mean, kChannels, 1e-7f), "running_mean is off");
    expect(near(one.running_var, all.running_var, kChannels, 1e-7f), "running_var is off");
    expect(near(one.dscale, all.dscale, kChannels, 3e-5f), "dscale is off");
    expect(near(one.dshift, all.dshift, kChannels, 3e-5f), "dshift is off");
    expect(near(one.y + begin * kSample, all.y + begin * kSample, batch * kSample, 1e-6f), "y is off");
    expect(near(one.dx + begin * kSample, all.dx + begin * kSample, batch * kSample, 1e-6f), "dx is off");
  }
  /* The last rank's calls are refused. */
  {
    bnorm_train_args t = BNORM_TRAIN_ARGS_INIT;
    bnorm_backward_args b = BNORM_BACKWARD_ARGS_INIT;
    bnorm_status expected = rank == ranks - 1 ? BNORM_INVALID_ARGUMENT : BNORM_EXECUTION_FAILED;
    t.batch = batch;
    t.x = x + begin * kSample;
    t.y = all.y + begin * kSample;
    t.average_factor = rank == ranks - 1 ? 2 : 0.5;
    t.exchange = &exchange;
    expect(bnorm_train(plan, &t) == expected, "a refused rank, forward");
    b.batch = batch;
    b.x = t.x;
    b.dy = dy + begin * kSample;
    b.mean = all.mean;
    b.inv_std = all.inv_std;
    b.dx = all.dx + begin * kSample;
    b.reserved = rank == ranks - 1;
    b.exchange = &exchange;
    expect(bnorm_backward(plan, &b) == expected, "a refused rank, backward");
  }
  bnorm_plan_destroy(plan);
  free(buffer);
  free(x);
  free(dy);
  free(one.y);
  free(one.dx);
  free(all.y);
  free(all.dx);
}

/* Even ranks beside odd ones: an allgather brings what the other side sends, so there is no exchange. */
static void refuse_intercommunicator(MPI_Comm comm) {
  MPI_Comm side, inter;
  double buffer[1];
  if (ranks < 2) return;
  MPI_Comm_split(comm, rank % 2, rank, &side);
  MPI_Intercomm_create(side, 0, comm, 1 - rank % 2, 0, &inter);
  expect(bnorm_mpi_exchange(&side, buffer, 1).ranks == (ranks + 1 - rank % 2) / 2, "ranks of a side");
  expect(bnorm_mpi_exchange(&inter, buffer, 1).ranks == 0, "an intercommunicator has no ranks");
  MPI_Comm_free(&inter);
  MPI_Comm_free(&side);
}

int main(int argc, char** argv) {
  MPI_Comm comm;
  int all = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  compare(&comm, 1);
  compare(&comm, 0);
  refuse_intercommunicator(comm);
  MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, comm);
  if (rank == 0) printf("%d ranks, %d failures\n", ranks, all);
  MPI_Comm_free(&comm);
  MPI_Finalize();
  return all != 0;
}
