/* Calls the caller's sums; without a group there is nothing to add. */
#include "train/process_group.h"

bombus_status bb_process_check(const bombus_process_group *group, bombus_error *error)
{
    if (group == NULL)
        return BOMBUS_OK;
    if (group->size < 1 || group->rank < 0 || group->rank >= group->size)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "process_group: rank %d of %d processes", group->rank,
                       group->size);
    if (group->size > 1 && (group->sum_floats == NULL || group->sum_doubles == NULL))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "process_group: sum_floats or sum_doubles is NULL");
    return BOMBUS_OK;
}

static bombus_status report(bool is_done, bombus_error *error)
{
    return is_done ? BOMBUS_OK : bb_fail(error, BOMBUS_ERROR_IO, "the processes of this training lost each other");
}

bombus_status bb_process_sum_floats(const bombus_process_group *group, float *values, size_t count,
                                    bombus_error *error)
{
    return report(bb_process_count(group) == 1 || group->sum_floats(group->context, values, count), error);
}

bombus_status bb_process_sum_doubles(const bombus_process_group *group, double *values, size_t count,
                                     bombus_error *error)
{
    return report(bb_process_count(group) == 1 || group->sum_doubles(group->context, values, count), error);
}

bombus_status bb_process_agree(const bombus_process_group *group, bombus_status status, bool *flag,
                               bombus_error *error)
{
    double signs[2] = {status != BOMBUS_OK, flag != NULL && *flag};
    bombus_status sent = bb_process_sum_doubles(group, signs, BB_COUNT(signs), status == BOMBUS_OK ? error : NULL);
    if (status != BOMBUS_OK)
        return status;
    if (sent != BOMBUS_OK)
        return sent;
    if (signs[0] > 0.0)
        return bb_fail(error, BOMBUS_ERROR_CANCELLED, "another process of this training failed");
    if (flag != NULL)
        *flag = signs[1] > 0.0;
    return BOMBUS_OK;
}
