/* Points of the curves, and their lines of JSON. */
#include "cli/train_history.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/clock.h"
#include "cli/json_output.h"
#include "cli/report.h"
#include "cli/text_input.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static void add_point(struct train_points *points, const struct train_point *point)
{
    if (points->count == points->capacity) {
        points->capacity = points->capacity > 0 ? points->capacity * 2 : 64;
        points->items = report_if_null(bb_resize(points->items, points->capacity, sizeof *points->items));
    }
    points->items[points->count++] = *point;
}

static char *copy(const char *text)
{
    return report_if_null(bb_copy_text(text, strlen(text)));
}

static void add_sample(struct train_history *history, const bombus_train_event *event)
{
    if (history->sample_count == history->sample_capacity) {
        history->sample_capacity = history->sample_capacity > 0 ? history->sample_capacity * 2 : 16;
        history->samples =
            report_if_null(bb_resize(history->samples, history->sample_capacity, sizeof *history->samples));
    }
    history->samples[history->sample_count++] =
        (struct train_sample){event->iteration, copy(event->prompt), copy(event->text)};
}

void train_history_add(struct train_history *history, const bombus_train_event *event)
{
    struct train_point point = {.iteration = event->iteration,
                                .loss = event->loss,
                                .learning_rate = event->learning_rate,
                                .tokens_per_second = event->tokens_per_second,
                                .seconds = event->seconds};
    if (event->type == BOMBUS_TRAIN_REPORT)
        add_point(&history->train, &point);
    else if (event->type == BOMBUS_TRAIN_VALIDATION)
        add_point(&history->validation, &point);
    else if (event->type == BOMBUS_TRAIN_SAMPLE)
        add_sample(history, event);
}

void train_history_clear(struct train_history *history)
{
    for (size_t i = 0; i < history->sample_count; i++) {
        bb_release(history->samples[i].prompt);
        bb_release(history->samples[i].text);
    }
    bb_release(history->samples);
    bb_release(history->train.items);
    bb_release(history->validation.items);
    if (history->log != NULL)
        fclose(history->log);
    *history = (struct train_history){0};
}

/* ---- the log ---- */

json_t *train_history_line(const bombus_train_event *event)
{
    json_t *line = NULL;
    switch (event->type) {
    case BOMBUS_TRAIN_REPORT:
        line = report_if_null(json_pack("{s:s, s:I}", "type", "train", "iter", (json_int_t)event->iteration));
        json_object_set_new(line, "loss", json_output_number(event->loss));
        json_object_set_new(line, "learning_rate", json_output_number(event->learning_rate));
        json_object_set_new(line, "tokens_per_second", json_output_number(event->tokens_per_second));
        json_object_set_new(line, "iterations_per_second", json_output_number(event->iterations_per_second));
        json_object_set_new(line, "trained_tokens", json_integer(event->trained_tokens));
        json_object_set_new(line, "peak_memory_bytes", json_integer(clock_peak_memory_bytes()));
        break;
    case BOMBUS_TRAIN_VALIDATION:
    case BOMBUS_TRAIN_TEST:
        line = report_if_null(json_pack("{s:s, s:I}", "type",
                                        event->type == BOMBUS_TRAIN_TEST ? "test" : "validation", "iter",
                                        (json_int_t)event->iteration));
        json_object_set_new(line, "loss", json_output_number(event->loss));
        json_object_set_new(line, "seconds", json_output_number(event->seconds));
        break;
    default: break;
    }
    return line;
}

bombus_status train_history_log(struct train_history *history, const bombus_train_event *event, bombus_error *error)
{
    json_t *line = history->log != NULL ? train_history_line(event) : NULL;
    if (line == NULL)
        return BOMBUS_OK;
    bool is_written = json_dumpf(line, history->log, JSON_COMPACT) == 0 && fputc('\n', history->log) != EOF &&
                      fflush(history->log) == 0;
    json_decref(line);
    return is_written ? BOMBUS_OK : bb_fail_io(error, errno, "cannot write", "--log");
}

/* What is no number was written as null. */
static double number_in(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

/* A line of an earlier part of the run; false: of what comes again, or none of ours. */
static bool read_line(struct train_history *history, const char *text, size_t length, int64_t iteration)
{
    json_t *line = json_loadb(text, length, 0, NULL);
    const char *type = json_string_value(json_object_get(line, "type"));
    struct train_point point = {.iteration = json_integer_value(json_object_get(line, "iter")),
                                .loss = number_in(line, "loss"),
                                .learning_rate = number_in(line, "learning_rate"),
                                .tokens_per_second = number_in(line, "tokens_per_second"),
                                .seconds = number_in(line, "seconds")};
    bool is_kept = type != NULL && point.iteration <= iteration;
    if (is_kept && strcmp(type, "train") == 0)
        add_point(&history->train, &point);
    else if (is_kept && strcmp(type, "validation") == 0)
        add_point(&history->validation, &point);
    json_decref(line);
    return is_kept;
}

bombus_status train_history_open_log(struct train_history *history, const char *path, int64_t iteration, bombus_error *error)
{
    struct bb_buffer line = {0}, kept = {0};
    FILE *old = iteration > 0 ? fopen(path, "r") : NULL;
    while (old != NULL && text_input_line(&line, old)) {
        if (line.length == 0 || !read_line(history, line.data, line.length, iteration))
            continue;
        bb_buffer_add(&kept, line.data, line.length);
        bb_buffer_add_byte(&kept, '\n');
    }
    if (old != NULL)
        fclose(old);
    if (kept.is_failed || line.is_failed)
        report_if_null(NULL);
    bombus_status status = bb_file_write(path, kept.data != NULL ? kept.data : "", kept.length, error);
    bb_buffer_clear(&line);
    bb_buffer_clear(&kept);
    if (status != BOMBUS_OK)
        return status;
    history->log = fopen(path, "a");
    return history->log != NULL ? BOMBUS_OK : bb_fail_io(error, errno, "cannot write", path);
}
