/* The processes that mpirun started together, by MPI where it is built in. The only place that knows MPI. */
#ifndef CLI_PROCESS_GROUP_H
#define CLI_PROCESS_GROUP_H

#include "bombus.h"

/* *group: size 1 (and no functions) where this process was not started by mpirun. BOMBUS_ERROR_UNSUPPORTED where it was and MPI is not built in. */
bombus_status process_group_open(bombus_process_group *group, bombus_error *error);
/* is_done: all processes come here. Otherwise the others are ended too, since they would wait for this one. */
void process_group_close(const bombus_process_group *group, bool is_done);

#endif
