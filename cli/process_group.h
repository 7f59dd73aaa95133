/* The processes that mpirun started together, by MPI where it is built in. The only place that knows MPI. */
#ifndef CLI_PROCESS_GROUP_H
#define CLI_PROCESS_GROUP_H

#include "bombus.h"

/* *group: size 1 (and no functions) where this process was not started by mpirun. BOMBUS_ERROR_UNSUPPORTED where it was and MPI is not built in. */
bombus_status process_group_open(bombus_process_group *group, bombus_error *error);
/* What failed in one process before training fails in all: where another one failed, BOMBUS_OK becomes BOMBUS_ERROR_CANCELLED. */
bombus_status process_group_agree(const bombus_process_group *group, bombus_status status, bombus_error *error);
/* All processes come here. */
void process_group_close(void);

#endif
