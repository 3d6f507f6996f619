/* SPDX-License-Identifier: Apache-2.0
 * The optional headers in strict C99, and through optional.cc in C++: it is enough that this compiles. */
#include <bnorm/dlpack.h>
#include <bnorm/mpi.h>

bnorm_status bnorm_describe_image(bnorm_desc* desc, const DLTensor* image);
bnorm_status bnorm_describe_image(bnorm_desc* desc, const DLTensor* image) {
  bnorm_error error = BNORM_ERROR_INIT;
  if (!bnorm_dlpack_data(image)) return BNORM_INVALID_ARGUMENT;
  return bnorm_desc_set_dlpack(desc, NULL, image, 1, &error);
}

bnorm_exchange bnorm_exchange_of(MPI_Comm* comm, double* buffer, size_t count);
bnorm_exchange bnorm_exchange_of(MPI_Comm* comm, double* buffer, size_t count) {
  return bnorm_mpi_exchange(comm, buffer, count);
}
