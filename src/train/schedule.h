/* The learning rate by update, as mlx.optimizers' schedules give it. */
#ifndef BB_SCHEDULE_H
#define BB_SCHEDULE_H

#include "base/error.h"

/* Names the wrong field: a part's argument out of its range, boundaries that do not ascend. */
BB_RESULT bombus_status bb_schedule_check(const bombus_schedule *schedule, bombus_error *error);

/* Of update `update` (from 0); `learning_rate` where the schedule has no parts. */
double bb_schedule_rate(const bombus_schedule *schedule, double learning_rate, int64_t update);

#endif
