/* From sums over the elements of matrices to shares. */
#include "convert/fuse_report.h"

#include <math.h>

/* 1 where there is no change that could be lost. */
static double survival_of(double error, double delta)
{
    return delta > 0.0 ? fmax(0.0, 1.0 - error / delta) : 1.0;
}

void bb_fuse_report_add(struct bb_fuse_report *report, struct bb_fuse_result *result, const struct bb_fuse_sums *sums)
{
    report->error_sum += sums->error;
    report->delta_sum += sums->delta;
    report->survival = survival_of(report->error_sum, report->delta_sum);
    result->survival = survival_of(sums->error, sums->delta);
    result->projection = sums->delta > 0.0 ? sums->product / sums->delta : 1.0;
    result->relative = sums->weight > 0.0 ? sqrt(sums->delta / sums->weight) : 0.0;
}

void bb_fuse_report_clear(struct bb_fuse_report *report)
{
    bb_arena_clear(&report->arena);
    *report = (struct bb_fuse_report){0};
}
