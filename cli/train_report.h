/* The report of a training: one HTML file that needs nothing else. */
#ifndef CLI_TRAIN_REPORT_H
#define CLI_TRAIN_REPORT_H

#include "cli/train_history.h"

/* What stands beside the curves. */
struct train_report {
    const char *path;
    const char *model, *device;
    const bombus_train_options *options; /* with all defaults filled in */
    int64_t parameter_count, example_count;
    const char *state; /* "running", "finished", ... */
    int64_t iteration, best_iteration;
    double best_loss, seconds;
};

/* Writes the file, atomically. */
bombus_status train_report_write(const struct train_report *report, const struct train_history *history, bombus_error *error);

#endif
