/* What happened in a training so far: for its log, and for its report. */
#ifndef CLI_TRAIN_HISTORY_H
#define CLI_TRAIN_HISTORY_H

#include "bombus.h"

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

struct train_point {
    int64_t iteration;
    double loss, learning_rate, tokens_per_second, seconds;
};

struct train_points {
    struct train_point *items;
    size_t count, capacity;
};

struct train_sample {
    int64_t iteration;
    char *prompt, *text;
};

struct train_history {
    struct train_points train, validation;
    struct train_sample *samples;
    size_t sample_count, sample_capacity;
    FILE *log; /* NULL: none */
};

void train_history_clear(struct train_history *history); /* a zeroed one too */

/* Keeps reports, evaluations and samples. */
void train_history_add(struct train_history *history, const bombus_train_event *event);

/* Opens the log. Of a run that goes on at `iteration` the lines up to there stay and are read into the history; a new run's log is empty. */
bombus_status train_history_open_log(struct train_history *history, const char *path, int64_t iteration, bombus_error *error);

/* A report's or an evaluation's line, as programs read it; NULL for other events. */
json_t *train_history_line(const bombus_train_event *event);
/* Writes it to the log, if one is open and the event has a line. BOMBUS_ERROR_IO where the disk is full. */
bombus_status train_history_log(struct train_history *history, const bombus_train_event *event, bombus_error *error);

#endif
