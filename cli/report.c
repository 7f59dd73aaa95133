/* Lines and the progress bar on standard error. */
#include "cli/report.h"

#include "cli/clock.h"
#include "cli/interrupt.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int report_error(const bombus_error *error)
{
    fflush(stdout); /* what was answered so far stands before the error */
    if (error->line > 0)
        fprintf(stderr, "bombus: line %d, column %d: %s\n", (int)error->line, (int)error->column, error->message);
    else
        fprintf(stderr, "bombus: %s\n", error->message);
    return error->status == BOMBUS_ERROR_ARGUMENT ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
}

int report_usage(const struct command *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "bombus %s: ", command->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nbombus %s --help tells the options\n", command->name);
    va_end(arguments);
    return EXIT_CODE_USAGE;
}

void report_message(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

void *report_if_null(void *memory)
{
    if (memory == NULL) {
        fputs("bombus: out of memory\n", stderr);
        exit(EXIT_CODE_FAILED);
    }
    return memory;
}

struct report_size report_bytes(double bytes)
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000.0 && unit + 1 < BB_COUNT(units)) {
        bytes /= 1000.0;
        unit++;
    }
    struct report_size size;
    snprintf(size.text, sizeof size.text, unit == 0 || bytes >= 100.0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return size;
}

static void draw(const struct report_progress *progress, double now)
{
    uint64_t done = 0, total = 0;
    for (size_t i = 0; i < progress->file_count; i++) {
        done += progress->files[i].done_bytes;
        total += progress->files[i].total_bytes;
    }
    double seconds = now - progress->start_seconds;
    double speed =
        seconds > 0.0 && done > progress->start_bytes ? (double)(done - progress->start_bytes) / seconds : 0.0;
    char bar[31];
    size_t filled = total > 0 ? (size_t)((double)done / (double)total * 30.0) : 0;
    for (size_t i = 0; i < 30; i++)
        bar[i] = i < filled ? '=' : ' ';
    bar[30] = '\0';
    fprintf(stderr, "\r[%s] %s of %s, %s/s", bar, report_bytes((double)done).text, report_bytes((double)total).text,
            report_bytes(speed).text);
    if (speed > 0.0 && total >= done) {
        unsigned left = (unsigned)((double)(total - done) / speed);
        fprintf(stderr, ", %u:%02u left", left / 60, left % 60);
    }
    fputs("\033[K", stderr);
}

bool report_download(void *context, const char *file, uint64_t done_bytes, uint64_t total_bytes)
{
    struct report_progress *progress = context;
    if (interrupt_is_pending())
        return false;
    if (!isatty(STDERR_FILENO))
        return true;
    double now = clock_seconds();
    if (*file == '\0') { /* waiting for the network */
        if (progress->file_count > 0 && now - progress->drawn_seconds > 0.5)
            draw(progress, progress->drawn_seconds = now);
        return true;
    }
    size_t i = 0;
    while (i < progress->file_count && strncmp(progress->files[i].name, file, sizeof progress->files[i].name - 1) != 0)
        i++;
    if (i == BB_COUNT(progress->files))
        return true; /* so many files: the bar tells of the first ones */
    if (i == progress->file_count) {
        snprintf(progress->files[i].name, sizeof progress->files[i].name, "%s", file);
        if (progress->file_count++ == 0)
            progress->start_seconds = now;
        progress->start_bytes += done_bytes;
    }
    progress->files[i].done_bytes = done_bytes;
    progress->files[i].total_bytes = total_bytes;
    if (now - progress->drawn_seconds > 0.1) {
        draw(progress, now);
        progress->drawn_seconds = now;
    }
    return true;
}

void report_download_end(struct report_progress *progress)
{
    if (progress->file_count == 0)
        return;
    draw(progress, clock_seconds());
    fputc('\n', stderr);
}
