/* Schedules of the learning rate. */
#include "train/schedule.h"

#include "train/train_options.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

static double part_rate(const bombus_schedule_part *part, int64_t step)
{
    const double *arguments = part->arguments;
    switch (part->kind) {
    case BOMBUS_COSINE_DECAY: {
        double share = fmin((double)step, arguments[1]) / arguments[1];
        return arguments[2] + 0.5 * (1.0 + cos(PI * share)) * (arguments[0] - arguments[2]);
    }
    case BOMBUS_LINEAR_SCHEDULE:
        return arguments[0] + fmin((double)step, arguments[2]) * ((arguments[1] - arguments[0]) / arguments[2]);
    case BOMBUS_EXPONENTIAL_DECAY: return arguments[0] * pow(arguments[1], (double)step);
    case BOMBUS_STEP_DECAY: return arguments[0] * pow(arguments[1], floor((double)step / arguments[2]));
    }
    return arguments[0];
}

double bb_schedule_rate(const bombus_schedule *schedule, double learning_rate, int64_t update)
{
    if (schedule->part_count == 0)
        return learning_rate;
    if (schedule->warmup > 0) {
        /* mlx-lm joins the line to the rest at warmup + 1, so the peak holds for two updates */
        if (update <= schedule->warmup) {
            double peak = schedule->parts[0].arguments[0];
            return schedule->warmup_init + (double)update * ((peak - schedule->warmup_init) / (double)schedule->warmup);
        }
        update -= schedule->warmup + 1;
    }
    int32_t part = 0;
    int64_t begin = 0;
    while (part + 1 < schedule->part_count && update >= schedule->boundaries[part])
        begin = schedule->boundaries[part++];
    return part_rate(&schedule->parts[part], update - begin);
}

static bombus_status check_part(const bombus_schedule_part *part, int32_t index, bombus_error *error)
{
    static const int length_argument[] = {1, 2, -1, 2}; /* which one counts updates */
    if ((int)part->kind < 0 || (int)part->kind >= (int)BB_COUNT(length_argument))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "schedule: kind %d of part %d is not one of the kinds",
                       (int)part->kind, index);
    for (int i = 0; i < 3; i++) {
        bool is_length = i == length_argument[part->kind];
        if (!isfinite(part->arguments[i]) || part->arguments[i] < (is_length ? 1.0 : 0.0))
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "schedule: argument %d of %s is %g, expected %s", i + 1,
                           bb_schedule_names[part->kind], part->arguments[i], is_length ? "at least 1 update" : "a number >= 0");
    }
    return BOMBUS_OK;
}

bombus_status bb_schedule_check(const bombus_schedule *schedule, bombus_error *error)
{
    if (schedule->part_count < 0 || schedule->part_count > BOMBUS_SCHEDULE_PART_LIMIT)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "schedule: %d parts, expected 0 to %d", schedule->part_count,
                       BOMBUS_SCHEDULE_PART_LIMIT);
    if (schedule->warmup < 0 || !isfinite(schedule->warmup_init) || schedule->warmup_init < 0.0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "schedule: warmup %lld from %g, expected numbers >= 0",
                       (long long)schedule->warmup, schedule->warmup_init);
    int64_t last = 0;
    for (int32_t i = 0; i < schedule->part_count; i++) {
        bombus_status status = check_part(&schedule->parts[i], i, error);
        if (status != BOMBUS_OK)
            return status;
        if (i + 1 < schedule->part_count && schedule->boundaries[i] <= last)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "schedule: boundary %lld does not come after %lld",
                           (long long)schedule->boundaries[i], (long long)last);
        last = i + 1 < schedule->part_count ? schedule->boundaries[i] : last;
    }
    return BOMBUS_OK;
}
