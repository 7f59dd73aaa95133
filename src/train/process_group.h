/* Sums over the processes that train together, and their agreement on going on. A NULL group is this process alone. */
#ifndef BB_PROCESS_GROUP_H
#define BB_PROCESS_GROUP_H

#include "base/error.h"

#include <stdbool.h>

static inline int32_t bb_process_rank(const bombus_process_group *group)
{
    return group != NULL ? group->rank : 0;
}

static inline int32_t bb_process_count(const bombus_process_group *group)
{
    return group != NULL && group->size > 1 ? group->size : 1;
}

BB_RESULT bombus_status bb_process_check(const bombus_process_group *group, bombus_error *error);
BB_RESULT bombus_status bb_process_sum_floats(const bombus_process_group *group, float *values, size_t count,
                                              bombus_error *error);
BB_RESULT bombus_status bb_process_sum_doubles(const bombus_process_group *group, double *values, size_t count,
                                               bombus_error *error);

/* All processes call it at the same places. `status` is this one's so far, with its *error: it is handed back where it is a failure; BOMBUS_OK
 * becomes BOMBUS_ERROR_CANCELLED where another process failed. *flag (may be NULL) becomes true everywhere if it is true anywhere. */
BB_RESULT bombus_status bb_process_agree(const bombus_process_group *group, bombus_status status, bool *flag,
                                         bombus_error *error);

#endif
