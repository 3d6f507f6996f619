/* bnorm over MPI: an exchange (bnorm_exchange, bnorm.h) from a communicator. Header only, C99; any MPI.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *   MPI_Comm_size(comm, &ranks);
 *   size_t count = bnorm_plan_exchange_count(plan, ranks);
 *   double* buffer = malloc(count * sizeof(double));  // must succeed on every rank: others wait
 *   bnorm_exchange exchange = bnorm_mpi_exchange(&comm, buffer, count);
 *   args.exchange = &exchange;
 *   bnorm_train(plan, &args);
 *
 * One MPI_Allgather a call, of 1 + bnorm_plan_partials_count doubles a rank. MPI's default error handler ends the
 * processes: with MPI_ERRORS_RETURN on the communicator a failure becomes BNORM_EXECUTION_FAILED instead. What MPI
 * asks of threads is the caller's to see to: the call communicates from the thread that makes it.
 */
#ifndef BNORM_MPI_H
#define BNORM_MPI_H

#include <bnorm/bnorm.h>
#include <limits.h>
#include <mpi.h>

#ifdef __cplusplus
extern "C" {
#endif

/** bnorm_exchange.allgather of a communicator; `context` is an MPI_Comm*. */
static inline int32_t bnorm_mpi_allgather(void* context, const double* sent, double* received, int64_t count) {
  const MPI_Comm comm = *(const MPI_Comm*)context;
  if (count > INT_MAX) return MPI_ERR_COUNT;
  return MPI_Allgather((void*)sent, (int)count, MPI_DOUBLE, received, (int)count, MPI_DOUBLE, comm);
}

/** The exchange of all ranks of an intracommunicator; `ranks` is 0, which calls refuse, for any other and if MPI does
 *  not tell their number.
 *  A rank whose exchange is refused sends nothing, so the others wait: to be checked before the first call.
 *  @param comm    must outlive the exchange; best one of bnorm's own (MPI_Comm_dup)
 *  @param buffer  `count` doubles, at least bnorm_plan_exchange_count of the plan; used by one call at a time */
static inline bnorm_exchange bnorm_mpi_exchange(MPI_Comm* comm, double* buffer, size_t count) {
  bnorm_exchange exchange = BNORM_EXCHANGE_INIT;
  int ranks = 0, inter = 0;
  if (MPI_Comm_test_inter(*comm, &inter) != MPI_SUCCESS || inter || MPI_Comm_size(*comm, &ranks) != MPI_SUCCESS)
    ranks = 0;
  exchange.ranks = ranks;
  exchange.context = comm;
  exchange.allgather = bnorm_mpi_allgather;
  exchange.buffer = buffer;
  exchange.buffer_count = (int64_t)count;
  return exchange;
}

#ifdef __cplusplus
}
#endif
#endif /* BNORM_MPI_H */
