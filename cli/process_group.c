/* Sums by MPI: to the first process and from there to all, so that every one has the same bits. */
#include "cli/process_group.h"

#include "base/compiler.h"
#include "base/error.h"
#include "cli/environment.h"

#if HAVE_MPI
#include <mpi.h>

enum { PIECE = 1 << 24 }; /* entries a call: MPI counts in int */

static bool sum(void *values, size_t count, size_t size, MPI_Datatype type)
{
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (size_t done = 0; done < count; done += PIECE) {
        char *piece = (char *)values + done * size;
        int length = (int)(count - done < PIECE ? count - done : PIECE);
        if (MPI_Reduce(rank == 0 ? MPI_IN_PLACE : piece, piece, length, type, MPI_SUM, 0, MPI_COMM_WORLD) != MPI_SUCCESS ||
            MPI_Bcast(piece, length, type, 0, MPI_COMM_WORLD) != MPI_SUCCESS)
            return false;
    }
    return true;
}

static bool sum_floats(void *context, float *values, size_t count)
{
    (void)context;
    return sum(values, count, sizeof *values, MPI_FLOAT);
}

static bool sum_doubles(void *context, double *values, size_t count)
{
    (void)context;
    return sum(values, count, sizeof *values, MPI_DOUBLE);
}

bombus_status process_group_open(bombus_process_group *group, bombus_error *error)
{
    int rank = 0, size = 1, support; /* the training has threads, and this one alone calls MPI */
    *group = (bombus_process_group){.size = 1};
    if (environment_process_count() <= 1)
        return BOMBUS_OK;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &support) != MPI_SUCCESS || support < MPI_THREAD_FUNNELED)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "MPI could not be started");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    *group = (bombus_process_group){.rank = rank, .size = size, .sum_floats = sum_floats, .sum_doubles = sum_doubles};
    return BOMBUS_OK;
}

void process_group_close(void)
{
    int is_running = 0;
    MPI_Initialized(&is_running);
    if (!is_running)
        return;
    MPI_Barrier(MPI_COMM_WORLD); /* mpirun ends the others as soon as one has failed: each must have said what it has to say */
    MPI_Finalize();
}

#else

bombus_status process_group_open(bombus_process_group *group, bombus_error *error)
{
    *group = (bombus_process_group){.size = 1};
    if (environment_process_count() > 1)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "started as one of %d processes of MPI, which this bombus was built without (install "
                       "libopenmpi-dev and build again)",
                       (int)environment_process_count());
    return BOMBUS_OK;
}

void process_group_close(void)
{
}

#endif

bombus_status process_group_agree(const bombus_process_group *group, bombus_status status, bombus_error *error)
{
    double failures = status != BOMBUS_OK;
    if (group->size > 1 && !group->sum_doubles(group->context, &failures, 1) && status == BOMBUS_OK)
        return bb_fail(error, BOMBUS_ERROR_IO, "the processes of this training lost each other");
    if (failures > 0.0 && status == BOMBUS_OK)
        return bb_fail(error, BOMBUS_ERROR_CANCELLED, "another process of this training failed");
    return status;
}
